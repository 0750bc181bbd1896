package coordinator

import (
	"context"
	"fmt"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/holdfast-io/holdfast/api/cluster"
	holdfastv1 "github.com/holdfast-io/holdfast/api/holdfast/v1"
	"github.com/holdfast-io/holdfast/api/link"
	"github.com/holdfast-io/holdfast/api/link/linktest"
)

const attempt = 3 * time.Second

// mutes runs a test in which time passes when nothing else happens, with a service before
// workers that say nothing. Nobody asks them for a sign of life.
func mutes(t *testing.T, workers int, test func(*testing.T, *service)) {
	synctest.Test(t, func(t *testing.T) {
		r := newRouter(Config{Metrics: prometheus.NewRegistry(), AttemptTimeout: attempt, MaxInFlight: 1000}, nil)
		r.learn(cluster.Topology{Number: 1, Shards: []string{"eu", "us"}})
		for i := range workers {
			p := &peer{link: link.New(linktest.Mute{}, r.limit)}
			p.heard.Store(hear(t.Context()))
			defer p.link.Close()
			name := fmt.Sprint("w", i)
			r.names, r.peers[name] = append(r.names, name), p
		}
		test(t, &service{router: r, validate: newValidator(t), deadline: 15 * time.Second})
	})
}

func ticket() *holdfastv1.CreatePurchaseRequest {
	return &holdfastv1.CreatePurchaseRequest{ProductId: "ticket", CustomerId: "ann", Amount: 1}
}

// An answer is of use only to a caller that still listens.
func TestCallerHearsALittleBeforeItsDeadline(t *testing.T) {
	for _, tt := range []struct{ deadline, want time.Duration }{
		{10 * time.Millisecond, 9 * time.Millisecond},
		{500 * time.Millisecond, 450 * time.Millisecond},
		{time.Second, 900 * time.Millisecond},
		{10 * time.Second, 9900 * time.Millisecond},
		{0, 15 * time.Second}, // none: the default
	} {
		mutes(t, 2, func(t *testing.T, s *service) {
			ctx := t.Context()
			if tt.deadline > 0 {
				var cancel context.CancelFunc
				ctx, cancel = context.WithTimeout(ctx, tt.deadline)
				defer cancel()
			}
			check := func(what string, begun time.Time, err error) {
				t.Helper()
				took := time.Since(begun)
				if holdfastv1.Reason(err) != holdfastv1.ReasonNoWorker || took < tt.want || took > tt.want+time.Millisecond {
					t.Errorf("%s, deadline %v: %v after %v, want NO_WORKER after %v", what, tt.deadline, err, took, tt.want)
				}
			}
			var calls sync.WaitGroup
			calls.Go(func() {
				begun := time.Now()
				_, err := s.CreatePurchase(ctx, ticket())
				check("purchase", begun, err)
			})
			calls.Go(func() {
				begun := time.Now()
				resp, err := s.BatchCreatePurchases(ctx, &holdfastv1.BatchCreatePurchasesRequest{
					Requests: []*holdfastv1.CreatePurchaseRequest{ticket(), ticket()},
				})
				if err != nil || len(resp.GetResults()) != 2 {
					t.Error(resp, err)
					return
				}
				check("batch", begun, status.ErrorProto(resp.GetResults()[1].GetError()))
			})
			calls.Wait()
		})
	}
}

// A caller that leaves waits for nothing, and is told that it has left.
func TestCallerThatLeavesIsNotHeldUp(t *testing.T) {
	mutes(t, 2, func(t *testing.T, s *service) {
		ctx, leave := context.WithCancel(t.Context())
		time.AfterFunc(time.Second, leave)
		begun := time.Now()
		_, err := s.CreatePurchase(ctx, ticket())
		if took := time.Since(begun); status.Code(err) != codes.Canceled || took != time.Second {
			t.Errorf("%v after %v", err, took)
		}
	})
}

// What is under way at a worker that falls silent goes to the next one at once. Who asks
// a silent worker, because nobody else is left, gives it the whole time.
func TestSilenceGivesUpWhatIsUnderWayAndNothingElse(t *testing.T) {
	mutes(t, 1, func(t *testing.T, s *service) {
		p := s.router.peers["w0"]
		attempts := make(chan time.Duration, 10)
		ask := func() {
			begun := time.Now()
			_ = s.router.call(t.Context(), begun.Add(time.Minute), "ticket", &way{}, func(p *peer, until time.Time) error {
				begun := time.Now()
				_, err := p.link.Sell(t.Context(), ticket(), until)
				attempts <- time.Since(begun)
				if len(attempts) < 2 {
					return err
				}
				return nil
			})
		}
		time.AfterFunc(time.Second, func() { p.note(t.Context(), true) })
		time.AfterFunc(2*time.Second, func() { p.note(t.Context(), true) }) // it was known
		ask()
		if first, second := <-attempts, <-attempts; first != time.Second || second != attempt {
			t.Errorf("attempts took %v and %v, want %v and %v", first, second, time.Second, attempt)
		}
		if p.note(t.Context(), false); p.silent() {
			t.Error("silent after it spoke")
		}
		time.AfterFunc(time.Second, func() { p.note(t.Context(), true) })
		ask()
		if first := <-attempts; first != time.Second {
			t.Errorf("the next silence was noticed after %v", first)
		}
	})
}
