package worker

import (
	"context"
	"errors"
	"sync/atomic"
	"testing"

	"github.com/google/uuid"
	"github.com/hashicorp/go-hclog"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/holdfast-io/holdfast/worker/ledger"
)

// fakeShard is a shard whose answers are the test's.
type fakeShard struct {
	shard  // what no test asks of it
	name   string
	commit func([]*ledger.Purchase) ([]ledger.Outcome, error)
	verify func([]ledger.Check) ([]ledger.Checked, error)
	raise  func([]ledger.Fence) ([]ledger.Raised, error)
	away   atomic.Bool // does not answer pings
}

func (f *fakeShard) Name() string { return f.name }

func (f *fakeShard) Commit(_ context.Context, rows []*ledger.Purchase) ([]ledger.Outcome, error) {
	return f.commit(rows)
}

func (f *fakeShard) Verify(_ context.Context, checks []ledger.Check) ([]ledger.Checked, error) {
	return f.verify(checks)
}

func (f *fakeShard) RaiseAll(_ context.Context, fences []ledger.Fence) ([]ledger.Raised, error) {
	return f.raise(fences)
}

func (f *fakeShard) Ping(context.Context) error {
	if f.away.Load() {
		return errNotSent
	}
	return nil
}

// errTransient is the refusal of a batch that waited for a row lock too long.
var errTransient error = &ledger.RefusedError{PgError: &pgconn.PgError{Code: "55P03"}}

// What a shard may say of a batch as a whole.
var (
	errRefused error = &ledger.RefusedError{PgError: &pgconn.PgError{Code: "23514"}}
	errNotSent       = ledger.ErrNotSent
	errUnknown       = ledger.ErrAmbiguous
)

// all answers every purchase of a batch alike.
func all(outcome ledger.Outcome) func([]*ledger.Purchase) ([]ledger.Outcome, error) {
	return func(rows []*ledger.Purchase) ([]ledger.Outcome, error) {
		outcomes := make([]ledger.Outcome, len(rows))
		for i := range outcomes {
			outcomes[i] = outcome
		}
		return outcomes, nil
	}
}

func fails(err error) func([]*ledger.Purchase) ([]ledger.Outcome, error) {
	return func([]*ledger.Purchase) ([]ledger.Outcome, error) { return nil, err }
}

// says answers every check alike.
func says(answer ledger.Checked) func([]ledger.Check) ([]ledger.Checked, error) {
	return func(checks []ledger.Check) ([]ledger.Checked, error) {
		answers := make([]ledger.Checked, len(checks))
		for i := range answers {
			answers[i] = answer
		}
		return answers, nil
	}
}

// bench is a tenure on the fake shards eu and us. Nothing moves in its lanes
// unless the test moves it.
type bench struct {
	*tenure
	eu, us *fakeShard
}

func newBench(available int64) *bench {
	b := &bench{eu: &fakeShard{name: "eu"}, us: &fakeShard{name: "us"}}
	b.tenure = tenureOn(newLanes([]shard{b.eu, b.us}, hclog.NewNullLogger(), newMetrics(prometheus.NewRegistry())), "p", available)
	return b
}

func tenureOn(lanes *lanes, product string, available int64) *tenure {
	f := ledger.Fence{ProductID: product, Topology: 1, Token: 7, TenureID: uuid.New()}
	released := make([]int64, len(lanes.order))
	return newTenure(f, ledger.Product{ProductID: product, AmountInStorage: available}, available, released, nil, lanes)
}

// commitIn carries what waits in a lane to its shard, and the answer back.
func (b *bench) commitIn(f *fakeShard, answer func([]*ledger.Purchase) ([]ledger.Outcome, error)) {
	f.commit = answer
	l := b.lanes.byShard[f.name]
	l.commit(context.Background(), l.commits.take(1))
}

// verifyIn carries the checks that wait in a lane to its shard, and the answer back. What
// is asked of the other shard is answered before: nothing new there.
func (b *bench) verifyIn(f *fakeShard, answer func([]ledger.Check) ([]ledger.Checked, error)) {
	for _, each := range []*fakeShard{b.eu, b.us} {
		if each != f {
			each.verify = says(ledger.Checked{Current: true})
			b.verify(each)
		}
	}
	f.verify = answer
	b.verify(f)
}

func (b *bench) verify(f *fakeShard) {
	l := b.lanes.byShard[f.name]
	if checks := l.checks.take(1); checks != nil {
		l.verify(context.Background(), checks)
	}
}

// bought is a purchase that was admitted, and what its buyer was told.
type bought struct {
	Purchase
	sale   *sale // as long as it is on its way when the buyer comes
	done   chan struct{}
	stored *ledger.Purchase
	err    error
}

// purchaseIn admits a purchase in a tenure.
func purchaseIn(tenure *tenure, p Purchase) (*bought, error) {
	b := &bought{Purchase: p, done: make(chan struct{})}
	err := tenure.admit(p, b.told)
	tenure.mu.Lock()
	defer tenure.mu.Unlock()
	b.sale = tenure.pending.find(saleKey{p.Region, p.RequestID})
	return b, err
}

func (b *bought) told(stored *ledger.Purchase, err error) {
	b.stored, b.err = stored, err
	close(b.done)
}

func (b *bought) wait(ctx context.Context) error {
	select {
	case <-b.done:
		return b.err
	case <-ctx.Done():
		return ctx.Err()
	}
}

// customer is a buyer who waits as long as his context lasts.
type customer struct {
	ctx context.Context
	bought
}

func (c *customer) Context() context.Context { return c.ctx }

// sellTo sells to a customer, and waits.
func sellTo(ctx context.Context, sell func(buyer)) (*ledger.Purchase, error) {
	c := &customer{ctx: ctx, bought: bought{done: make(chan struct{})}}
	sell(c)
	<-c.done
	return c.stored, c.err
}

// buy admits a purchase of amount units in eu.
func (b *bench) buy(t *testing.T, request string, amount int64) *bought {
	t.Helper()
	return mustAdmit(t, b.tenure, wish("eu", request, amount))
}

func mustAdmit(t *testing.T, tenure *tenure, p Purchase) *bought {
	t.Helper()
	p.ProductID = tenure.product.ProductID
	b, err := purchaseIn(tenure, p)
	if err != nil {
		t.Fatalf("admit %s: %v", p.RequestID, err)
	}
	return b
}

func wish(region, request string, amount int64) Purchase {
	return Purchase{ProductID: "p", Region: region, RequestID: request, Amount: amount, CustomerID: "ann"}
}

// wantPending fails if the sale has its answer.
func wantPending(t *testing.T, s *bought) {
	t.Helper()
	if isClosed(s.done) {
		t.Fatalf("%s has its answer already: %v, %v", s.RequestID, s.stored, s.err)
	}
}

// wantSold fails unless the sale's answer is a stored purchase.
func wantSold(t *testing.T, s *bought) {
	t.Helper()
	if !isClosed(s.done) || s.err != nil || s.stored == nil {
		t.Fatalf("%s: answered %t with %v, %v; want it sold", s.RequestID, isClosed(s.done), s.stored, s.err)
	}
}

// wantFailed fails unless the sale's answer is an error of this kind.
func wantFailed(t *testing.T, s *bought, want error) {
	t.Helper()
	if !isClosed(s.done) || !errors.Is(s.err, want) {
		t.Fatalf("%s: answered %t with %v, want %v", s.RequestID, isClosed(s.done), s.err, want)
	}
}

func wantRefused(t *testing.T, s *bought, available int64) {
	t.Helper()
	var stock *InsufficientStockError
	if !isClosed(s.done) || !errors.As(s.err, &stock) || stock.Available != available {
		t.Fatalf("%s: answered %t with %v, want it refused with %d available",
			s.RequestID, isClosed(s.done), s.err, available)
	}
}

func (b *bench) wantUnits(t *testing.T, available, inFlight int64) {
	t.Helper()
	if b.available != available || b.inFlight != inFlight {
		t.Fatalf("%d available and %d in flight, want %d and %d", b.available, b.inFlight, available, inFlight)
	}
}

func (b *bench) wantEnded(t *testing.T, settled bool) {
	t.Helper()
	if !isClosed(b.over) || b.hasSettled() != settled {
		t.Fatalf("ended %t, settled %t; want ended, settled %t", isClosed(b.over), b.hasSettled(), settled)
	}
}

// hasSettled is false for a tenure that has not ended.
func (t *tenure) hasSettled() bool { return t.settled != nil && isClosed(t.settled) }

func isClosed(c <-chan struct{}) bool {
	select {
	case <-c:
		return true
	default:
		return false
	}
}
