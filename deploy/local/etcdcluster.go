package local

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"go.uber.org/zap"
)

// EtcdClusterConfig says what an etcd cluster of several members consists of.
// All fields are required.
type EtcdClusterConfig struct {
	Binary  string // an executable whose command `etcd-member` runs StartEtcd, and obeys StallDisk and ResumeDisk
	Dir     string
	Members int
}

// EtcdCluster is an etcd cluster whose members are processes of their own, so
// that each can be killed, stopped and restarted.
type EtcdCluster struct {
	Members []*EtcdProcess
}

// EtcdProcess is one member. After a Kill it can be started again.
type EtcdProcess struct {
	*Process
	Name   string
	binary string
	args   []string
	port   int
	log    *serverLog
}

// StartEtcdCluster starts all members and returns when they have a leader. The
// context bounds only the start.
func StartEtcdCluster(ctx context.Context, cfg EtcdClusterConfig) (*EtcdCluster, error) {
	c := &EtcdCluster{}
	if err := c.plan(cfg); err != nil {
		return nil, fmt.Errorf("start etcd cluster: %w", err)
	}
	for _, m := range c.Members {
		if err := m.Start(); err != nil {
			c.Stop()
			return nil, fmt.Errorf("start etcd cluster: %w", err)
		}
	}
	if _, err := c.AwaitLeader(ctx); err != nil {
		c.Stop()
		return nil, c.Members[0].log.explain(fmt.Errorf("start etcd cluster: %w", err))
	}
	return c, nil
}

// plan gives each member its folder, ports and arguments.
func (c *EtcdCluster) plan(cfg EtcdClusterConfig) error {
	type ports struct{ client, peer int }
	var cluster []string
	planned := make([]ports, cfg.Members)
	for i := range planned {
		var errs [2]error
		planned[i].client, errs[0] = FreePort()
		planned[i].peer, errs[1] = FreePort()
		if err := errors.Join(errs[:]...); err != nil {
			return err
		}
		cluster = append(cluster, fmt.Sprintf("etcd-%d=http://%s", i+1, hostPort(planned[i].peer)))
	}
	for i, p := range planned {
		name := fmt.Sprintf("etcd-%d", i+1)
		dir := filepath.Join(cfg.Dir, name)
		if err := os.MkdirAll(dir, 0o755); err != nil {
			return err
		}
		log, err := openLog(filepath.Join(dir, "output.log"))
		if err != nil {
			return err
		}
		c.Members = append(c.Members, &EtcdProcess{
			Name: name, binary: cfg.Binary, port: p.client, log: log,
			args: []string{
				"etcd-member", "--name", name, "--dir", dir, "--client-port", fmt.Sprint(p.client),
				"--peer-port", fmt.Sprint(p.peer), "--cluster", strings.Join(cluster, ","),
			},
		})
	}
	return nil
}

// Start starts the member, for the first time or after its end.
func (m *EtcdProcess) Start() (err error) {
	m.Process, err = StartProcess(ProcessConfig{Name: m.Name, Path: m.binary, Args: m.args, Log: m.log})
	return err
}

// The signals that stall a member's disk and let it go on.
const (
	StallDisk  = syscall.SIGUSR1
	ResumeDisk = syscall.SIGUSR2
)

// Endpoint is the member's client address, "127.0.0.1:port".
func (m *EtcdProcess) Endpoint() string { return hostPort(m.port) }

// Endpoints are the client addresses of all members.
func (c *EtcdCluster) Endpoints() []string {
	endpoints := make([]string, len(c.Members))
	for i, m := range c.Members {
		endpoints[i] = m.Endpoint()
	}
	return endpoints
}

// AwaitLeader returns the member that leads, as soon as one does.
func (c *EtcdCluster) AwaitLeader(ctx context.Context) (*EtcdProcess, error) {
	client, err := clientv3.New(clientv3.Config{Endpoints: c.Endpoints(), Logger: zap.NewNop()})
	if err != nil {
		return nil, err
	}
	defer func() { _ = client.Close() }()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for {
		for _, m := range c.Members {
			askCtx, cancel := context.WithTimeout(ctx, 500*time.Millisecond)
			status, err := client.Status(askCtx, m.Endpoint())
			cancel()
			if err == nil && status.Leader == status.Header.MemberId {
				return m, nil
			}
		}
		select {
		case <-ctx.Done():
			return nil, fmt.Errorf("no leader: %w", context.Cause(ctx))
		case <-tick.C:
		}
	}
}

// Stop ends all members.
func (c *EtcdCluster) Stop() {
	for _, m := range c.Members {
		if m.Process != nil {
			_ = m.Kill()
		}
		_ = m.log.close()
	}
}
