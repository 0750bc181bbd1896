package worker

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/hashicorp/go-hclog"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/holdfast-io/holdfast/lockmgr"
	"github.com/holdfast-io/holdfast/lockmgr/locktest"
	"github.com/holdfast-io/holdfast/worker/ledger"
)

// desk is a worker without servers: tenures over in-memory locks and one shard
// that stores everything.
type desk struct {
	*tenures
	eu    *fakeShard
	locks *locktest.Manager
	stop  context.CancelFunc // stops selling, as Run does first when it drains
}

func newDesk(t *testing.T, space *locktest.Space, owner string) *desk {
	eu := &fakeShard{name: "eu", commit: all(ledger.Inserted), verify: says(ledger.Checked{Current: true})}
	lanes := newLanes([]shard{eu}, hclog.NewNullLogger(), newMetrics(prometheus.NewRegistry()))
	running, halt := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() { lanes.run(running); close(done) }()
	t.Cleanup(func() { halt(); <-done })

	d := &desk{eu: eu, locks: space.Join(owner)}
	d.tenures = newTenures(200*time.Millisecond, time.Minute, newMetrics(prometheus.NewRegistry()))
	d.starting, d.stop = context.WithCancel(context.Background())
	d.begin = func(ctx context.Context, product string, _ *ledger.Product) (*tenure, error) {
		lock, err := d.locks.Acquire(ctx, product)
		if err != nil {
			return nil, &LockError{cause: err}
		}
		f := ledger.Fence{ProductID: product, Token: lock.Token()}
		return newTenure(f, ledger.Product{ProductID: product}, 1000, make([]int64, 1), lock, lanes), nil
	}
	t.Cleanup(func() {
		d.stop()
		if err := d.drain(context.Background(), 1); err != nil {
			t.Error(err)
		}
	})
	return d
}

func (d *desk) buy(ctx context.Context, p Purchase) error {
	_, err := sellTo(ctx, func(b buyer) { d.sell(p, b) })
	return err
}

func (d *desk) mustSell(t *testing.T, request string) {
	t.Helper()
	if err := d.buy(t.Context(), wish("eu", request, 1)); err != nil {
		t.Fatalf("%s: %v", request, err)
	}
}

func (d *desk) wantLocks(t *testing.T, n int) {
	t.Helper()
	synctest.Wait()
	held, err := d.locks.Holders(t.Context())
	if err != nil || len(held) != n {
		t.Fatalf("locks held: %v, %v; want %d", held, err, n)
	}
}

// Ten thousand products that were sold once must not hold locks for ever.
func TestIdleTenureIsReleased(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := newDesk(t, locktest.NewSpace(), "a")
		d.mustSell(t, "r1")
		time.Sleep(d.idle - time.Second)
		d.mustSell(t, "r2") // starts the minute anew
		time.Sleep(d.idle - time.Second)
		d.wantLocks(t, 1)
		time.Sleep(time.Second)
		d.wantLocks(t, 0)
		d.mustSell(t, "r3")
		d.wantLocks(t, 1)
	})
}

// Two workers that want the same product take turns: each sells for a while, so
// that locking and fencing are a small part of the time.
func TestHandOverAfterTheMinimumTenure(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		space := locktest.NewSpace()
		a, b := newDesk(t, space, "a"), newDesk(t, space, "b")
		began := time.Now()
		a.mustSell(t, "r1")
		b.mustSell(t, "r2")
		if took := time.Since(began); took != a.minimum {
			t.Errorf("b sold after %v, want %v", took, a.minimum)
		}
		time.Sleep(time.Second) // longer than the minimum: handed over at once
		began = time.Now()
		a.mustSell(t, "r3")
		if took := time.Since(began); took != 0 {
			t.Errorf("a sold after %v", took)
		}
	})
}

// A lock that is released while a batch commits has the next tenure fence that
// batch: safe, but its customers wait once more for nothing.
func TestLockIsKeptUntilTheTenureHasSettled(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := newDesk(t, locktest.NewSpace(), "a")
		answer := make(chan struct{})
		d.eu.commit = func(rows []*ledger.Purchase) ([]ledger.Outcome, error) {
			<-answer
			return all(ledger.Inserted)(rows)
		}
		sold := make(chan error, 1)
		go func() { err := d.buy(t.Context(), wish("eu", "r1", 1)); sold <- err }()
		synctest.Wait()
		d.byProduct["p"].tenure.stop()
		d.wantLocks(t, 1)
		close(answer)
		if err := <-sold; err != nil {
			t.Error(err)
		}
		d.wantLocks(t, 0)
	})
}

// etcd is away, or the lease was lost: what is held can be sold, because each
// commit proves the fence. Stopping would turn an outage of etcd into ours.
func TestLostLockDoesNotStopSales(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		space := locktest.NewSpace()
		d := newDesk(t, space, "a")
		d.mustSell(t, "r1")
		token := d.byProduct["p"].tenure.fence.Token
		space.Interrupt(errors.New("etcd is away"))
		space.Expire("p")
		time.Sleep(time.Second)
		d.mustSell(t, "r2")
		if got := d.byProduct["p"].tenure.fence.Token; got != token {
			t.Errorf("token %d, want %d still", got, token)
		}
		space.Interrupt(nil)
	})
}

// Who asks while a tenure begins shares it, and an impatient one spoils it for
// nobody.
func TestBeginningTenureIsShared(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		space := locktest.NewSpace()
		d := newDesk(t, space, "a")
		rival := mustLock(t, space.Join("rival"), "p")
		impatient, leave := context.WithCancel(t.Context())
		left, sold := make(chan error, 1), make(chan error, 1)
		go func() { err := d.buy(impatient, wish("eu", "r1", 1)); left <- err }()
		synctest.Wait()
		go func() { err := d.buy(t.Context(), wish("eu", "r2", 1)); sold <- err }()
		synctest.Wait()
		if n := space.Waiters("p"); n != 1 {
			t.Errorf("%d wait for the lock", n)
		}
		leave()
		if err := <-left; !errors.As(err, new(*LockError)) {
			t.Errorf("the one who left: %v", err)
		}
		rival()
		if err := <-sold; err != nil {
			t.Errorf("the one who stayed: %v", err)
		}
	})
}

func mustLock(t *testing.T, locks locks, name string) (release func()) {
	t.Helper()
	lock, err := locks.TryAcquire(t.Context(), name)
	if err != nil {
		t.Fatal(err)
	}
	return func() { _ = lock.Release(context.Background()) }
}

// A worker that leaves must say so and nothing else, whatever the purchase was
// waiting for: only then is it sent to the next worker at once.
func TestDrainingIsWhatEverybodyIsTold(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		space := locktest.NewSpace()
		d := newDesk(t, space, "a")
		d.mustSell(t, "r1")
		rival := mustLock(t, space.Join("rival"), "q")
		defer rival()
		beginning := wish("eu", "r2", 1)
		beginning.ProductID = "q" // its lock is held by another worker
		told := make(chan error, 2)
		go func() { err := d.buy(t.Context(), beginning); told <- err }()
		synctest.Wait()
		d.stop()
		synctest.Wait()
		late := wish("eu", "r3", 1)
		late.ProductID = "r" // comes between the two steps of draining
		go func() { err := d.buy(t.Context(), late); told <- err }()
		synctest.Wait()
		if err := d.drain(t.Context(), 1); err != nil {
			t.Fatal(err)
		}
		for range 2 {
			if err := <-told; !errors.Is(err, ErrDraining) {
				t.Errorf("got %v, want ErrDraining", err)
			}
		}
		if err := d.buy(t.Context(), wish("eu", "r4", 1)); !errors.Is(err, ErrDraining) {
			t.Errorf("after the drain: %v, want ErrDraining", err)
		}
		d.wantLocks(t, 1) // the rival's
	})
}

// A buyer waits for the handover of his product, and not for that of all: a worker
// that stops goes on selling what it has not yet let go of.
func TestDrainSellsWhatItHasNotLetGoOf(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := newDesk(t, locktest.NewSpace(), "a")
		begin, letGo := d.begin, make(chan struct{})
		d.begin = func(ctx context.Context, product string, create *ledger.Product) (*tenure, error) {
			tn, err := begin(ctx, product, create)
			lock := tn.lock
			tn.lock = lockmgr.NewLock(t.Context(), product, lock.Token(), lock.OnContended, func(ctx context.Context) error {
				<-letGo
				return lock.Release(ctx)
			})
			return tn, err
		}
		const products = 3 * handoversAtOnce
		sell := func(request string) (sold int) {
			for i := range products {
				ctx, cancel := context.WithTimeout(t.Context(), time.Second)
				p := wish("eu", request, 1)
				p.ProductID = fmt.Sprint(i)
				if err := d.buy(ctx, p); err == nil {
					sold++
				}
				cancel()
			}
			return sold
		}
		if sold := sell("r1"); sold != products {
			t.Fatalf("%d of %d products sold", sold, products)
		}
		d.stop()
		drained := make(chan error, 1)
		go func() { drained <- d.drain(t.Context(), products) }()
		synctest.Wait()
		if sold := sell("r2"); sold != products-handoversAtOnce {
			t.Errorf("%d of %d products sold while %d are handed over", sold, products, handoversAtOnce)
		}
		close(letGo)
		if err := <-drained; err != nil {
			t.Fatal(err)
		}
		d.wantLocks(t, 0)
	})
}

// A process that lives, and whose work on a product does not get on, must not
// keep the product for ever by renewing its lock.
func TestStuckTenureIsNotRenewed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		release := make(chan struct{})
		eu := &fakeShard{name: "eu", commit: func([]*ledger.Purchase) ([]ledger.Outcome, error) {
			<-release
			return []ledger.Outcome{ledger.Inserted}, nil
		}}
		lanes := newLanes([]shard{eu}, hclog.NewNullLogger(), newMetrics(prometheus.NewRegistry()))
		ctx, stop := context.WithCancel(t.Context())
		done := make(chan struct{})
		go func() { lanes.run(ctx); close(done) }()
		tn := tenureOn(lanes, "p", 10)
		ready := make(chan struct{})
		close(ready)
		ts := &tenures{byProduct: map[string]*slot{"p": {ready: ready, tenure: tn}}}

		time.Sleep(time.Hour)
		if !ts.alive("p") || !ts.alive("unknown") {
			t.Error("an idle tenure counts as stuck")
		}
		s := mustAdmit(t, tn, wish("eu", "r", 1))
		time.Sleep(stuckAfter)
		if !ts.alive("p") {
			t.Error("stuck before any batch can have timed out")
		}
		time.Sleep(time.Second)
		if ts.alive("p") {
			t.Error("a stuck tenure counts as alive")
		}
		close(release)
		<-s.done
		if !ts.alive("p") {
			t.Error("still stuck after it got on")
		}
		stop()
		<-done
	})
}

// A caller that has left goes on elsewhere. A place in the queue that is kept for it
// would take the product from the worker where it is now.
func TestTenureThatNobodyWaitsForIsAbandoned(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		began := make(chan context.Context, 2)
		ts := newTenures(0, time.Minute, newMetrics(prometheus.NewRegistry()))
		ts.starting = t.Context()
		ts.begin = func(ctx context.Context, _ string, _ *ledger.Product) (*tenure, error) {
			began <- ctx
			<-ctx.Done()
			return nil, &LockError{cause: ctx.Err()}
		}
		wait := func(d time.Duration) (left chan struct{}) {
			ctx, cancel := context.WithTimeout(t.Context(), d)
			left = make(chan struct{})
			go func() {
				defer close(left)
				defer cancel()
				if _, err := ts.get(ctx, "p", nil); !errors.Is(err, context.DeadlineExceeded) {
					t.Errorf("got %v", err)
				}
			}()
			return left
		}
		first, second := wait(time.Second), wait(2*time.Second)
		beginning := <-began
		<-first
		time.Sleep(abandonAfter / 2)
		if beginning.Err() != nil {
			t.Fatal("abandoned while somebody waits")
		}
		<-second
		time.Sleep(abandonAfter / 2)
		if beginning.Err() != nil {
			t.Fatal("abandoned at once")
		}
		third := wait(time.Minute)
		time.Sleep(abandonAfter)
		if beginning.Err() != nil {
			t.Fatal("abandoned though somebody came back")
		}
		<-third
		<-beginning.Done()
		fourth := wait(time.Second)
		if again := <-began; again.Err() != nil {
			t.Error("the next caller was given what is abandoned")
		}
		<-fourth
		time.Sleep(2 * abandonAfter)
		synctest.Wait()
		if len(ts.byProduct) > 0 {
			t.Error("the slot stays behind")
		}
	})
}
