package worker

import (
	"errors"
	"sync"
	"time"

	"github.com/holdfast-io/holdfast/api/link"
	"github.com/holdfast-io/holdfast/lockmgr"
	"github.com/holdfast-io/holdfast/worker/ledger"
)

// errTenureEnded tells a purchase to ask for the next tenure of its product.
var errTenureEnded = errors.New("tenure has ended")

// tenure sells one product under one token. A worker may have a hundred thousand that
// nobody buys of, so it has no goroutine while it sells, and no memory that its sales
// alone need.
type tenure struct {
	fence   ledger.Fence
	product ledger.Product
	lock    *lockmgr.Lock
	lanes   *lanes
	began   time.Time
	over    chan struct{} // closed when the tenure admits no more
	onEnd   func()        // called once when that is so; set before anything is admitted

	follower *follower // nil when the worker has no region; set before anything is admitted

	mu        sync.Mutex
	available int64   // units that may still be admitted
	released  []int64 // units that each shard has given back, as far as is known; of available
	inFlight  int64   // units sent to a lane and not settled
	doubtful  int64   // units that may be stored in a shard that does not answer
	doubt     error   // what those are told who would need them
	unsettled int     // sales sent to a lane, to commit or to verify
	pending   pending
	waiting   []*sale    // would fit if something in flight failed, oldest first
	customers *customers // nil when nothing limits them
	ended     bool
	lastUsed  time.Time
	demand    *demand     // nil until there is some to be followed
	idle      *time.Timer // looks at lastUsed at times; nil when nothing does
	moved     time.Time   // when a sale was last sent to an idle tenure, or settled

	// Made when the tenure ends.
	settled chan struct{} // closed when nothing is unsettled
	gone    chan struct{} // closed when its lock is released as well
}

func newTenure(
	f ledger.Fence, p ledger.Product, available int64, released []int64, lock *lockmgr.Lock, lanes *lanes,
) *tenure {
	now := time.Now()
	return &tenure{
		fence: f, product: p, available: available, released: released, lock: lock, lanes: lanes,
		customers: newCustomers(&p), began: now, lastUsed: now, over: make(chan struct{}), onEnd: func() {},
	}
}

// admit takes a purchase in, or joins the one with the same request id that is
// on its way, and has the buyer told. It returns errTenureEnded or errRequestIDReused;
// then he is not told.
func (t *tenure) admit(p Purchase, buyer told) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.ended {
		return errTenureEnded
	}
	t.lastUsed = time.Now()
	if t.follower != nil {
		t.follow(p.From)
	}
	if s := t.pending.find(saleKey{p.Region, p.RequestID}); s != nil {
		if !sameContent(&s.row, p) {
			return errRequestIDReused
		}
		s.others = append(s.others, buyer)
		if s.until.Before(p.Until) {
			s.until = p.Until
		}
		return nil
	}
	if limit := t.product.MaxPerPurchase; limit != nil && p.Amount > *limit && p.special == nil {
		return &LimitError{Limit: maxPerPurchase, Max: *limit}
	}
	s := &sale{
		region: p.Region, row: p.row(&t.fence), special: p.special, until: p.Until, tenure: t, span: p.span, first: buyer,
	}
	t.pending.add(s)
	t.place(s)
	return nil
}

// verdict is what admission says of an amount.
type verdict int

const (
	fits     verdict = iota // may be sent
	mightFit                // would fit if something in flight failed
	unfit                   // does not fit whatever happens to what is in flight
)

func judge(amount, available, inFlight int64) verdict {
	switch {
	case amount <= available:
		return fits
	case amount <= available+inFlight:
		return mightFit
	}
	return unfit
}

// place sends a sale where it belongs now. Caller holds mu.
func (t *tenure) place(s *sale) {
	if t.unsettled == 0 {
		t.moved = time.Now()
	}
	now := time.Now()
	if s.isLate(now) {
		t.finish(s, nil, link.ErrLate)
		return
	}
	if s.special == nil && s.row.ExpireTime != nil && s.row.ExpireTime.Equal(link.PastHold) {
		// A hold cannot begin like that, but it may be a repetition of one that did not.
		s.past = true
		t.unsettled++
		t.lanes.verify(s)
		return
	}
	if !t.withinLimit(s) {
		return
	}
	switch judge(s.row.Amount, t.available, t.inFlight) {
	case fits:
		t.available -= s.row.Amount
		t.inFlight += s.row.Amount
		s.account = t.customers.of(s)
		s.account.count(s.row.Amount)
		t.unsettled++
		t.lanes.commit(s)
	case mightFit:
		t.waiting = append(t.waiting, s)
	case unfit:
		if s.row.Amount <= t.available+t.inFlight+t.doubtful {
			// Only the shard knows, and nobody is to wait for it: there may be many.
			t.finish(s, nil, t.doubt)
			return
		}
		s.short = shortage{t.available, t.available + t.inFlight, t.givenBack()}
		t.unsettled++
		t.lanes.recount(s)
	}
}

// isLate reports whether a sale must not be decided any more: the worker was paused, say, and
// the buyer may have been told what another one decided.
func (s *sale) isLate(now time.Time) bool { return !s.until.IsZero() && now.After(s.until) }

// givenBack is what is known to be given back. Caller holds mu.
func (t *tenure) givenBack() (units int64) {
	for _, r := range t.released {
		units += r
	}
	return units
}

// learn takes in what the shards have given back, in the order of the lanes. What is
// known only ever grows, and answers come in any order. Caller holds mu.
func (t *tenure) learn(released []int64) {
	for i, units := range released {
		if units > t.released[i] {
			t.available += units - t.released[i]
			t.released[i] = units
		}
	}
}

// committed is told by the lane what became of a sale that was sent.
func (t *tenure) committed(s *sale, outcome ledger.Outcome, err error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.unsettled--
	t.moved = time.Now()
	switch {
	case errors.Is(err, ledger.ErrAmbiguous), err == nil && outcome == ledger.Fenced:
		// The units stay counted: an unanswered commit may have happened.
		t.end()
		t.finish(s, nil, errTenureEnded)
		return
	case errors.Is(err, errInDoubt):
		// They stay counted here too, until the tenure ends with the doubt.
		t.inFlight -= s.row.Amount
		s.account.stored(s.row.Amount, true)
		t.doubtful += s.row.Amount
		t.doubt = err
		t.finish(s, nil, err)
	case err != nil:
		t.giveBack(s)
		t.finish(s, nil, err)
	case outcome == ledger.Inserted:
		t.inFlight -= s.row.Amount
		s.account.stored(s.row.Amount, false)
		t.finish(s, &s.row, nil)
	case outcome == ledger.Replayed && s.special != nil:
		t.giveBack(s)
		t.finish(s, nil, errTakenBefore)
	case outcome == ledger.Replayed:
		t.giveBack(s)
		s.replayed = true
		t.unsettled++
		t.lanes.verify(s)
	}
	t.retryWaiting()
}

func (t *tenure) giveBack(s *sale) {
	s.account.uncount(s.row.Amount)
	t.inFlight -= s.row.Amount
	t.available += s.row.Amount
}

// verified is told by the lane what a read of the sale's own shard says of a sale that met
// an earlier one, or that can only be a repetition.
func (t *tenure) verified(s *sale, c ledger.Checked, err error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.unsettled--
	t.moved = time.Now()
	switch {
	case err != nil:
		t.finish(s, nil, err)
	case t.repeats(s, c.First):
	case s.past && c.Current:
		t.finish(s, nil, errPastHold)
	default:
		t.end() // what it met is not there: the shard is another one than it was
		t.finish(s, nil, errTenureEnded)
	}
}

// repeats finishes a sale that repeats a purchase which is stored.
func (t *tenure) repeats(s *sale, first *ledger.Purchase) bool {
	switch {
	case first == nil:
		return false
	case sameContent(first, s.asPurchase()):
		t.finish(s, first, nil)
	default:
		t.finish(s, nil, errRequestIDReused)
	}
	return true
}

// recounted is told by the lanes what a read of every shard says of a sale that does not
// fit.
func (t *tenure) recounted(s *sale, r recount) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.unsettled--
	t.moved = time.Now()
	t.learn(r.released)
	more := t.givenBack() - s.short.released
	switch {
	case t.repeats(s, r.first):
	case !r.current:
		t.end()
		t.finish(s, nil, errTenureEnded)
	case r.err != nil:
		t.finish(s, nil, r.err)
	case s.limited != nil:
		t.limitRead(s, r.customer)
	case s.row.Amount > s.short.possible+more:
		t.finish(s, nil, &InsufficientStockError{Available: s.short.available + more})
	case t.ended:
		t.finish(s, nil, errTenureEnded)
	default:
		t.place(s)
	}
	if more > 0 {
		t.retryWaiting()
	}
}

// finish answers everybody who waits for the sale. Caller holds mu.
func (t *tenure) finish(s *sale, stored *ledger.Purchase, err error) {
	t.pending.remove(s)
	s.first(stored, err)
	for _, other := range s.others {
		other(stored, err)
	}
	t.signalSettled()
}

// retryWaiting places those that wait anew. Caller holds mu.
func (t *tenure) retryWaiting() {
	waiting := t.waiting
	t.waiting = nil
	for _, s := range waiting {
		t.place(s)
	}
}

// end stops admission. What is in a lane gets its own answer there; what waits
// goes to the next tenure. Caller holds mu.
func (t *tenure) end() {
	if t.ended {
		return
	}
	t.ended = true
	t.settled, t.gone = make(chan struct{}), make(chan struct{})
	close(t.over)
	if t.idle != nil {
		t.idle.Stop()
	}
	t.onEnd()
	for _, s := range t.waiting {
		t.finish(s, nil, errTenureEnded)
	}
	t.waiting = nil
	t.signalSettled()
}

// stop ends the tenure from outside.
func (t *tenure) stop() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.end()
}

func (t *tenure) signalSettled() {
	if !t.ended || t.unsettled > 0 {
		return
	}
	select {
	case <-t.settled:
	default:
		close(t.settled)
	}
}

// left is what may still be admitted now, with what the shards have given back.
func (t *tenure) left(released []int64) (available int64, ended bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.lastUsed = time.Now()
	t.learn(released)
	t.retryWaiting()
	return t.available, t.ended
}

// stuck reports whether something was sent and nothing was settled for longer
// than any batch may take.
func (t *tenure) stuck() bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.unsettled > 0 && time.Since(t.moved) > stuckAfter
}
