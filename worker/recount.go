package worker

import (
	"context"
	"fmt"
	"sync"

	"go.opentelemetry.io/otel/trace"

	"github.com/holdfast-io/holdfast/api/traces"
	"github.com/holdfast-io/holdfast/worker/ledger"
)

// recount is what all shards say of a product, read after it was asked for.
type recount struct {
	released []int64          // in the order of the lanes
	current  bool             // the tenure's fence is on every shard that answered
	customer ledger.Customer  // whom the question was about
	first    *ledger.Purchase // the earlier purchase with the sale's request id, or nil
	err      error            // of a shard that did not answer
}

// recount asks every shard what it has given back, and tells the sale's tenure.
func (ls *lanes) recount(s *sale) {
	ls.ask(s.span, s.check, func(r recount) { s.tenure.recounted(s, r) })
}

// ask puts a check to every shard, and answers once when all have answered. The span of who
// asks is nil when it is not recorded.
func (ls *lanes) ask(asker trace.Span, of func(shard string) ledger.Check, answer func(recount)) {
	var (
		mu    sync.Mutex
		r     = recount{released: make([]int64, len(ls.order)), current: true}
		still = len(ls.order)
	)
	for i, l := range ls.order {
		l.checks.put(check{span: asker, asked: of(l.shard.Name()), answer: func(c ledger.Checked, err error) {
			mu.Lock()
			if err != nil {
				r.err = err
			} else {
				r.released[i], r.current = c.Released, r.current && c.Current
				r.customer.Taken += c.Customer.Taken
				r.customer.Released += c.Customer.Released
			}
			if c.First != nil {
				r.first = c.First
			}
			still--
			last := still == 0
			mu.Unlock()
			if last {
				answer(r)
			}
		}})
	}
}

// recountOf waits for what all shards say of a tenure's product, in reads that begin after
// the call.
func (ls *lanes) recountOf(ctx context.Context, f ledger.Fence) (recount, error) {
	answered := make(chan recount, 1)
	ls.ask(traces.Recorded(ctx),
		func(string) ledger.Check { return ledger.Check{ProductID: f.ProductID, TenureID: f.TenureID} },
		func(r recount) { answered <- r })
	select {
	case r := <-answered:
		return r, r.err
	case <-ctx.Done():
		return recount{}, fmt.Errorf("recount: %w", ctx.Err())
	}
}
