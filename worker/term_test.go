package worker

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/holdfast-io/holdfast/api/cluster"
	holdfastv1 "github.com/holdfast-io/holdfast/api/holdfast/v1"
	"github.com/holdfast-io/holdfast/deploy/local/localtest"
	"github.com/holdfast-io/holdfast/worker/ledger"
)

// addShard makes a third database a shard of the cluster, known to no topology.
func (c *testCluster) addShard(t *testing.T, name string) {
	t.Helper()
	dsn := localtest.Databases(t, name)[name]
	s, err := ledger.Open(ledger.Config{Name: name, DSN: dsn})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	if _, err := s.Migrate(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := s.Claim(t.Context(), clusterID); err != nil {
		t.Fatal(err)
	}
	c.dsns = map[string]string{"eu": c.dsns["eu"], "us": c.dsns["us"], name: dsn}
	c.open = append(c.open, openShard(t, name, dsn))
	c.raw[name] = connect(t, dsn)
}

// change makes another topology of the cluster's.
func (c *testCluster) change(t *testing.T, next func(cluster.Topology) (cluster.Topology, error)) {
	t.Helper()
	view, err := c.directory.View(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	changed, err := next(view.Topology)
	if err != nil {
		t.Fatal(err)
	}
	if err := c.directory.SetTopology(t.Context(), view.Topology, changed); err != nil {
		t.Fatal(err)
	}
}

// The topology may change while a worker opens its shards. That is no reason to
// end, and least of all to say that etcd has lost data.
func TestTopologyThatChangesWhileAWorkerStarts(t *testing.T) {
	c := newCluster(t)
	a := c.start(t, "a")
	before, err := c.directory.View(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for _, s := range c.open {
		if err := s.PutTopology(t.Context(), before.Topology.Number+1, "{}"); err != nil {
			t.Fatal(err)
		}
		defer c.exec(t, s.Name(), "DELETE FROM topologies WHERE number = $1", before.Topology.Number+1)
	}
	if _, err := a.openTerm(t.Context(), before); err == nil || !strings.Contains(err.Error(), "etcd has lost data") {
		t.Errorf("etcd older than the shards: %v", err)
	}
	if err := c.directory.Restore(t.Context(), before.ID, before.Topology.Renumbered()); err != nil {
		t.Fatal(err)
	}
	stale, err := a.openTerm(t.Context(), before)
	if err != nil {
		t.Fatalf("only the worker's view is old: %v", err)
	}
	stale.close()
}

// buyUntilTold repeats a purchase on one worker after the other, as a
// coordinator does, and reports whether it was admitted.
func buyUntilTold(ctx context.Context, t *testing.T, nodes []*node, product, region, request string) bool {
	for n := 0; ; n++ {
		_, err := nodes[n%len(nodes)].buy(ctx, product, region, request, 1)
		switch holdfastv1.Reason(err) {
		case "":
			if err != nil {
				t.Errorf("%s: %v", request, err)
			}
			return err == nil
		case holdfastv1.ReasonInsufficientStock:
			return false
		case holdfastv1.ReasonWorkerDraining, holdfastv1.ReasonUnknownRegion:
			// The topology changes; the worker has not heard of it, or just has.
		default:
			t.Errorf("%s: %v", request, err)
			return false
		}
		if ctx.Err() != nil {
			t.Errorf("%s: no answer", request)
			return false
		}
	}
}

// A new region opens while the sale goes on. Workers learn of it at different
// moments; one with the old list must not sell beside one with the new list.
func TestAddingAShardWhileSelling(t *testing.T) {
	c := newCluster(t)
	c.addShard(t, "asia")
	nodes := []*node{c.start(t, "a"), c.start(t, "b")}
	const storage, buyers, each = 300, 8, 60
	p := nodes[0].create(t, storage)
	view, err := c.directory.View(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	next, err := view.Topology.Added("asia")
	if err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	var sold, asked atomic.Int64
	ctx := patient(t)
	for b := range buyers {
		wg.Go(func() {
			for n := range each {
				if asked.Add(1) == storage/3 {
					if err := c.directory.SetTopology(ctx, view.Topology, next); err != nil {
						t.Error(err)
					}
				}
				known := view.Topology.Shards
				if asked.Load() > storage/2 {
					known = next.Shards
				}
				if buyUntilTold(ctx, t, []*node{nodes[b%2], nodes[(b+1)%2]}, p, known[n%len(known)], fmt.Sprint(b, "-", n)) {
					sold.Add(1)
				}
			}
		})
	}
	wg.Wait()
	if sold.Load() != storage {
		t.Errorf("%d sold of %d", sold.Load(), storage)
	}
	checkLedger(t, c.shards, p, storage)
	nodes[0].wantAvailable(t, p, 0)
	if _, err := c.open[2].Product(t.Context(), p); err != nil {
		t.Errorf("the new shard has not got the product: %v", err)
	}
}

// It could neither fence the new shard nor count what it has sold.
func TestWorkerThatCannotReachANewShardStops(t *testing.T) {
	c := newCluster(t)
	l := listen(t)
	w, err := New(t.Context(), Config{
		Name: "old", Advertise: l.Addr().String(), Directory: c.directory, DSNs: c.dsns, Logger: localtest.Logger(t),
	})
	if err != nil {
		t.Fatal(err)
	}
	ran := make(chan error, 1)
	go func() { ran <- w.Run(t.Context(), l) }()
	c.change(t, func(old cluster.Topology) (cluster.Topology, error) { return old.Added("asia") })
	select {
	case err := <-ran:
		if err == nil || !strings.Contains(err.Error(), "shard asia of topology 2 has no DSN") {
			t.Errorf("ended with %v", err)
		}
	case <-patient(t).Done():
		t.Error("goes on selling under the old topology")
	}
}

// A region is closed: nothing new goes there, and what was sold there counts.
func TestDrainedShardTakesNothingAndStillCounts(t *testing.T) {
	c := newCluster(t)
	n := c.start(t, "a")
	p := n.create(t, 3)
	n.mustBuy(t, p, "us", "before", 2)
	c.change(t, func(old cluster.Topology) (cluster.Topology, error) { return old.Drained("us") })
	ctx := patient(t)
	for { // more than there is: refused for one reason, and once the worker knows for another
		_, err := n.buy(ctx, p, "us", "too many", 1000)
		if holdfastv1.Reason(err) == holdfastv1.ReasonRegionDraining {
			break
		}
		if ctx.Err() != nil {
			t.Fatalf("the worker does not learn of the topology: %v", err)
		}
	}
	_, err := n.buy(ctx, p, "us", "after", 1)
	wantReason(t, err, holdfastv1.ReasonRegionDraining)
	n.mustBuy(t, p, "eu", "elsewhere", 1)
	n.wantAvailable(t, p, 0)
	checkLedger(t, c.shards, p, 3)
}

// etcd restored from a backup gives tokens below the fences. Nobody oversells, but
// nobody sells either, until the topology is raised above them.
func TestRaisedTopologyRepairsAnEtcdThatWentBack(t *testing.T) {
	c := newCluster(t)
	n := c.start(t, "a")
	p := n.create(t, 3)
	n.mustBuy(t, p, "eu", "before", 1)
	for _, region := range regions {
		c.exec(t, region, "UPDATE fences SET token = 1000000000, tenure_id = gen_random_uuid() WHERE product_id = $1", p)
	}
	_, err := n.buy(t.Context(), p, "eu", "refused", 1)
	wantReason(t, err, holdfastv1.ReasonFenced)
	c.change(t, func(old cluster.Topology) (cluster.Topology, error) { return old.Renumbered(), nil })
	ctx := patient(t)
	for {
		_, err = n.buy(ctx, p, "eu", "after", 2)
		if err == nil || ctx.Err() != nil {
			break
		}
		if reason := holdfastv1.Reason(err); reason != holdfastv1.ReasonFenced && reason != holdfastv1.ReasonWorkerDraining {
			t.Fatal(err)
		}
	}
	if errors.Join(err, ctx.Err()) != nil {
		t.Fatal(err)
	}
	checkLedger(t, c.shards, p, 3)
}
