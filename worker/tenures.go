package worker

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/holdfast-io/holdfast/api/traces"
	"github.com/holdfast-io/holdfast/worker/ledger"
)

// tenures are the tenures of a worker: at most one of each product, begun when
// a purchase first needs it.
type tenures struct {
	begin    func(ctx context.Context, productID string, create *ledger.Product) (*tenure, error)
	minimum  time.Duration // how long a tenure lasts though others want the product
	idle     time.Duration // how long it lasts without use
	metrics  *metrics
	follower *follower // nil when the worker has no region
	starting context.Context
	wg       sync.WaitGroup

	mu        sync.Mutex
	byProduct map[string]*slot
	draining  bool
}

func newTenures(minimum, idle time.Duration, m *metrics) *tenures {
	return &tenures{minimum: minimum, idle: idle, metrics: m, byProduct: map[string]*slot{}}
}

// slot is a product's tenure, or the attempt to begin one.
type slot struct {
	ready  chan struct{} // closed when tenure or err is set
	tenure *tenure
	err    error

	// Guarded by tenures.mu.
	wanted int                     // callers that wait for it to be ready
	giveUp context.CancelCauseFunc // nil when it has begun
}

func (s *slot) isReady() bool {
	select {
	case <-s.ready:
		return true
	default:
		return false
	}
}

// abandonAfter is how long a tenure goes on beginning when nobody waits for it any
// more. What takes no longer is of use to whoever comes next. What does would queue
// for the product's lock, and take it from the worker where the callers are now.
const abandonAfter = time.Second

var errAbandoned = errors.New("nobody waits for the tenure any more")

// get returns the tenure of a product, and begins one if there is none. A
// beginning tenure is shared by all who ask, and goes on for a while when they leave.
// With create != nil a product that no shard knows is created with that amount.
func (ts *tenures) get(ctx context.Context, productID string, create *ledger.Product) (*tenure, error) {
	for {
		s, ready, err := ts.slot(ctx, productID, create)
		if err != nil {
			return nil, err
		}
		if !ready {
			select {
			case <-s.ready:
			case <-ctx.Done():
				ts.leave(s)
				return nil, &LockError{cause: ctx.Err()}
			}
			ts.leave(s)
		}
		if !errors.Is(s.err, errAbandoned) { // which it was before this caller came
			return s.tenure, s.err
		}
	}
}

// leave is called by each caller that was given a slot which was not ready.
func (ts *tenures) leave(s *slot) {
	ts.mu.Lock()
	defer ts.mu.Unlock()
	s.wanted--
	if s.wanted > 0 || s.isReady() {
		return
	}
	time.AfterFunc(abandonAfter, func() {
		ts.mu.Lock()
		defer ts.mu.Unlock()
		if s.wanted == 0 && s.giveUp != nil {
			s.giveUp(errAbandoned) // means nothing once it has begun
		}
	})
}

func (ts *tenures) slot(caller context.Context, productID string, create *ledger.Product) (s *slot, ready bool, err error) {
	ts.mu.Lock()
	defer ts.mu.Unlock()
	if s := ts.byProduct[productID]; s != nil {
		if s.isReady() {
			return s, true, nil
		}
		s.wanted++
		return s, false, nil
	}
	if ts.draining {
		return nil, false, ErrDraining
	}
	productID = strings.Clone(productID) // it outlives the message in which it came
	ctx, giveUp := context.WithCancelCause(traces.With(ts.starting, traces.Recorded(caller)))
	s = &slot{ready: make(chan struct{}), wanted: 1, giveUp: giveUp}
	ts.byProduct[productID] = s
	ts.wg.Go(func() { ts.run(ctx, s, productID, create) })
	return s, false, nil
}

// run begins the tenure of a slot.
func (ts *tenures) run(ctx context.Context, s *slot, productID string, create *ledger.Product) {
	s.tenure, s.err = ts.begin(ctx, productID, create)
	if s.err != nil {
		switch {
		case ts.starting.Err() != nil:
			s.err = ErrDraining // whatever it was doing when it was told to stop
		case errors.Is(context.Cause(ctx), errAbandoned):
			s.err = errAbandoned
		}
		ts.remove(productID)
	} else {
		ts.watch(s.tenure)
	}
	close(s.ready)
	ts.mu.Lock()
	defer ts.mu.Unlock()
	s.giveUp(nil)
	s.giveUp = nil // for as long as the product is held, nobody can
}

// watch ends a tenure that begins when it is idle, or when another worker has waited for
// the minimum, and hands its product over when it has ended for whatever reason.
func (ts *tenures) watch(t *tenure) {
	ts.metrics.tenures.Inc()
	t.follower = ts.follower
	t.onEnd = func() { ts.wg.Go(func() { ts.handOver(t) }) }
	t.stopWhenIdle(ts.idle)
	t.lock.OnContended(func() {
		if rest := ts.minimum - time.Since(t.began); rest > 0 {
			time.AfterFunc(rest, t.stop)
			return
		}
		t.stop()
	})
}

// stopWhenIdle ends the tenure when it was not used for so long.
func (t *tenure) stopWhenIdle(limit time.Duration) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.idle = time.AfterFunc(limit, func() {
		t.mu.Lock()
		defer t.mu.Unlock()
		if t.ended {
			return
		}
		if rest := limit - time.Since(t.lastUsed); rest > 0 {
			t.idle.Reset(rest)
			return
		}
		t.end()
	})
}

// handOver gives back the lock of a tenure that has ended.
func (ts *tenures) handOver(t *tenure) {
	defer ts.metrics.tenures.Dec()
	t.awaitSettled(handoverGrace)
	release(ts.starting, t.lock)
	<-t.settled
	ts.remove(t.product.ProductID)
	close(t.gone)
}

// handoverGrace is how long the next holder waits for this one's last batch. A
// batch that takes longer, on a shard that this worker cannot reach say, meets
// the next fence: what it stored before is counted there, later it stores nothing.
const handoverGrace = 500 * time.Millisecond

func (t *tenure) awaitSettled(timeout time.Duration) {
	timer := time.NewTimer(timeout)
	defer timer.Stop()
	select {
	case <-t.settled:
	case <-timer.C:
	}
}

// alive is asked before a product's lock is renewed. An idle tenure is alive; one
// whose sales do not settle is not, and its lock goes to whoever wants it.
func (ts *tenures) alive(productID string) bool {
	ts.mu.Lock()
	s := ts.byProduct[productID]
	ts.mu.Unlock()
	return s == nil || !s.isReady() || s.tenure == nil || !s.tenure.stuck()
}

func (ts *tenures) remove(productID string) {
	ts.mu.Lock()
	defer ts.mu.Unlock()
	delete(ts.byProduct, productID)
}

const (
	// handoverSteps is in how many steps, about, a worker that stops lets go of its
	// products. Those whose turn has not come are sold meanwhile: a buyer waits for the
	// handover of his product, and not for that of all.
	handoverSteps = 100
	// handoversAtOnce is the least that a step takes.
	handoversAtOnce = 4
)

// drain refuses new tenures, ends those that there are in so many steps, and waits
// until all have settled and released. When ctx ends it gives up waiting.
func (ts *tenures) drain(ctx context.Context, steps int) error {
	slots := ts.refuse()
	var handovers errgroup.Group
	handovers.SetLimit(max(handoversAtOnce, len(slots)/steps))
	for _, s := range slots {
		handovers.Go(func() error { return s.end(ctx) })
	}
	if err := handovers.Wait(); err != nil {
		return fmt.Errorf("drain tenures: %w", err)
	}
	ts.wg.Wait() // for nothing but the last steps of what has ended
	return nil
}

// refuse has no tenure begin any more, and returns what there is. What is still
// beginning ends with the context that it began under.
func (ts *tenures) refuse() []*slot {
	ts.mu.Lock()
	defer ts.mu.Unlock()
	ts.draining = true
	return slices.Collect(maps.Values(ts.byProduct))
}

// end ends the tenure, if it has one, also when ctx has ended, and waits until it is gone.
func (s *slot) end(ctx context.Context) error {
	<-s.ready // soon, for its context has ended
	if s.tenure == nil {
		return nil
	}
	s.tenure.stop()
	select {
	case <-s.tenure.gone:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// sell has a purchase decided in the product's tenure, or in the next one when that ends
// before it has an answer. The buyer is told once, perhaps before sell returns.
func (ts *tenures) sell(p Purchase, b buyer) {
	if t := ts.ready(p.ProductID); t == nil || !ts.admitted(t, p, b) {
		go ts.sellLater(p, b)
	}
}

// buyer waits for a purchase.
type buyer interface {
	// Context ends when he waits no longer.
	Context() context.Context
	told(*ledger.Purchase, error)
}

// ready returns the product's tenure if it sells.
func (ts *tenures) ready(productID string) *tenure {
	ts.mu.Lock()
	defer ts.mu.Unlock()
	if s := ts.byProduct[productID]; s != nil && s.isReady() {
		return s.tenure
	}
	return nil
}

// admitted admits a purchase in a tenure unless that has ended.
func (ts *tenures) admitted(t *tenure, p Purchase, b buyer) bool {
	err := t.admit(p, func(stored *ledger.Purchase, err error) {
		if errors.Is(err, errTenureEnded) {
			go ts.sellNext(t, p, b)
			return
		}
		b.told(stored, err)
	})
	switch {
	case errors.Is(err, errTenureEnded):
		return false
	case err != nil:
		b.told(nil, err)
	}
	return true
}

// sellLater has a tenure begin if need be.
func (ts *tenures) sellLater(p Purchase, b buyer) {
	t, err := ts.get(traces.With(b.Context(), p.span), p.ProductID, nil)
	if err != nil {
		b.told(nil, err)
		return
	}
	if !ts.admitted(t, p, b) {
		ts.sellNext(t, p, b)
	}
}

// sellNext waits for the end of a tenure that admits no more.
func (ts *tenures) sellNext(ended *tenure, p Purchase, b buyer) {
	if err := ended.awaitGone(b.Context()); err != nil {
		b.told(nil, err)
		return
	}
	ts.sellLater(p, b)
}

// awaitGone waits until the next tenure of the product may begin.
func (t *tenure) awaitGone(ctx context.Context) error {
	select {
	case <-t.gone:
		return nil
	case <-ctx.Done():
		return &LockError{cause: ctx.Err()}
	}
}
