package bench

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/grpc/codes"

	holdfastv1 "github.com/holdfast-io/holdfast/api/holdfast/v1"
)

// shop is a strategy of which everything is known: each call takes so long, and
// stock orders are sold.
type shop struct {
	takes time.Duration
	stock int64
	sold  atomic.Int64
	err   error
}

func (*shop) Prepare(context.Context, int) error { return nil }
func (*shop) Close()                             {}

func (s *shop) Buy(_ context.Context, _ int, orders []Order, outcomes []error) {
	time.Sleep(s.takes)
	for i := range orders {
		outcomes[i] = s.err
		if s.err == nil && s.sold.Add(1) > s.stock {
			outcomes[i] = ErrSoldOut
		}
	}
}

func nothing() {}

// Whoever buys in a circle buys as often as the answers allow, and the warm-up
// does not count.
func TestClosedLoopCountsOnlyWhatIsMeasured(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &shop{takes: 10 * time.Millisecond, stock: plenty}
		l := load{buyers: 4, batch: 5, warmUp: time.Second, duration: 2 * time.Second}
		began := time.Now()
		var from, to time.Duration
		r := l.run(t.Context(), s, one("p", "m-"), func() { from = time.Since(began) }, func() { to = time.Since(began) })
		if want := int64(2 / 0.010 * 4 * 5); r.purchases < want-20 || r.purchases > want+20 {
			t.Errorf("%d purchases counted, want about %d", r.purchases, want)
		}
		if r.stored < r.purchases*3/2-40 {
			t.Errorf("%d stored in all, want half as many again as the %d that count", r.stored, r.purchases)
		}
		if from != time.Second || to != 3*time.Second || r.elapsed != 2*time.Second {
			t.Errorf("counted from %v to %v, %v in all", from, to, r.elapsed)
		}
		if got := quantile(r.latencies, 99); got < 9.9 || got > 10.2 {
			t.Errorf("p99 %v ms, want 10", got)
		}
		if r.unsent != 0 {
			t.Errorf("%d unsent without a rate", r.unsent)
		}
	})
}

// A shop that is too slow for its rate must not look fast because its buyers
// came late.
func TestOpenLoopCountsFromWhenAPurchaseWasDue(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &shop{takes: 20 * time.Millisecond, stock: plenty}
		l := load{buyers: 1, batch: 1, duration: 2 * time.Second, rate: 100} // it can do 50
		r := l.run(t.Context(), s, one("p", "m-"), nothing, nothing)
		if r.purchases < 98 || r.purchases > 101 {
			t.Errorf("%d purchases, want 100", r.purchases)
		}
		if r.unsent < 98 || r.unsent > 101 {
			t.Errorf("%d not sent in time, want 100", r.unsent)
		}
		// The last one was due after 1 s and sent after 2 s.
		if got := quantile(r.latencies, 99.9); got < 950 || got > 1050 {
			t.Errorf("p99.9 %v ms, want about 1000", got)
		}
	})
}

func TestOpenLoopKeepsItsPace(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &shop{takes: 5 * time.Millisecond, stock: plenty}
		l := load{buyers: 8, batch: 1, warmUp: time.Second, duration: 2 * time.Second, rate: 300}
		r := l.run(t.Context(), s, one("p", "m-"), nothing, nothing)
		if r.purchases < 597 || r.purchases > 603 || r.unsent > 1 {
			t.Errorf("%d purchases and %d unsent, want 600 and 0", r.purchases, r.unsent)
		}
		if got := quantile(r.latencies, 100); got > 5.2 {
			t.Errorf("longest %v ms, want 5", got)
		}
	})
}

// When there is nothing left to buy the measurement is over, and its time is
// that of the last order.
func TestOrdersThatRunOutEndTheMeasurement(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &shop{takes: 10 * time.Millisecond, stock: 40}
		d := one("p", "m-")
		d.orders = 100
		l := load{buyers: 3, batch: 7, duration: time.Hour}
		r := l.run(t.Context(), s, d, nothing, nothing)
		if r.purchases != 40 || r.refused != 60 || s.sold.Load() != 100 {
			t.Errorf("%d sold, %d refused of %d asked for; want 40 and 60 of 100", r.purchases, r.refused, s.sold.Load())
		}
		if r.elapsed != 50*time.Millisecond {
			t.Errorf("took %v, want 5 calls one after the other", r.elapsed)
		}
	})
}

func TestErrorsAreCountedByKind(t *testing.T) {
	lost := holdfastv1.Error(codes.Unavailable, holdfastv1.ReasonNoWorker, "no worker", nil)
	for err, want := range map[error]string{
		lost: "NO_WORKER",
		fmt.Errorf("wait: %w", context.DeadlineExceeded): "deadline",
		errors.New("something else"):                     "something else",
	} {
		synctest.Test(t, func(t *testing.T) {
			l := load{buyers: 1, batch: 1, duration: 10 * time.Millisecond}
			r := l.run(t.Context(), &shop{takes: time.Millisecond, err: err}, one("p", "m-"), nothing, nothing)
			if r.purchases != 0 || r.errors[want] == 0 || len(r.errors) != 1 {
				t.Errorf("%v: %d purchases, errors %v, want only %s", err, r.purchases, r.errors, want)
			}
		})
	}
}
