package link_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	holdfastv1 "github.com/holdfast-io/holdfast/api/holdfast/v1"
	"github.com/holdfast-io/holdfast/api/link"
	"github.com/holdfast-io/holdfast/api/link/linktest"
)

// bubble runs a test in which time passes when nothing else happens, with a link to a
// worker that says nothing.
func bubble(t *testing.T, limit int, test func(*testing.T, *link.Link)) {
	synctest.Test(t, func(t *testing.T) {
		l := link.New(linktest.Mute{}, limit)
		defer l.Close()
		test(t, l)
	})
}

// A caller has its own deadline and is told before it, whoever else waits how long. One
// who came last may be the first to go.
func TestPurchaseIsAnsweredWhenItsTimeIsUp(t *testing.T) {
	bubble(t, 10_000, func(t *testing.T, l *link.Link) {
		for round := range 3 {
			var buyers sync.WaitGroup
			for range 1000 {
				wait := time.Duration(rand.Int64N(int64(3 * time.Second)))
				buyers.Go(func() {
					time.Sleep(rand.N(time.Second))
					begun := time.Now()
					_, err := l.Sell(t.Context(), named("r"), begun.Add(wait))
					if took := time.Since(begun); status.Code(err) != codes.DeadlineExceeded || took < wait || took > wait+time.Millisecond {
						t.Errorf("round %d: %v after %v, want DEADLINE_EXCEEDED after %v", round, err, took, wait)
					}
				})
			}
			buyers.Wait()
			time.Sleep(time.Minute) // nobody waits
		}
	})
}

// The time may be up before the purchase has begun.
func TestPurchaseThatComesTooLate(t *testing.T) {
	bubble(t, 10, func(t *testing.T, l *link.Link) {
		begun := time.Now()
		_, err := l.Sell(t.Context(), named("r"), begun.Add(-time.Second))
		if took := time.Since(begun); status.Code(err) != codes.DeadlineExceeded || took > time.Millisecond {
			t.Errorf("%v after %v", err, took)
		}
	})
}

// Whatever ends the wait ends it for all, and makes room for others.
func TestBatchIsAnsweredWhenItsTimeIsUp(t *testing.T) {
	const n = 1000
	for _, tt := range []struct {
		name string
		end  func(*link.Link, context.CancelFunc)
		want codes.Code
		when time.Duration
	}{
		{"time is up", func(*link.Link, context.CancelFunc) {}, codes.DeadlineExceeded, time.Minute},
		{"caller left", func(_ *link.Link, leave context.CancelFunc) { leave() }, codes.Canceled, time.Second},
		{"worker is silent", func(l *link.Link, _ context.CancelFunc) { l.Interrupt() }, codes.Canceled, time.Second},
		{"link ended", func(l *link.Link, _ context.CancelFunc) { l.Close() }, codes.Unavailable, time.Second},
	} {
		t.Run(tt.name, func(t *testing.T) {
			bubble(t, n, func(t *testing.T, l *link.Link) {
				ctx, leave := context.WithCancel(t.Context())
				defer leave()
				time.AfterFunc(time.Second, func() { tt.end(l, leave) })
				begun := time.Now()
				answers := l.SellAll(ctx, make([]*req, n+1), begun.Add(time.Minute))
				if took := time.Since(begun); took != tt.when || len(answers) != n+1 {
					t.Errorf("%d answers after %v, want %v", len(answers), took, tt.when)
				}
				for i, a := range answers[:n] {
					if status.Code(a.Err) != tt.want || holdfastv1.Info(a.Err) != nil {
						t.Fatalf("answer %d: %v, want %v", i, a.Err, tt.want)
					}
				}
				if holdfastv1.Reason(answers[n].Err) != holdfastv1.ReasonOverloaded {
					t.Errorf("the one too many: %v", answers[n].Err)
				}
				_, err := l.Sell(t.Context(), named("next"), time.Now().Add(time.Second))
				if status.Code(err) != codes.DeadlineExceeded && tt.want != codes.Unavailable {
					t.Errorf("the next one: %v", err)
				}
			})
		})
	}
	if answers := new(link.Link).SellAll(t.Context(), nil, time.Time{}); len(answers) != 0 {
		t.Errorf("of none: %v", answers)
	}
}

// One that is started is answered once, whatever comes first, and without anybody who
// waits for it.
func TestStartedPurchaseIsAnsweredOnce(t *testing.T) {
	bubble(t, 3, func(t *testing.T, l *link.Link) {
		begun := time.Now()
		told := map[string]string{}
		var mu sync.Mutex
		start := func(id string, wait time.Duration) {
			l.Start(t.Context(), named(id), begun.Add(wait), func(a link.Answer) {
				mu.Lock()
				defer mu.Unlock()
				told[id] += fmt.Sprint(status.Code(a.Err), " after ", time.Since(begun), "; ")
			})
		}
		start("late", time.Minute)
		start("later", time.Hour)
		start("soon", time.Second)
		start("too many", time.Second)
		time.Sleep(2 * time.Minute)
		l.Interrupt()
		l.Interrupt()
		start("last", time.Hour)
		l.Close()
		time.Sleep(2 * time.Hour)
		start("after the end", time.Hour)
		want := map[string]string{
			"late": "DeadlineExceeded after 1m0s; ", "later": "Canceled after 2m0s; ", "soon": "DeadlineExceeded after 1s; ",
			"too many": "ResourceExhausted after 0s; ", "last": "Unavailable after 2m0s; ", "after the end": "Unavailable after 2h2m0s; ",
		}
		if fmt.Sprint(told) != fmt.Sprint(want) {
			t.Errorf("told %v, want %v", told, want)
		}
	})
}

// Who asks a worker that is known to be silent has a reason, and gets the whole time.
func TestInterruptionSparesWhatComesAfterIt(t *testing.T) {
	bubble(t, 10, func(t *testing.T, l *link.Link) {
		l.Interrupt() // of nothing
		time.AfterFunc(time.Second, l.Interrupt)
		begun := time.Now()
		_, before := l.Sell(t.Context(), named("before"), begun.Add(time.Minute))
		if status.Code(before) != codes.Canceled || time.Since(begun) != time.Second {
			t.Errorf("before: %v after %v", before, time.Since(begun))
		}
		begun = time.Now()
		_, after := l.Sell(t.Context(), named("after"), begun.Add(time.Minute))
		if status.Code(after) != codes.DeadlineExceeded || time.Since(begun) != time.Minute {
			t.Errorf("after: %v after %v", after, time.Since(begun))
		}
	})
}

// A worker must not go on deciding for somebody who has gone to another one.
func TestWorkerLearnsWhatIsOverdueAndWhatIsInterrupted(t *testing.T) {
	for name, until := range map[string]time.Duration{"overdue": time.Second, "interrupted": patience} {
		t.Run(name, func(t *testing.T) {
			const n = 20
			began := make(chan struct{}, n)
			var undecided atomic.Int64
			l, _ := connect(t, func(ctx context.Context, r *req) (*holdfastv1.Purchase, error) {
				if r.GetRequestId() == "next" {
					return sells(ctx, r)
				}
				undecided.Add(1)
				defer undecided.Add(-1)
				began <- struct{}{}
				<-ctx.Done()
				return nil, errors.New("nobody is told this")
			}, n, n)
			told := make(chan []link.Answer, 1)
			go func() {
				var all []*req
				for i := range n {
					all = append(all, named(fmt.Sprint(i)))
				}
				told <- l.SellAll(t.Context(), all, time.Now().Add(until))
			}()
			await(t, began, "a sale")
			if name == "interrupted" {
				l.Interrupt()
			}
			for _, a := range <-told {
				if c := status.Code(a.Err); c != codes.DeadlineExceeded && c != codes.Canceled {
					t.Errorf("got %v", a.Err)
				}
			}
			for ctx := patient(t); ; { // the worker takes a moment to have room again
				_, err := l.Sell(ctx, named("next"), later())
				if err == nil {
					break
				}
				if holdfastv1.Reason(err) != holdfastv1.ReasonOverloaded {
					t.Fatal(err)
				}
			}
			for begun := time.Now(); undecided.Load() > 0; time.Sleep(time.Millisecond) {
				if time.Since(begun) > patience {
					t.Fatalf("the worker is not told of %d sales", undecided.Load())
				}
			}
		})
	}
}

// The time that a call says it has ends what is done for it, whatever its deadline is: that
// begins to run only when the call is read.
func TestCallLastsNoLongerThanItSays(t *testing.T) {
	until := time.UnixMilli(time.Now().Add(time.Minute).UnixMilli())
	for _, tt := range []struct {
		told string
		want time.Time
	}{{strconv.FormatInt(until.UnixMilli(), 10), until}, {"", time.Time{}}} {
		ctx := t.Context()
		if tt.told != "" {
			ctx = metadata.NewIncomingContext(ctx, metadata.Pairs("holdfast-until", tt.told))
		}
		_, err := link.RefuseLate(ctx, nil, nil, func(ctx context.Context, _ any) (any, error) {
			if deadline, _ := ctx.Deadline(); !deadline.Equal(tt.want) {
				t.Errorf("told %q, it may last until %v, want %v", tt.told, deadline, tt.want)
			}
			return nil, nil
		})
		if err != nil {
			t.Error(err)
		}
	}
}
