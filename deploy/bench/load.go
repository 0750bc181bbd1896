package bench

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"time"

	"github.com/HdrHistogram/hdrhistogram-go"
)

// load is how buyers come.
type load struct {
	buyers, batch int
	warmUp        time.Duration // not counted
	duration      time.Duration // counted
	rate          float64       // orders a second; 0: each buyer buys again as soon as he has an answer
}

// result is what the buyers of one measurement were told.
type result struct {
	purchases int64 // answered within the time that counts
	stored    int64 // answered at all
	refused   int64
	errors    map[string]int64 // by kind
	unsent    int64            // due before the end, and not sent by then
	elapsed   time.Duration    // the time that counts
	latencies *hdrhistogram.Histogram
}

// Latencies are kept in microseconds, from one to a minute, to two digits.
const (
	longestLatency = int64(time.Minute / time.Microsecond)
	latencyDigits  = 2
)

func newLatencies() *hdrhistogram.Histogram {
	return hdrhistogram.New(1, longestLatency, latencyDigits)
}

// lastAnswer is how long buyers wait after the end for what is under way.
const lastAnswer = 10 * time.Second

// crowd is the buyers of one measurement.
type crowd struct {
	load
	strategy    Strategy
	demand      *demand
	start       time.Time // of the warm-up, and of the schedule of a rate
	from, until time.Time // what is answered between them counts
	taken       atomic.Int64
}

// run lets all buyers buy until the time is over, or nothing is left to buy. The
// function begin is called when the time that counts begins, and end when it is
// over, before the last answers have come.
func (l load) run(ctx context.Context, s Strategy, d *demand, begin, end func()) *result {
	c := &crowd{load: l, strategy: s, demand: d, start: time.Now()}
	c.from = c.start.Add(l.warmUp)
	c.until = c.from.Add(l.duration)
	ctx, cancel := context.WithDeadline(ctx, c.until.Add(lastAnswer))
	defer cancel()
	buyers := make([]*buyer, l.buyers)
	var group sync.WaitGroup
	for i := range buyers {
		buyers[i] = c.buyer(i)
		group.Go(func() { buyers[i].buyAll(ctx) })
	}
	gone := make(chan struct{})
	go func() { group.Wait(); close(gone) }()
	await(c.from, gone)
	begin()
	await(c.until, gone)
	over := time.Now()
	end()
	<-gone
	return c.total(buyers, min(over.Sub(c.from), l.duration))
}

// await returns at a time, or when the buyers are gone before.
func await(at time.Time, gone <-chan struct{}) {
	timer := time.NewTimer(time.Until(at))
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-gone:
	}
}

// buyer is one of the crowd. All fields are his own.
type buyer struct {
	*crowd
	number   int
	dice     *dice
	orders   []Order
	outcomes []error
	sent     int64
	result
}

func (c *crowd) buyer(number int) *buyer {
	return &buyer{
		crowd: c, number: number, dice: newDice(number),
		orders: make([]Order, c.batch), outcomes: make([]error, c.batch),
		result: result{errors: map[string]int64{}, latencies: newLatencies()},
	}
}

func (b *buyer) buyAll(ctx context.Context) {
	for ctx.Err() == nil {
		first := b.taken.Add(int64(b.batch)) - int64(b.batch)
		orders := b.orders
		if left := b.demand.orders - first; b.demand.orders > 0 && left < int64(len(orders)) {
			orders = orders[:max(0, left)]
		}
		due, ok := b.due(ctx, first)
		if !ok || len(orders) == 0 {
			return
		}
		b.demand.fill(first, b.dice, orders)
		b.sent += int64(len(orders))
		b.strategy.Buy(ctx, b.number, orders, b.outcomes[:len(orders)])
		b.note(due, time.Now(), b.outcomes[:len(orders)])
	}
}

// due waits for the moment at which an order is to be sent, and returns it. With
// a rate it may lie in the past: the wait counts as latency then, since a buyer
// does not come later because the shop is slow (coordinated omission; Tene, "How
// NOT to Measure Latency", 2015). It returns false when the time is over.
func (b *buyer) due(ctx context.Context, first int64) (time.Time, bool) {
	now := time.Now()
	if b.rate == 0 {
		return now, now.Before(b.until)
	}
	due := b.start.Add(b.schedule(first))
	if wait := due.Sub(now); wait > 0 && due.Before(b.until) {
		timer := time.NewTimer(wait)
		defer timer.Stop()
		select {
		case <-timer.C:
		case <-ctx.Done():
			return due, false
		}
		now = time.Now()
	}
	return due, due.Before(b.until) && now.Before(b.until)
}

// schedule is when the order of a number is due, after the start.
func (l load) schedule(number int64) time.Duration {
	return time.Duration(float64(number) / l.rate * float64(time.Second))
}

// note counts what was answered in the time that counts, and how long took what
// was due in it, even when it was answered later.
func (b *buyer) note(due, answered time.Time, outcomes []error) {
	counts := !answered.Before(b.from) && answered.Before(b.until)
	stored := int64(0)
	for _, err := range outcomes {
		switch {
		case err == nil:
			stored++
		case errors.Is(err, ErrSoldOut) && counts:
			b.refused++
		case !errors.Is(err, ErrSoldOut):
			b.errors[kind(err)]++ // whenever it was: errors are always told
		}
	}
	b.stored += stored
	if counts {
		b.purchases += stored
	}
	if stored > 0 && !due.Before(b.from) {
		took := max(1, min(answered.Sub(due).Microseconds(), longestLatency))
		_ = b.latencies.RecordValues(took, stored) // fails only out of range
	}
}

// total adds the buyers up.
func (c *crowd) total(buyers []*buyer, elapsed time.Duration) *result {
	sum := &result{errors: map[string]int64{}, latencies: newLatencies(), elapsed: elapsed}
	sent := int64(0)
	for _, b := range buyers {
		sum.purchases += b.purchases
		sum.stored += b.stored
		sum.refused += b.refused
		for kind, times := range b.errors {
			sum.errors[kind] += times
		}
		sum.latencies.Merge(b.latencies)
		sent += b.sent
	}
	sum.unsent = c.unsent(sent)
	return sum
}

// unsent is what was due before the end and was not sent by then.
func (l load) unsent(sent int64) int64 {
	if l.rate == 0 {
		return 0
	}
	return max(0, int64(l.rate*(l.warmUp+l.duration).Seconds())-sent)
}
