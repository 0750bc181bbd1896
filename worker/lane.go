package worker

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/hashicorp/go-hclog"
	"golang.org/x/sync/errgroup"

	"github.com/holdfast-io/holdfast/worker/ledger"
)

const (
	maxBatch     = 1000             // purchases in one transaction, and checks in one read
	batchTimeout = 5 * time.Second  // until a commit that is not answered counts as ambiguous
	stuckAfter   = 4 * batchTimeout // until a tenure whose sales do not settle loses its lock
)

// shard is what a lane needs of its shard. Errors are those of ledger.Shard.
type shard interface {
	Name() string
	Commit(context.Context, []*ledger.Purchase) ([]ledger.Outcome, error)
	Verify(context.Context, []ledger.Check) ([]ledger.Checked, error)
	Ping(context.Context) error
}

// lane carries the purchases of all tenures to one shard. One batch of commits
// and one of checks is under way at a time; what comes meanwhile gathers.
type lane struct {
	shard   shard
	contact *contact
	commits queue[*sale]
	checks  queue[check]
	log     hclog.Logger
}

// check is one question to a shard, and who wants the answer.
type check struct {
	ledger.Check
	answer func(ledger.Checked, error)
}

// lanes are the lanes of a worker, by shard.
type lanes struct {
	byShard map[string]*lane
	order   []*lane // in the order of the topology
}

func newLanes(shards []shard, log hclog.Logger) *lanes {
	ls := &lanes{byShard: map[string]*lane{}}
	for _, s := range shards {
		l := &lane{shard: s, log: log.With("shard", s.Name()), commits: newQueue[*sale](), checks: newQueue[check]()}
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
		g.Go(func() error { l.commits.drain(ctx, l.commit); return nil })
		g.Go(func() error { l.checks.drain(ctx, l.verify); return nil })
	}
	_ = g.Wait()
}

func (ls *lanes) commit(s *sale) { ls.byShard[s.region].commits.put(s) }

// verify asks the sale's own shard, which also knows its first outcome.
func (ls *lanes) verify(s *sale) {
	ls.byShard[s.region].checks.put(check{
		Check: ledger.Check{
			ProductID: s.row.ProductID, TenureID: s.row.TenureID, RequestID: s.row.RequestID,
		},
		answer: func(c ledger.Checked, err error) { s.tenure.verified(s, c, err) },
	})
}

// commit stores a batch and tells each sale's tenure what became of it.
func (l *lane) commit(ctx context.Context, sales []*sale) {
	rows := make([]*ledger.Purchase, len(sales))
	for i, s := range sales {
		rows[i] = &s.row
	}
	var outcomes []ledger.Outcome
	err := l.contact.during(context.WithoutCancel(ctx), batchTimeout, func(ctx context.Context) (err error) {
		outcomes, err = l.shard.Commit(ctx, rows)
		return err
	})
	if parts := split(sales, err); len(parts) > 1 {
		l.log.Warn("batch refused, splitting it", "purchases", len(sales), "parts", len(parts), "error", err)
		for _, part := range parts {
			l.commit(ctx, part)
		}
		return
	}
	if err != nil {
		if !isContactLost(err) {
			l.log.Error("batch not stored", "purchases", len(sales), "error", err)
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

func (l *lane) verify(ctx context.Context, checks []check) {
	questions := make([]ledger.Check, len(checks))
	for i, c := range checks {
		questions[i] = c.Check
	}
	var answers []ledger.Checked
	err := l.contact.during(context.WithoutCancel(ctx), batchTimeout, func(ctx context.Context) (err error) {
		answers, err = l.shard.Verify(ctx, questions)
		return err
	})
	if err != nil {
		if !isContactLost(err) {
			l.log.Error("shard not read", "checks", len(checks), "error", err)
		}
		err = &ShardError{Shard: l.shard.Name(), cause: err}
	}
	for i, c := range checks {
		if err != nil {
			c.answer(ledger.Checked{}, err)
			continue
		}
		c.answer(answers[i], nil)
	}
}

// current reports whether a tenure is current, by one read of any one shard
// that begins after the call: a newer tenure fences every shard before it does
// anything.
func (ls *lanes) current(ctx context.Context, f ledger.Fence) (bool, error) {
	var failures error
	for _, l := range ls.order {
		answered := make(chan struct{})
		var answer ledger.Checked
		var err error
		l.checks.put(check{
			Check:  ledger.Check{ProductID: f.ProductID, TenureID: f.TenureID},
			answer: func(c ledger.Checked, e error) { answer, err = c, e; close(answered) },
		})
		select {
		case <-answered:
		case <-ctx.Done():
			return false, fmt.Errorf("verify tenure: %w", ctx.Err())
		}
		if err == nil {
			return answer.Current, nil
		}
		failures = err
	}
	return false, failures
}

// queue gathers items while a batch of them is under way.
type queue[T any] struct {
	wake chan struct{} // has room for one: "there is something"

	mu    *sync.Mutex
	items []T
}

func newQueue[T any]() queue[T] {
	return queue[T]{wake: make(chan struct{}, 1), mu: &sync.Mutex{}}
}

func (q *queue[T]) put(item T) {
	q.mu.Lock()
	q.items = append(q.items, item)
	q.mu.Unlock()
	select {
	case q.wake <- struct{}{}:
	default:
	}
}

// take removes up to maxBatch items, the oldest first.
func (q *queue[T]) take() []T {
	q.mu.Lock()
	defer q.mu.Unlock()
	n := min(len(q.items), maxBatch)
	batch := q.items[:n:n]
	q.items = q.items[n:]
	return batch
}

// drain hands batches to work, one after the other, until ctx ends.
func (q *queue[T]) drain(ctx context.Context, work func(context.Context, []T)) {
	for {
		select {
		case <-ctx.Done():
			return
		case <-q.wake:
		}
		for batch := q.take(); len(batch) > 0; batch = q.take() {
			work(ctx, batch)
		}
	}
}
