package failover

import (
	"context"
	"sync"
	"sync/atomic"
	"time"
)

// maxUnderWay bounds the calls without an answer, so that a long outage does not
// take the memory of the machine.
const maxUnderWay = 10_000

// load is a steady stream of purchases that does not wait for answers.
type load struct {
	market *market
	choose func() string
	stop   context.CancelFunc
	sender sync.WaitGroup
	calls  sync.WaitGroup

	underWay atomic.Int64
	notSent  int // written by the sender

	mu    sync.Mutex
	sales []sale
}

// offer sends purchases at a rate, per second, until the load is ended.
func (m *market) offer(ctx context.Context, rate float64, choose func() string) *load {
	trade, stop := context.WithCancel(ctx)
	l := &load{market: m, choose: choose, stop: stop}
	l.sender.Go(func() { l.send(ctx, trade, rate) })
	return l
}

func (l *load) send(ctx, trade context.Context, rate float64) {
	p := &pace{start: time.Now(), rate: rate}
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		select {
		case <-trade.Done():
			l.notSent = p.notSent
			return
		case <-timer.C:
		}
		for _, due := range p.take(time.Now(), maxUnderWay-int(l.underWay.Load())) {
			l.underWay.Add(1)
			l.calls.Go(func() { l.buy(ctx, due) })
		}
		timer.Reset(p.wait(time.Now()))
	}
}

func (l *load) buy(ctx context.Context, due time.Time) {
	defer l.underWay.Add(-1)
	s := l.market.buy(ctx, l.choose(), due)
	l.mu.Lock()
	defer l.mu.Unlock()
	l.sales = append(l.sales, s)
}

// end stops sending and returns all sales when the last one is answered, and how
// many purchases were not sent in time.
func (l *load) end() (sales []sale, notSent int) {
	l.stop()
	l.sender.Wait()
	l.calls.Wait()
	return l.sales, l.notSent
}

// split returns the waits of the sales that were answered before a moment, and of
// those that were under way at that moment or came later.
func split(sales []sale, at time.Time) (before, after []time.Duration) {
	for _, s := range sales {
		if s.answered.Before(at) {
			before = append(before, s.wait())
		} else {
			after = append(after, s.wait())
		}
	}
	return before, after
}
