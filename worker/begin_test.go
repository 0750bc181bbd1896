package worker

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/hashicorp/go-hclog"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/holdfast-io/holdfast/api/cluster"
	holdfastv1 "github.com/holdfast-io/holdfast/api/holdfast/v1"
	"github.com/holdfast-io/holdfast/api/traces"
	"github.com/holdfast-io/holdfast/deploy/local/localtest"
	"github.com/holdfast-io/holdfast/lockmgr/locktest"
	"github.com/holdfast-io/holdfast/worker/ledger"
)

// seller is a worker on real shards and in-memory locks.
type seller struct {
	*beginner
	*service
	log *strings.Builder
}

func newSeller(t *testing.T, space *locktest.Space, name string, open ...*ledger.Shard) *seller {
	t.Helper()
	behind := make([]shard, len(open))
	for i, s := range open {
		behind[i] = s
	}
	topology := cluster.Topology{Number: 1, Shards: regions}
	locks := space.Join(name)
	logged := &strings.Builder{}
	log := hclog.New(&hclog.LoggerOptions{Output: logged}) // locks its writer
	lanes := newLanes(behind, localtest.Logger(t), newMetrics(prometheus.NewRegistry()))
	metrics := newMetrics(prometheus.NewRegistry())
	s := &seller{log: logged, beginner: &beginner{
		tracer:   traces.Tracer(nil),
		metrics:  metrics,
		topology: topology, shards: open, locks: locks, takeover: newTakeover(t, locks), lanes: lanes,
		timeout: 5 * time.Second, log: log,
		newest: func(context.Context) (int64, error) { return topology.Number, nil },
	}}
	ts := newTenures(time.Millisecond, time.Minute, metrics)
	ts.begin = s.begin
	s.service = &service{tenures: ts, lanes: lanes, topology: topology, shards: open, log: log}
	running, halt := context.WithCancel(context.Background())
	selling, stop := context.WithCancel(running)
	ts.starting = selling
	done := make(chan struct{})
	go func() { lanes.run(running); close(done) }()
	t.Cleanup(func() {
		stop()
		if err := ts.drain(context.Background(), 1); err != nil {
			t.Error(err)
		}
		halt()
		<-done
	})
	return s
}

func (s *seller) mustBegin(t *testing.T, product string, create int64) *tenure {
	t.Helper()
	tenure, err := s.begin(t.Context(), product, creation(product, create))
	if err != nil {
		t.Fatal(err)
	}
	return tenure
}

// creation is a product to be created with so many units, or nil when there are none.
func creation(product string, units int64) *ledger.Product {
	if units == 0 {
		return nil
	}
	return &ledger.Product{ProductID: product, AmountInStorage: units}
}

// buyNow sells in this tenure or not at all.
func buyNow(t *testing.T, tenure *tenure, region, request string, amount int64) error {
	t.Helper()
	return mustAdmit(t, tenure, wish(region, request, amount)).wait(patient(t))
}

func wantNoLocks(t *testing.T, space *locktest.Space) {
	t.Helper()
	held, err := space.Join("looks").Holders(t.Context())
	if err != nil || len(held) > 0 {
		t.Errorf("locks held: %v, %v", held, err)
	}
}

// The sum is complete only when the last shard has answered: until then a former
// holder sells there, and what it sells must be in the sum.
func TestNothingIsSoldBeforeEveryShardIsFenced(t *testing.T) {
	s, space, p := newShards(t), locktest.NewSpace(), newProduct()
	old := newSeller(t, space, "old", s.open...)
	next := newSeller(t, space, "next", s.open...)
	oldTenure := old.mustBegin(t, p, 10)
	space.Depose(p) // old is paused, or cut off: it does not know

	unlock := s.lockFence(t, "us", p)
	sold := make(chan error, 1)
	go func() { sold <- buyNow(t, oldTenure, "us", "old", 7) }()
	s.awaitBlocked(t, "us", 1)
	begun := make(chan *tenure, 1)
	go func() {
		tenure, err := next.begin(patient(t), p, nil)
		if err != nil {
			t.Error(err)
		}
		begun <- tenure
	}()
	s.awaitBlocked(t, "us", 2)
	unlock()
	if err := <-sold; err != nil {
		t.Fatalf("the former holder, whom us had not fenced: %v", err)
	}
	nextTenure := <-begun
	if nextTenure.available != 3 {
		t.Fatalf("%d available, want 3", nextTenure.available)
	}
	checkLedger(t, s, p, 7)

	if err := buyNow(t, oldTenure, "eu", "late", 1); !errors.Is(err, errTenureEnded) {
		t.Errorf("the former holder in eu: %v", err)
	}
	checkLedger(t, s, p, 7)
	if err := buyNow(t, nextTenure, "us", "new", 4); !errors.As(err, new(*InsufficientStockError)) {
		t.Errorf("4 of 3 units: %v", err)
	}
	if err := buyNow(t, nextTenure, "us", "last", 3); err != nil {
		t.Errorf("the last 3 units: %v", err)
	}
	checkLedger(t, s, p, 10)
}

// What a shard that is down has sold is unknown, so nothing can be sold; but its
// product's lock must be free for a worker that reaches it.
func TestTenureNeedsEveryShard(t *testing.T) {
	s, space, p := newShards(t), locktest.NewSpace(), newProduct()
	whole := newSeller(t, space, "whole", s.open...)
	release(t.Context(), whole.mustBegin(t, p, 10).lock)

	half := newSeller(t, space, "half", s.open[0], openShard(t, "us", unreachable(t)))
	for _, create := range []int64{0, 10} {
		var down *ShardError
		if _, err := half.begin(t.Context(), p, creation(p, create)); !errors.As(err, &down) || down.Shard != "us" {
			t.Errorf("create %d: got %v, want a ShardError of us", create, err)
		}
		wantNoLocks(t, space)
	}
	_, err := sellTo(t.Context(), func(b buyer) {
		half.tenures.sell(Purchase{ProductID: p, Amount: 1, CustomerID: "ann", Region: "eu", RequestID: "r"}, b)
	})
	if got := holdfastv1.Reason(half.status(t.Context(), p, err)); got != holdfastv1.ReasonShardUnavailable {
		t.Errorf("purchase: %v", err)
	}
	checkLedger(t, s, p, 0)
	if tenure := whole.mustBegin(t, p, 0); tenure.available != 10 {
		t.Errorf("%d available after the shard came back", tenure.available)
	}
}

// A creator that dies half-way must not leave a product that some shards know
// and others do not, or that the next one creates with another amount.
func TestHalfCreatedProductIsCompleted(t *testing.T) {
	for _, create := range []int64{0, 99} {
		s, space, p := newShards(t), locktest.NewSpace(), newProduct()
		burnTokens(t, space, 5)
		dead := ledger.Fence{ProductID: p, Topology: 1, Token: 1, TenureID: uuid.New()}
		if _, err := s.open[1].Raise(t.Context(), dead); err != nil {
			t.Fatal(err)
		}
		created := ledger.Product{ProductID: p, AmountInStorage: 5, CreateTime: time.Now().UTC().Truncate(time.Millisecond)}
		if err := s.open[1].PutProduct(t.Context(), dead, created); err != nil {
			t.Fatal(err)
		}
		tenure := newSeller(t, space, "next", s.open...).mustBegin(t, p, create)
		if tenure.available != 5 {
			t.Errorf("%d available, want 5", tenure.available)
		}
		for _, shard := range s.open {
			got, err := shard.Product(t.Context(), p)
			if err != nil || got.AmountInStorage != 5 || !got.CreateTime.Equal(created.CreateTime) {
				t.Errorf("%s has %+v, %v; want %+v", shard.Name(), got, err, created)
			}
		}
		checkLedger(t, s, p, 0)
	}
}

// burnTokens makes the next tokens of a space greater than n.
func burnTokens(t *testing.T, space *locktest.Space, n int) {
	burner := space.Join("burner")
	for range n {
		mustLock(t, burner, "burnt")()
	}
}

// Two amounts of one product would be two truths.
func TestTwoCreatorsOneAmount(t *testing.T) {
	s, space := newShards(t), locktest.NewSpace()
	a, b := newSeller(t, space, "a", s.open...), newSeller(t, space, "b", s.open...)
	for range 5 {
		p := newProduct()
		errs := make([]error, 4)
		var wg sync.WaitGroup
		for i, worker := range []*seller{a, b, a, b} {
			wg.Go(func() {
				amount := int64(5 + 4*(i%3)) // 5, 9, 13, 5
				_, errs[i] = worker.CreateProduct(t.Context(), &holdfastv1.CreateProductRequest{ProductId: p, AmountInStorage: amount})
			})
		}
		wg.Wait()
		won := s.number(t, "eu", "SELECT amount_in_storage FROM products WHERE product_id = $1", p)
		for i, err := range errs {
			mine := int64(5+4*(i%3)) == won
			if mine != (err == nil) || !mine && holdfastv1.Reason(err) != holdfastv1.ReasonProductExists {
				t.Errorf("creator %d, amount %d is stored: got %v", i, won, err)
			}
		}
		checkLedger(t, s, p, 0) // compares the amounts of the shards
	}
}

// Anybody may ask for any id; that must not fill the shards with fences.
func TestUnknownProductLeavesNothing(t *testing.T) {
	s, space, p := newShards(t), locktest.NewSpace(), newProduct()
	if _, err := newSeller(t, space, "a", s.open...).begin(t.Context(), p, nil); !errors.Is(err, ErrProductNotFound) {
		t.Errorf("got %v", err)
	}
	for _, region := range regions {
		if n := s.number(t, region, "SELECT count(*) FROM fences WHERE product_id = $1", p); n != 0 {
			t.Errorf("%d fences in %s", n, region)
		}
	}
	wantNoLocks(t, space)
}

// A worker that was paused between lock and fence has an old token, and gets a
// new one. If that does not help, etcd has lost its revisions: nothing may be
// sold, and the operator must learn what happened.
func TestTokensBelowTheFence(t *testing.T) {
	for _, tt := range []struct {
		name            string
		topology, token int64 // of the fences
		newest          int64 // topology that etcd knows
		want            error
	}{
		{"paused once", 1, 2, 1, nil},
		{"etcd restored from a backup", 1, 1 << 40, 1, ledger.ErrFenced},
		{"a newer topology that etcd has lost", 2, 1, 1, ledger.ErrFenced},
		{"a newer topology that the worker has yet to follow", 2, 1, 2, ErrDraining},
	} {
		t.Run(tt.name, func(t *testing.T) {
			s, space, p := newShards(t), locktest.NewSpace(), newProduct()
			f := ledger.Fence{ProductID: p, Topology: tt.topology, Token: tt.token, TenureID: uuid.New()}
			for _, shard := range s.open {
				if _, err := shard.Raise(t.Context(), f); err != nil {
					t.Fatal(err)
				}
				if err := shard.PutProduct(t.Context(), f, ledger.Product{ProductID: p, AmountInStorage: 3, CreateTime: time.Now()}); err != nil {
					t.Fatal(err)
				}
			}
			worker := newSeller(t, space, "a", s.open...)
			worker.newest = func(context.Context) (int64, error) { return tt.newest, nil }
			tenure, err := worker.begin(t.Context(), p, nil)
			if tt.want == nil {
				if err != nil || tenure.available != 3 {
					t.Fatalf("got %v, %v", tenure, err)
				}
				return
			}
			if !errors.Is(err, tt.want) {
				t.Errorf("got %v, want %v", err, tt.want)
			}
			if said := strings.Contains(worker.log.String(), "restored from a backup"); said != errors.Is(tt.want, ledger.ErrFenced) {
				t.Errorf("the log says that etcd was restored: %t", said)
			}
			wantNoLocks(t, space)
			checkLedger(t, s, p, 0)
		})
	}
}

// A psql session that forgot its COMMIT must cost its own product sales, and not
// those of all products of the shard.
func TestLockedFenceStallsItsProductOnly(t *testing.T) {
	s, space := newShards(t), locktest.NewSpace()
	eu, err := ledger.Open(ledger.Config{Name: "eu", DSN: s.dsns["eu"], ClusterID: clusterID, LockTimeout: 200 * time.Millisecond})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(eu.Close)
	worker := newSeller(t, space, "a", eu, s.open[1])
	locked, free := worker.mustBegin(t, newProduct(), 100), worker.mustBegin(t, newProduct(), 100)
	unlock := s.lockFence(t, "eu", locked.product.ProductID)
	var sales []*bought
	for i := range 100 {
		sales = append(sales, mustAdmit(t, locked, wish("eu", fmt.Sprint(i), 1)))
	}
	began := time.Now()
	if err := buyNow(t, free, "eu", "r", 1); err != nil {
		t.Error(err)
	}
	if took := time.Since(began); took > 10*time.Second { // 3 attempts of 200 ms each, where one for each sale would take 20 s
		t.Errorf("another product waited %v", took)
	}
	for _, s := range sales {
		if err := s.wait(patient(t)); !errors.As(err, new(*ShardError)) {
			t.Errorf("the locked product: %v", err)
		}
	}
	unlock()
	checkLedger(t, s, locked.product.ProductID, 0)
	checkLedger(t, s, free.product.ProductID, 1)
	if err := buyNow(t, locked, "eu", "after", 100); err != nil {
		t.Errorf("after the lock was gone: %v", err)
	}
}
