package main

import (
	"context"
	"os"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"go.uber.org/zap"

	"github.com/holdfast-io/holdfast/deploy/local"
)

// A disk that stalls is worse than a crash: nobody elects another leader, and
// whoever asks this one waits. The fault that stalls a disk must really do that.
func TestLeaderWithStalledDiskAnswersNobodyAndLeadsOn(t *testing.T) {
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	cluster, err := local.StartEtcdCluster(ctx, local.EtcdClusterConfig{Binary: self, Dir: t.TempDir(), Members: 3})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(cluster.Stop)
	leader := leaderOf(ctx, t, cluster)
	if err := leader.Signal(local.StallDisk); err != nil {
		t.Fatal(err)
	}
	for putThrough(ctx, t, leader, time.Second) == nil { // until the signal has arrived
		t.Log("answered")
	}
	for _, m := range cluster.Members {
		if m == leader {
			continue
		}
		if err := putThrough(ctx, t, m, 30*time.Second); err != nil {
			t.Errorf("through %s: %v", m.Name, err)
		}
	}
	if now := leaderOf(ctx, t, cluster); now != leader {
		t.Errorf("%s leads, it was %s", now.Name, leader.Name)
	}
	if err := leader.Signal(local.ResumeDisk); err != nil {
		t.Fatal(err)
	}
	if err := putThrough(ctx, t, leader, 30*time.Second); err != nil {
		t.Errorf("after the disk went on: %v", err)
	}
}

func leaderOf(ctx context.Context, t *testing.T, c *local.EtcdCluster) *local.EtcdProcess {
	t.Helper()
	leader, err := c.AwaitLeader(ctx)
	if err != nil {
		t.Fatal(err)
	}
	return leader
}

// putThrough writes through one member alone.
func putThrough(ctx context.Context, t *testing.T, m *local.EtcdProcess, timeout time.Duration) error {
	t.Helper()
	client, err := clientv3.New(clientv3.Config{Endpoints: []string{m.Endpoint()}, Logger: zap.NewNop()})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = client.Close() }()
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	_, err = client.Put(ctx, "key", "value")
	return err
}
