package worker

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"
)

// tenures are the tenures of a worker: at most one of each product, begun when
// a purchase first needs it.
type tenures struct {
	begin    func(ctx context.Context, productID string, create int64) (*tenure, error)
	minimum  time.Duration // how long a tenure lasts though others want the product
	idle     time.Duration // how long it lasts without use
	metrics  *metrics
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

	wanted int // callers that wait for it to be ready; guarded by tenures.mu
	giveUp context.CancelCauseFunc
}

// abandonAfter is how long a tenure goes on beginning when nobody waits for it any
// more. What takes no longer is of use to whoever comes next. What does would queue
// for the product's lock, and take it from the worker where the callers are now.
const abandonAfter = time.Second

var errAbandoned = errors.New("nobody waits for the tenure any more")

// get returns the tenure of a product, and begins one if there is none. A
// beginning tenure is shared by all who ask, and goes on for a while when they leave.
// With create > 0 a product that no shard knows is created with that amount.
func (ts *tenures) get(ctx context.Context, productID string, create int64) (*tenure, error) {
	for {
		s, ready, err := ts.slot(productID, create)
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
	select {
	case <-s.ready:
		return
	default:
	}
	if s.wanted == 0 {
		time.AfterFunc(abandonAfter, func() {
			ts.mu.Lock()
			defer ts.mu.Unlock()
			if s.wanted == 0 {
				s.giveUp(errAbandoned) // means nothing once it has begun
			}
		})
	}
}

func (ts *tenures) slot(productID string, create int64) (s *slot, ready bool, err error) {
	ts.mu.Lock()
	defer ts.mu.Unlock()
	if s := ts.byProduct[productID]; s != nil {
		select {
		case <-s.ready:
			return s, true, nil
		default:
			s.wanted++
			return s, false, nil
		}
	}
	if ts.draining {
		return nil, false, ErrDraining
	}
	ctx, giveUp := context.WithCancelCause(ts.starting)
	s = &slot{ready: make(chan struct{}), wanted: 1, giveUp: giveUp}
	ts.byProduct[productID] = s
	ts.wg.Go(func() { ts.run(ctx, s, productID, create) })
	return s, false, nil
}

// run begins the tenure of a slot. Its life is another goroutine's: to begin takes a deep
// stack, which would be kept for as long as the product.
func (ts *tenures) run(ctx context.Context, s *slot, productID string, create int64) {
	defer s.giveUp(nil)
	s.tenure, s.err = ts.begin(ctx, productID, create)
	if s.err != nil {
		switch {
		case ts.starting.Err() != nil:
			s.err = ErrDraining // whatever it was doing when it was told to stop
		case errors.Is(context.Cause(ctx), errAbandoned):
			s.err = errAbandoned
		}
		ts.remove(productID)
		close(s.ready)
		return
	}
	ts.wg.Go(func() { ts.live(s, productID) })
	close(s.ready)
}

// live is a tenure from when it sells until its lock is given back.
func (ts *tenures) live(s *slot, productID string) {
	ts.metrics.tenures.Inc()
	defer ts.metrics.tenures.Dec()
	ts.guard(s.tenure)
	s.tenure.awaitSettled(handoverGrace)
	release(ts.starting, s.tenure.lock)
	<-s.tenure.settled
	ts.remove(productID)
	close(s.tenure.gone)
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
	if s == nil {
		return true
	}
	select {
	case <-s.ready:
		return s.tenure == nil || !s.tenure.stuck()
	default:
		return true
	}
}

func (ts *tenures) remove(productID string) {
	ts.mu.Lock()
	defer ts.mu.Unlock()
	delete(ts.byProduct, productID)
}

// guard returns once the tenure has ended, which it brings about itself when
// the tenure is idle, or when another worker waits.
func (ts *tenures) guard(t *tenure) {
	defer t.stop()
	idle := time.NewTimer(ts.idle)
	defer idle.Stop()
	contended := t.lock.Contended()
	var minimum <-chan time.Time
	for {
		select {
		case <-t.over:
			return
		case <-contended:
			contended, minimum = nil, time.After(ts.minimum-time.Since(t.began))
		case <-minimum:
			return
		case <-idle.C:
			rest := ts.idle - time.Since(t.idleSince())
			if rest <= 0 {
				return
			}
			idle.Reset(rest)
		}
	}
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

// sell admits a purchase in the current tenure, or in the next one when that
// ends before it has an answer.
func (ts *tenures) sell(ctx context.Context, p Purchase) (*sale, error) {
	for {
		t, err := ts.get(ctx, p.ProductID, 0)
		if err != nil {
			return nil, err
		}
		s, err := t.admit(p)
		if err == nil {
			err = s.wait(ctx)
		}
		if !errors.Is(err, errTenureEnded) {
			return s, err
		}
		if err := t.awaitGone(ctx); err != nil {
			return nil, err
		}
	}
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

// wait returns the sale's own error, or ctx's when the caller cannot wait any
// longer; the sale goes on without him.
func (s *sale) wait(ctx context.Context) error {
	select {
	case <-s.done:
		return s.err
	case <-ctx.Done():
		return fmt.Errorf("wait for purchase: %w", ctx.Err())
	}
}
