package cluster_test

import (
	"context"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/holdfast-io/holdfast/api/cluster"
)

// A worker that left in good order must not cost callers an attempt.
func TestWorkerIsGoneWhenItStops(t *testing.T) {
	d := directory(t)
	initialise(t, d)
	w := watch(t, d)
	stop := register(t, d, cluster.Worker{Name: "w1", Instance: "i1", Address: "127.0.0.1:1"})
	view := w.until("w1 is there", has("w1", "127.0.0.1:1"))
	if got := view.Workers[0].Instance; got != "i1" {
		t.Errorf("instance %q, want i1", got)
	}
	asked := time.Now()
	stop()
	if _, err := d.Client.Get(t.Context(), d.Prefix+"cluster/workers/w1", clientv3.WithCountOnly()); err != nil {
		t.Fatal(err)
	}
	if view, err := d.View(t.Context()); err != nil || !has("w1", "")(view) {
		t.Errorf("after Register has returned: %+v, %v", view, err)
	}
	if took := time.Since(asked); took > 900*time.Millisecond {
		t.Errorf("took %v: that may have been the lease's end", took)
	}
}

// A lease is lost when etcd was away for longer than its TTL.
func TestWorkerComesBackAfterItsLeaseWasLost(t *testing.T) {
	d := directory(t)
	initialise(t, d)
	w := watch(t, d)
	register(t, d, cluster.Worker{Name: "w1", Address: "127.0.0.1:1"})
	for range 2 {
		w.until("w1 is there", has("w1", "127.0.0.1:1"))
		resp, err := d.Client.Get(t.Context(), d.Prefix+"cluster/workers/w1")
		if err != nil || len(resp.Kvs) != 1 {
			t.Fatal(resp, err)
		}
		if _, err := d.Client.Revoke(t.Context(), clientv3.LeaseID(resp.Kvs[0].Lease)); err != nil {
			t.Fatal(err)
		}
		w.until("w1 is gone", has("w1", ""))
	}
	w.until("w1 is back", has("w1", "127.0.0.1:1"))
}

// A worker that was killed and comes back at another address is the same one,
// and what the dead one left must not take its entry away.
func TestWorkerThatComesBackReplacesItsAddress(t *testing.T) {
	d := directory(t)
	initialise(t, d)
	w := watch(t, d)
	stopOld := register(t, d, cluster.Worker{Name: "w1", Instance: "old", Address: "127.0.0.1:1"})
	w.until("the old one is there", has("w1", "127.0.0.1:1"))
	register(t, d, cluster.Worker{Name: "w1", Instance: "new", Address: "127.0.0.1:2"})
	w.until("the new one is there", has("w1", "127.0.0.1:2"))
	stopOld()
	view, err := d.View(t.Context())
	if err != nil || len(view.Workers) != 1 || view.Workers[0].Instance != "new" {
		t.Errorf("after the old one has left: %+v, %v", view, err)
	}
}

// A worker may start before etcd does, and stop while etcd is away.
func TestWorkerWithoutEtcdGoesOnTryingUntilItStops(t *testing.T) {
	t.Parallel()
	e := startEtcd(t)
	d := cluster.Directory{Client: e.client, Prefix: "/holdfast/"}
	e.Stop()
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	failures := make(chan error)
	ended := make(chan error, 1)
	go func() {
		ended <- d.Register(ctx, cluster.Worker{Name: "w1"}, time.Second, func(err error) { failures <- err })
	}()
	for range 2 {
		select {
		case err := <-failures:
			t.Log(err)
		case <-time.After(patience):
			t.Fatal("no failure was told")
		}
	}
	cancel()
	select {
	case <-ended: //nolint:errcheck // ctx's error, which is not the point
	case err := <-failures:
		t.Fatalf("told after the end: %v", err)
	case <-time.After(patience):
		t.Fatal("Register goes on after its context has ended")
	}
}
