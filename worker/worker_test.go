package worker

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/holdfast-io/holdfast/api/cluster"
	holdfastv1 "github.com/holdfast-io/holdfast/api/holdfast/v1"
	"github.com/holdfast-io/holdfast/worker/ledger"
)

// The whole point: whoever sells, wherever it is stored, each unit is sold once
// and all units can be sold.
func TestTwoWorkersSellExactlyTheStorage(t *testing.T) {
	c := newCluster(t)
	nodes := []*node{c.start(t, "a"), c.start(t, "b")}
	p := nodes[0].create(t, 100)
	y := crowd(t.Context(), nodes, p, 20, 8)
	y.wantOnly(t, holdfastv1.ReasonInsufficientStock)
	if y.sold != 100 || y.reason[holdfastv1.ReasonInsufficientStock] != 60 {
		t.Errorf("%d sold and %v, want 100 and 60", y.sold, y.reason)
	}
	checkLedger(t, c.shards, p, 100)
	nodes[1].wantAvailable(t, p, 0)
}

// A coordinator repeats a purchase on another worker when the first one does not
// answer. The customer must not pay twice.
func TestRepeatOnAnotherWorkerGetsTheFirstOutcome(t *testing.T) {
	c := newCluster(t)
	a, b := c.start(t, "a"), c.start(t, "b")
	p := a.create(t, 5)
	first := a.mustBuy(t, p, "eu", "r1", 5)
	for name, n := range map[string]*node{"another worker": b, "the same worker": a} {
		if again := n.mustBuy(t, p, "eu", "r1", 5); again.GetPurchaseId() != first.GetPurchaseId() {
			t.Errorf("%s: %v, want %v", name, again, first)
		}
		_, err := n.buy(t.Context(), p, "eu", "r1", 4)
		wantReason(t, err, holdfastv1.ReasonRequestIDReused)
		_, err = n.buy(t.Context(), p, "us", "r1", 5) // another request: ids are the region's
		wantReason(t, err, holdfastv1.ReasonInsufficientStock)
	}
	checkLedger(t, c.shards, p, 5)
}

// A product that is asked for elsewhere moves there in milliseconds, not when a
// lease ends, though its holder never runs out of work.
func TestContendedProductIsHandedOver(t *testing.T) {
	c := newCluster(t)
	a, b := c.start(t, "a"), c.start(t, "b")
	p := a.create(t, 1_000_000)
	busy, rest := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	y := newTally()
	for i := range 4 {
		wg.Go(func() {
			for n := 0; busy.Err() == nil; n++ {
				_, err := a.buy(t.Context(), p, "eu", fmt.Sprint("a", i, "-", n), 1)
				y.add(1, err)
			}
		})
	}
	began := time.Now()
	const turns = 5
	for n := range turns {
		b.mustBuy(t, p, "us", fmt.Sprint("b", n), 1)
		a.mustBuy(t, p, "eu", fmt.Sprint("back", n), 1)
	}
	took := time.Since(began) / (2 * turns)
	rest()
	wg.Wait()
	y.wantOnly(t)
	if limit := 50*time.Millisecond + time.Second; took > limit { // a second is for a busy machine
		t.Errorf("a hand-over took %v, want less than %v", took, limit)
	}
	checkLedger(t, c.shards, p, y.sold+2*turns)
}

// The answer to a COMMIT can be lost after it happened and before; the worker
// cannot know, and must find out without selling twice.
func TestLostCommitIsAnsweredOnce(t *testing.T) {
	for _, tt := range []struct {
		name string
		lose func(*testing.T, *testCluster, *lossy, string) (restore func())
	}{
		{"request lost", func(_ *testing.T, _ *testCluster, line *lossy, _ string) func() {
			line.start(requests)
			return func() { <-line.lost; line.cut() }
		}},
		{"reply lost", func(t *testing.T, c *testCluster, line *lossy, p string) func() {
			line.start(replies)
			return func() {
				for ctx := patient(t); c.sold(t, p) < 3 && ctx.Err() == nil; { // until it is committed, and nobody was told
				}
				line.cut()
			}
		}},
		{"backend ended while it waited for the fence", func(t *testing.T, c *testCluster, _ *lossy, p string) func() {
			unlock := c.lockFence(t, "eu", p)
			return func() {
				c.awaitBlocked(t, "eu", 1)
				c.exec(t, "eu", `SELECT pg_terminate_backend(pid) FROM pg_stat_activity
					WHERE datname = current_database() AND wait_event_type = 'Lock'`)
				unlock()
			}
		}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			c := newCluster(t)
			line, dsn := newLossy(t, c.dsns["eu"])
			a := c.start(t, "a", func(cfg *Config) { cfg.DSNs["eu"] = dsn })
			p := a.create(t, 10)
			a.mustBuy(t, p, "eu", "r1", 1)
			token := c.token(t, "eu", p)
			restore := tt.lose(t, c, line, p)
			bought := make(chan *holdfastv1.Purchase, 1)
			go func() { bought <- a.buyInTheEnd(t, p, "eu", "r2", 2) }()
			restore()
			first := <-bought
			checkLedger(t, c.shards, p, 3)
			if c.token(t, "eu", p) <= token {
				t.Error("answered under the same token")
			}
			if again := a.mustBuy(t, p, "eu", "r2", 2); again.GetPurchaseId() != first.GetPurchaseId() {
				t.Errorf("bought again as %v, after %v", again, first)
			}
			a.wantAvailable(t, p, 7)
		})
	}
}

// buyInTheEnd repeats the request for as long as that is what it is told to do.
func (n *node) buyInTheEnd(t *testing.T, product, region, request string, amount int64) *holdfastv1.Purchase {
	for ctx := patient(t); ; {
		p, err := n.buy(ctx, product, region, request, amount)
		switch {
		case err == nil:
			return p
		case status.Code(err) != codes.Unavailable:
			t.Error(err)
			return nil
		}
	}
}

// Whoever loses its lease is not told in time. It may sell until somebody else
// begins, and not one unit after that.
func TestEvictedHolderSellsUntilItIsFenced(t *testing.T) {
	c := newCluster(t)
	a, b := c.start(t, "a"), c.start(t, "b")
	p := a.create(t, 10)
	token := c.token(t, "eu", p)
	c.evict(t, p)
	a.mustBuy(t, p, "eu", "r1", 3)
	if got := c.token(t, "eu", p); got != token {
		t.Errorf("token %d, want %d still", got, token)
	}
	b.mustBuy(t, p, "us", "r2", 3)
	checkLedger(t, c.shards, p, 6)
	y := crowd(t.Context(), []*node{a, b}, p, 4, 2)
	y.wantOnly(t, holdfastv1.ReasonInsufficientStock)
	if y.sold != 4 {
		t.Errorf("%d of the last 4 units sold", y.sold)
	}
	checkLedger(t, c.shards, p, 10)
}

// A worker that was taken over remembers what was left then. Units may have come
// back since, so its memory must refuse nobody.
func TestMemoryOfAnEndedTenureRefusesNobody(t *testing.T) {
	for _, read := range []bool{false, true} {
		t.Run(fmt.Sprintf("read %t", read), func(t *testing.T) {
			c := newCluster(t)
			a := c.start(t, "a")
			p := a.create(t, 5)
			a.mustBuy(t, p, "eu", "r1", 5)
			_, err := a.buy(t.Context(), p, "us", "r2", 1)
			wantReason(t, err, holdfastv1.ReasonInsufficientStock)
			a.wantAvailable(t, p, 0)
			c.returnedElsewhere(t, p)
			if read {
				a.wantAvailable(t, p, 5)
			}
			a.mustBuy(t, p, "us", "r3", 1)
			checkLedger(t, c.shards, p, 1)
		})
	}
}

// returnedElsewhere is a tenure of another worker, in which eu gave back all that
// it had sold.
func (c *testCluster) returnedElsewhere(t *testing.T, product string) {
	t.Helper()
	for _, region := range regions {
		c.exec(t, region, "UPDATE fences SET token = token + 1, tenure_id = gen_random_uuid() WHERE product_id = $1", product)
	}
	c.exec(t, "eu", "BEGIN")
	c.exec(t, "eu", "DELETE FROM purchases WHERE product_id = $1", product)
	c.exec(t, "eu", "UPDATE fences SET purchased = 0 WHERE product_id = $1", product)
	c.exec(t, "eu", "COMMIT")
}

// A worker that was killed is the usual failure. Its products must be for sale
// again long before its leases end.
func TestKilledHolderIsTakenOverBeforeItsLeaseEnds(t *testing.T) {
	c := newCluster(t)
	a := c.start(t, "a")
	p := a.create(t, 5)
	if err := a.stop(); err != nil {
		t.Fatal(err)
	}
	killed := c.manager(t, ownerAt(nobody(t)))
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- killed.Run(ctx) }()
	defer func() { cancel(); <-done }() //nolint:errcheck // the outcome is checked where it matters
	if _, err := killed.Acquire(t.Context(), p); err != nil {
		t.Fatal(err)
	}
	b := c.start(t, "b")
	began := time.Now()
	b.mustBuy(t, p, "eu", "r1", 1)
	if took := time.Since(began); took > 5*time.Second { // the TTL is a minute
		t.Errorf("taken over after %v", took)
	}
	checkLedger(t, c.shards, p, 1)
}

// A rolling update must not fail a purchase: what was taken in gets its answer,
// and what comes later is told to go elsewhere.
func TestDrainUnderLoadFailsNobody(t *testing.T) {
	c := newCluster(t)
	a := c.start(t, "a")
	var products []string
	for range 8 {
		products = append(products, a.create(t, 1_000_000))
	}
	tallies := make([]*tally, len(products))
	var wg, started sync.WaitGroup
	started.Add(2 * len(products))
	for i, p := range products {
		tallies[i] = newTally()
		for b := range 2 {
			wg.Go(func() {
				for n := 0; ; n++ {
					_, err := a.buy(t.Context(), p, regions[n%2], fmt.Sprint(b, "-", n), 1)
					if gone(err) {
						return
					}
					tallies[i].add(1, err)
					if n == 5 {
						started.Done()
					}
					if err != nil {
						return
					}
				}
			})
		}
	}
	started.Wait()
	if err := a.stop(); err != nil {
		t.Errorf("run: %v", err)
	}
	wg.Wait()
	c.wantLocks(t, 0)
	for i, p := range products {
		tallies[i].wantOnly(t, holdfastv1.ReasonWorkerDraining)
		checkLedger(t, c.shards, p, tallies[i].sold)
	}
	view, err := c.directory.View(t.Context())
	if err != nil || len(view.Workers) > 0 {
		t.Errorf("still on the list of workers: %v, %v", view.Workers, err)
	}
}

// gone reports whether nobody listened any more, so that nothing was taken in.
func gone(err error) bool {
	return status.Code(err) == codes.Unavailable && holdfastv1.Reason(err) == "" &&
		strings.Contains(err.Error(), "connection refused")
}

// A worker that was told the wrong databases, or sees an etcd that lost its data,
// is stopped before it sells.
func TestWorkerRefusesToStart(t *testing.T) {
	c := newCluster(t)
	for want, change := range map[string]func(*Config){
		"name is required":              func(cfg *Config) { cfg.Name = "" },
		"advertise address is required": func(cfg *Config) { cfg.Advertise = "" },
		"etcd client is required":       func(cfg *Config) { cfg.Directory.Client = nil },
		"has no DSN":                    func(cfg *Config) { delete(cfg.DSNs, "us") },
		"is another shard":              func(cfg *Config) { cfg.DSNs["us"] = cfg.DSNs["eu"] },
	} {
		cfg := Config{
			Name: "a", Advertise: "127.0.0.1:1", Directory: c.directory,
			DSNs: map[string]string{"eu": c.dsns["eu"], "us": c.dsns["us"]},
		}
		change(&cfg)
		if _, err := New(t.Context(), cfg); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("got %v, want %q", err, want)
		}
	}
	if _, err := c.raw["us"].Exec(t.Context(), "ALTER TABLE purchases DISABLE TRIGGER purchases_under_fences"); err != nil {
		t.Fatal(err)
	}
	whole := Config{Name: "a", Advertise: "127.0.0.1:1", Directory: c.directory, DSNs: c.dsns}
	if _, err := New(t.Context(), whole); !errors.Is(err, ledger.ErrUnguarded) {
		t.Errorf("trigger off: %v", err)
	}
	empty := cluster.Directory{Client: c.directory.Client, Prefix: c.directory.Prefix + "none/"}
	if _, err := New(t.Context(), Config{Name: "a", Advertise: "x", Directory: empty}); !errors.Is(err, cluster.ErrNotInitialised) {
		t.Errorf("no cluster: %v", err)
	}
}
