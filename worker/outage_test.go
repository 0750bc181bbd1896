package worker

import (
	"context"
	"fmt"
	"net"
	"strconv"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"go.uber.org/zap"

	"github.com/holdfast-io/holdfast/api/cluster"
	holdfastv1 "github.com/holdfast-io/holdfast/api/holdfast/v1"
	"github.com/holdfast-io/holdfast/deploy/local"
	"github.com/holdfast-io/holdfast/deploy/local/localtest"
)

// mortalEtcd is an etcd of a test's own, which can be away for a while.
type mortalEtcd struct {
	dir  string
	port int
	*local.Etcd
}

func startMortalEtcd(t *testing.T) *mortalEtcd {
	t.Helper()
	e := &mortalEtcd{dir: t.TempDir()}
	e.start(t)
	_, port, err := net.SplitHostPort(e.Endpoint())
	if err != nil {
		t.Fatal(err)
	}
	if e.port, err = strconv.Atoi(port); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { e.Stop() })
	return e
}

func (e *mortalEtcd) start(t *testing.T) {
	t.Helper()
	etcd, err := local.StartEtcd(t.Context(), local.EtcdConfig{Dir: e.dir, ClientPort: e.port, Logger: localtest.Logger(t)})
	if err != nil {
		t.Fatal(err)
	}
	e.Etcd = etcd
}

// etcd is away for longer than a lock's TTL. What is held sells on, since every
// commit proves its fence; what is not held is told so in time; and afterwards
// everything sells without a restart.
func TestSalesGoOnWhileEtcdIsAway(t *testing.T) {
	etcd := startMortalEtcd(t)
	client, err := clientv3.New(clientv3.Config{
		Endpoints: []string{etcd.Endpoint()}, Logger: zap.NewNop(),
		DialKeepAliveTime: time.Second, DialKeepAliveTimeout: time.Second,
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = client.Close() })
	c := &testCluster{shards: newShards(t), directory: cluster.Directory{Client: client, Prefix: "/away/"}}
	if _, err := c.directory.Init(t.Context(), clusterID, cluster.Topology{Number: 1, Shards: regions}); err != nil {
		t.Fatal(err)
	}
	const ttl = 2 * time.Second
	n := c.start(t, "a", func(cfg *Config) { cfg.LockTTL, cfg.BeginTimeout = ttl, time.Second })
	const storage = 1_000_000
	held, other := n.create(t, storage), n.create(t, 10)
	n.mustBuy(t, other, "eu", "before", 1)
	n.mustBuy(t, held, "eu", "before", 1)
	lock := n.term.tenures.byProduct[held].tenure.lock
	n.term.tenures.byProduct[other].tenure.stop() // nobody holds it when etcd goes
	<-n.term.tenures.byProduct[other].tenure.over

	etcd.Stop()
	bought := int64(1)
	for lock.Context().Err() == nil { // through the end of the lock, and beyond
		n.mustBuy(t, held, regions[bought%2], fmt.Sprint("away", bought), 1)
		bought++
	}
	n.mustBuy(t, held, "us", "lapsed", 1)
	bought++
	n.wantAvailable(t, held, storage-bought)
	_, err = n.buy(t.Context(), held, "eu", "too many", storage)
	wantReason(t, err, holdfastv1.ReasonInsufficientStock)
	asked := time.Now()
	_, err = n.buy(t.Context(), other, "eu", "not held", 1)
	wantReason(t, err, holdfastv1.ReasonLockUnavailable)
	if took := time.Since(asked); took > 5*time.Second {
		t.Errorf("told after %v", took)
	}

	etcd.start(t)
	ctx := patient(t)
	for {
		if _, err = n.buy(ctx, other, "eu", "after", 1); err == nil || ctx.Err() != nil {
			break
		}
		wantReason(t, err, holdfastv1.ReasonLockUnavailable)
	}
	if err := context.Cause(ctx); err != nil {
		t.Fatal("sells no more after etcd has come back")
	}
	checkLedger(t, c.shards, held, bought)
	checkLedger(t, c.shards, other, 2)
}
