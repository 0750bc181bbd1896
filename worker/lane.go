package worker

import (
	"context"
	"errors"
	"maps"
	"slices"
	"time"

	"github.com/hashicorp/go-hclog"
	"go.opentelemetry.io/otel/trace"
	"golang.org/x/sync/errgroup"

	"github.com/holdfast-io/holdfast/api/link"
	"github.com/holdfast-io/holdfast/api/traces"
	"github.com/holdfast-io/holdfast/worker/ledger"
)

const (
	maxBatch = ledger.MaxBatch // purchases in one transaction, and checks in one read
	// batchesAtOnce is how many batches of purchases are under way to a shard at most, and
	// farAway after what time the next one is sent although it is not whole: to a shard in
	// another region. Near ones answer sooner, and few large batches cost them less.
	batchesAtOnce = 4
	farAway       = 20 * time.Millisecond
	batchTimeout  = 5 * time.Second  // until a commit that is not answered counts as ambiguous
	stuckAfter    = 4 * batchTimeout // until a tenure whose sales do not settle loses its lock
)

// shard is what a lane needs of its shard. Errors are those of ledger.Shard.
type shard interface {
	Name() string
	Commit(context.Context, []*ledger.Purchase) ([]ledger.Outcome, error)
	Verify(context.Context, []ledger.Check) ([]ledger.Checked, error)
	RaiseAll(context.Context, []ledger.Fence) ([]ledger.Raised, error)
	PutProducts(context.Context, []ledger.Put) ([]bool, error)
	TheseProducts(ctx context.Context, ids []string) ([]*ledger.Product, error)
	Readmit(context.Context, ledger.Readmission) (ledger.Outcome, error)
	TakeAway(context.Context, ledger.Fence, *ledger.Delivery) (ledger.Outcome, error)
	Change(context.Context, [][]ledger.Change) ([][]ledger.Changed, error)
	Ping(context.Context) error
}

// lane carries the purchases of all tenures to one shard, and what tenures need to
// begin. Of each kind one batch is under way at a time, of purchases up to four, and what
// comes meanwhile gathers: a worker with a thousand tenures to begin needs one connection
// for them.
type lane struct {
	shard    shard
	contact  *contact
	commits  queue[*sale]
	specials queue[*sale]
	changes  queue[changing]
	checks   queue[check]
	fences   queue[raising]
	puts     queue[putting]
	products queue[reading]
	metrics  laneMetrics
	log      hclog.Logger
}

// lanes are the lanes of a worker, by shard.
type lanes struct {
	byShard map[string]*lane
	order   []*lane // in the order of the topology
	batches int     // of purchases that may be under way to each shard
}

func newLanes(shards []shard, log hclog.Logger, m *metrics) *lanes {
	ls := &lanes{byShard: map[string]*lane{}, batches: batchesAtOnce}
	for _, s := range shards {
		l := &lane{
			shard: s, log: log.With("shard", s.Name()), metrics: m.ofShard(s.Name()),
			commits:  newQueue[*sale](),
			specials: newQueue[*sale](),
			changes:  newQueue[changing](),
			checks:   newQueue[check](),
			fences:   newQueue[raising](),
			puts:     newQueue[putting](),
			products: newQueue[reading](),
		}
		l.contact = newContact(s, l.log)
		ls.byShard[s.Name()] = l
		ls.order = append(ls.order, l)
	}
	return ls
}

// run works until ctx ends. What is still queued then is not answered, so
// tenures must have settled before.
func (ls *lanes) run(ctx context.Context) {
	var g errgroup.Group
	for _, l := range ls.order {
		g.Go(func() error { l.contact.watch(ctx); return nil })
		g.Go(func() error { l.commits.drain(ctx, ls.batches, l.commit); return nil })
		g.Go(func() error { l.specials.drain(ctx, 1, l.commitSpecials); return nil })
		g.Go(func() error { l.changes.drain(ctx, 1, l.change); return nil })
		g.Go(func() error { l.checks.drain(ctx, 1, l.verify); return nil })
		g.Go(func() error { l.fences.drain(ctx, 1, l.raise); return nil })
		g.Go(func() error { l.puts.drain(ctx, 1, l.put); return nil })
		g.Go(func() error { l.products.drain(ctx, 1, l.read); return nil })
	}
	_ = g.Wait()
}

func (ls *lanes) commit(s *sale) {
	if s.special != nil {
		ls.byShard[s.region].specials.put(s)
		return
	}
	ls.byShard[s.region].commits.put(s)
}

// verify asks the sale's own shard, which knows its first outcome.
func (ls *lanes) verify(s *sale) {
	ls.byShard[s.region].checks.put(check{
		asked:  s.check(s.region),
		answer: func(c ledger.Checked, err error) { s.tenure.verified(s, c, err) },
		span:   s.span,
	})
}

// check asks a shard about the sale's tenure, and its own one about its request.
func (s *sale) check(shard string) ledger.Check {
	c := ledger.Check{ProductID: s.row.ProductID, TenureID: s.row.Fence.TenureID}
	if shard == s.region && s.special == nil {
		c.RequestID = s.row.RequestID
	}
	if s.limited != nil {
		c.CustomerID = s.row.CustomerID
	}
	return c
}

// commit stores a batch and tells each sale's tenure what became of it.
func (l *lane) commit(ctx context.Context, sales []*sale) {
	if sales = withoutLate(sales); len(sales) == 0 {
		return
	}
	rows := make([]*ledger.Purchase, len(sales))
	for i, s := range sales {
		rows[i] = &s.row
	}
	began := time.Now()
	traced, span := traces.Together(ctx, "commit batch", spansOf(sales),
		traces.Shard.String(l.shard.Name()), traces.Size.Int(len(sales)))
	var outcomes []ledger.Outcome
	err := l.contact.during(context.WithoutCancel(traced), batchTimeout, func(ctx context.Context) (err error) {
		outcomes, err = l.shard.Commit(ctx, rows)
		return err
	})
	traces.End(span, err)
	l.metrics.committed(len(sales), began, err)
	if parts := split(sales, err); len(parts) > 1 {
		traces.Log(traced, l.log).Warn("batch refused, splitting it", "purchases", len(sales), "parts", len(parts), "error", err)
		for _, part := range parts {
			l.commit(ctx, part)
		}
		return
	}
	l.settle(traced, sales, outcomes, err)
}

// spansOf are those of the sales that are recorded.
func spansOf(sales []*sale) (spans []trace.Span) {
	for _, s := range sales {
		if s.span != nil {
			spans = append(spans, s.span)
		}
	}
	return spans
}

// withoutLate returns the sales that may still be decided, and tells the tenures of the
// others.
func withoutLate(sales []*sale) []*sale {
	now := time.Now()
	return slices.DeleteFunc(sales, func(s *sale) bool {
		late := s.isLate(now)
		if late {
			s.tenure.committed(s, ledger.Fenced, link.ErrLate)
		}
		return late
	})
}

// commitSpecials commits what is no new purchase, one after the other: there is little of it.
func (l *lane) commitSpecials(ctx context.Context, sales []*sale) {
	for _, s := range withoutLate(sales) {
		outcomes := make([]ledger.Outcome, 1)
		within := context.WithoutCancel(traces.With(ctx, s.span))
		err := l.contact.during(within, batchTimeout, func(ctx context.Context) (err error) {
			outcomes[0], err = s.special(ctx, l.shard, *s.row.Fence)
			return err
		})
		l.settle(within, []*sale{s}, outcomes, err)
	}
}

// settle tells each sale's tenure what became of the sale.
func (l *lane) settle(ctx context.Context, sales []*sale, outcomes []ledger.Outcome, err error) {
	if err != nil {
		if !isContactLost(err) {
			traces.Log(ctx, l.log).Error("batch not stored", "purchases", len(sales), "error", err)
		}
		err = &ShardError{Shard: l.shard.Name(), cause: err}
	}
	if errors.Is(err, ledger.ErrAmbiguous) {
		err = l.doubt(ctx, sales, err)
	}
	for i, s := range sales {
		if err != nil {
			s.tenure.committed(s, ledger.Fenced, err)
			continue
		}
		if outcomes[i] == ledger.Fenced {
			l.metrics.fenceRefusals.Inc()
		}
		s.tenure.committed(s, outcomes[i], nil)
	}
}

// errInDoubt says that a purchase may be stored, and that nobody can tell at
// present because its shard does not answer.
var errInDoubt = errors.New("stored or not, the shard does not answer")

// doubt decides what an ambiguous batch does to its tenures. A new token would
// tell what became of it, and needs all shards; so while this one does not answer,
// the tenures go on with the batch's units counted, for the other shards' sake.
func (l *lane) doubt(ctx context.Context, sales []*sale, ambiguous error) error {
	lack := l.contact.ask(context.WithoutCancel(ctx))
	if lack.Err() != nil {
		return ambiguous
	}
	for _, s := range sales {
		context.AfterFunc(lack, s.tenure.stop)
	}
	return &ShardError{Shard: l.shard.Name(), cause: errInDoubt}
}

// split returns the parts in which a refused batch is tried again. What a single
// purchase is to blame for is found by halving. A lock that was not had in time
// is to blame on a whole product, and each attempt takes as long again, so
// products are told apart at once and their purchases stay together.
func split(sales []*sale, err error) [][]*sale {
	var refused *ledger.RefusedError
	switch {
	case !errors.As(err, &refused):
		return nil
	case !refused.Transient():
		half := len(sales) / 2
		return slices.DeleteFunc([][]*sale{sales[:half], sales[half:]}, func(part []*sale) bool { return len(part) == 0 })
	}
	byProduct := map[string][]*sale{}
	for _, s := range sales {
		byProduct[s.row.ProductID] = append(byProduct[s.row.ProductID], s)
	}
	return slices.Collect(maps.Values(byProduct))
}

// change changes purchases. Of what the shard refuses each set has to answer for itself.
func (l *lane) change(ctx context.Context, sets []changing) {
	answers, err := ask(ctx, l, sets, l.shard.Change)
	if len(sets) == 1 || !errors.As(err, new(*ledger.RefusedError)) {
		tell(sets, answers, err)
		return
	}
	for i := range sets {
		answerAll(ctx, l, sets[i:i+1], l.shard.Change)
	}
}

func (l *lane) verify(ctx context.Context, checks []check) {
	answerAll(ctx, l, checks, l.shard.Verify)
}

func (l *lane) read(ctx context.Context, ids []reading) {
	answerAll(ctx, l, ids, l.shard.TheseProducts)
}

// raise raises the fences of tenures that begin.
func (l *lane) raise(ctx context.Context, fences []raising) {
	answerApart(ctx, l, &l.fences, fences, func(f ledger.Fence) string { return f.ProductID }, l.shard.RaiseAll)
}

// put stores products that are new to the shard.
func (l *lane) put(ctx context.Context, puts []putting) {
	answerApart(ctx, l, &l.puts, puts, func(p ledger.Put) string { return p.Fence.ProductID }, l.shard.PutProducts)
}

// answerApart asks the shard what changes fences. When it refuses a batch, that is the
// fault of one product, whose fence somebody keeps locked, say: then each waits for
// its own. Of one product there is one question at a time: a tenure that was given
// up may still be queued when the next one begins.
func answerApart[Q, A any](
	ctx context.Context, l *lane, q *queue[question[Q, A]], questions []question[Q, A],
	product func(Q) string, do func(context.Context, []Q) ([]A, error),
) {
	var now []question[Q, A]
	seen := make(map[string]bool, len(questions))
	for _, each := range questions {
		if id := product(each.asked); seen[id] {
			q.put(each)
		} else {
			seen[id] = true
			now = append(now, each)
		}
	}
	answers, err := ask(ctx, l, now, do)
	if len(now) == 1 || !errors.As(err, new(*ledger.RefusedError)) {
		tell(now, answers, err)
		return
	}
	var each errgroup.Group
	each.SetLimit(askedAlone)
	for i := range now {
		each.Go(func() error { answerAll(ctx, l, now[i:i+1], do); return nil })
	}
	_ = each.Wait()
}

// askedAlone is how many questions of a refused batch are asked at the same time. The
// pool has more connections than they and the other queues need.
const askedAlone = 2
