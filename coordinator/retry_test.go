package coordinator_test

import (
	"context"
	"net/http"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"

	holdfastv1 "github.com/holdfast-io/holdfast/api/holdfast/v1"
	"github.com/holdfast-io/holdfast/coordinator"
)

// quick passes over a worker that hangs sooner than usual.
var quick = coordinator.Config{AttemptTimeout: 300 * time.Millisecond}

// Nobody may pay twice, or not at all, because a worker died at the wrong
// moment.
func TestWorkerThatFailsCostsNoPurchaseAndMakesNoSecond(t *testing.T) {
	for _, tt := range []struct {
		name   string
		fault  fault
		stored int // by the worker that failed
		atMost time.Duration
	}{
		{"request lost, refused", refuse, 0, quick.AttemptTimeout},
		{"request lost, connection cut", cutBefore, 0, quick.AttemptTimeout},
		{"reply lost, refused", refuseAfter, 1, quick.AttemptTimeout},
		{"reply lost, connection cut", cutAfter, 1, quick.AttemptTimeout},
		{"request hangs", hang, 0, 5 * time.Second},
		{"reply hangs", hangAfter, 1, 5 * time.Second},
		{"draining", answer(errDraining), 0, quick.AttemptTimeout},
		{"shutting down", answer(status.Error(codes.Canceled, "context canceled")), 0, quick.AttemptTimeout},
	} {
		t.Run(tt.name, func(t *testing.T) {
			f := openFront(t, quick, "w1", "w2", "w3")
			f.stock("p", 10)
			order := f.ranked("p")
			order[0].set(tt.fault)
			begun := time.Now()
			p, err := f.purchases.CreatePurchase(t.Context(), buy("p", 2))
			if err != nil {
				t.Fatal(err)
			}
			took := time.Since(begun)
			calls := f.shop.takeCalls()
			if len(calls) != 2 || calls[0].worker != order[0].name || calls[1].worker != order[1].name {
				t.Fatalf("calls %v, want one to %s and one to %s", calls, order[0].name, order[1].name)
			}
			first, second := calls[0].req.(*holdfastv1.CreatePurchaseRequest), calls[1].req.(*holdfastv1.CreatePurchaseRequest)
			if first.GetRequestId() == "" || first.GetRequestId() != second.GetRequestId() || first.GetRegion() != second.GetRegion() {
				t.Errorf("the call was repeated as another one: %v, then %v", first, second)
			}
			stored := f.shop.stored("p")
			if len(stored) != 1 || stored[0].GetPurchaseId() != p.GetPurchaseId() || p.GetRequestId() != first.GetRequestId() {
				t.Errorf("stored %v, answered %v", stored, p)
			}
			if took > tt.atMost {
				t.Errorf("took %v, want under %v", took, tt.atMost)
			}
		})
	}
}

// A thousand purchases while workers fail in every way: what was acknowledged
// exists, once.
func TestEachPurchaseExistsOnceWhileWorkersFail(t *testing.T) {
	f := openFront(t, quick, "w1", "w2", "w3")
	f.stock("p", 1<<53)
	order := f.ranked("p")
	var n sync.Map // numbers the calls of each worker
	faulty := []fault{nil, refuse, refuseAfter, answer(errDraining), cutAfter, nil, refuseAfter}
	for i, w := range order[:2] {
		w.set(func(ctx context.Context, w *worker, handle func() (any, error)) (any, error) {
			count, _ := n.LoadOrStore(w.name, new(counter))
			if f := faulty[(count.(*counter).next()*(i+1))%len(faulty)]; f != nil {
				return f(ctx, w, handle)
			}
			return handle()
		})
	}
	const buyers, each = 10, 100
	acknowledged := make(chan string, buyers*each)
	var wg sync.WaitGroup
	for b := range buyers {
		wg.Go(func() {
			for i := range each {
				req := buy("p", 1)
				req.CustomerId, req.RequestId = "customer-"+strconv.Itoa(b), strconv.Itoa(b)+"/"+strconv.Itoa(i)
				p, err := f.purchases.CreatePurchase(t.Context(), req)
				if err != nil {
					t.Error(err)
					return
				}
				acknowledged <- p.GetPurchaseId()
			}
		})
	}
	wg.Wait()
	close(acknowledged)
	once := map[string]bool{}
	for _, p := range f.shop.stored("p") {
		once[p.GetPurchaseId()] = true
	}
	if len(once) != buyers*each {
		t.Errorf("%d purchases exist, want %d", len(once), buyers*each)
	}
	for id := range acknowledged {
		if !once[id] {
			t.Errorf("%s was acknowledged twice, or does not exist", id)
		}
		delete(once, id)
	}
}

type counter struct {
	mu sync.Mutex
	n  int
}

func (c *counter) next() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.n++
	return c.n
}

// Another worker cannot do better, and asking it would move the product.
func TestAnswerOfAWorkerIsNotPassedOnToAnother(t *testing.T) {
	f := openFront(t, quick, "w1", "w2")
	f.stock("p", 10)
	for _, own := range []error{
		holdfastv1.Error(codes.Unavailable, holdfastv1.ReasonLockUnavailable, "lock", nil),
		holdfastv1.Error(codes.Internal, "INTERNAL", "internal error", nil),
		holdfastv1.FieldError(holdfastv1.ReasonRequestIDReused, "request_id", "was used with other content"),
		status.Error(codes.ResourceExhausted, "too large"),
		status.Error(codes.Unimplemented, "older version"),
	} {
		for _, w := range f.workers {
			w.set(answer(own))
		}
		_, err := f.purchases.CreatePurchase(t.Context(), buy("p", 1))
		if status.Code(err) != status.Code(own) || holdfastv1.Reason(err) != holdfastv1.Reason(own) || status.Convert(err).Message() != status.Convert(own).Message() {
			t.Errorf("got %v, want %v", err, own)
		}
		if calls := f.shop.takeCalls(); len(calls) != 1 {
			t.Errorf("%v: %d workers were asked", own, len(calls))
		}
	}
}

// The coordinator has found the region in the topology. A worker that does not
// know it yet is not to have the last word.
func TestRegionThatAWorkerDoesNotKnowYet(t *testing.T) {
	f := openFront(t, quick, "w1", "w2")
	f.stock("p", 10)
	f.ranked("p")[0].set(answer(holdfastv1.FieldError(holdfastv1.ReasonUnknownRegion, "region", "there is no region us")))
	if _, err := f.purchases.CreatePurchase(t.Context(), buy("p", 1)); err != nil {
		t.Error(err)
	}
}

// Nor is one about what was bought in such a region: its buyer holds the id in hand.
func TestPurchaseOfARegionThatAWorkerDoesNotKnowYet(t *testing.T) {
	f := openFront(t, quick, "w1", "w2")
	id := holdfastv1.PurchaseID("us", uuid.New())
	f.ranked(id)[0].set(answer(holdfastv1.FieldError(holdfastv1.ReasonUnknownRegion, "region", "there is no region us")))
	f.shop.onChanges(func(proto.Message) (*holdfastv1.Purchase, error) { return &holdfastv1.Purchase{PurchaseId: id}, nil })
	if p, err := f.purchases.CancelPurchase(t.Context(), &holdfastv1.CancelPurchaseRequest{PurchaseId: id}); err != nil || p.GetPurchaseId() != id {
		t.Errorf("got %v, %v", p, err)
	}
}

// The caller must learn that it may repeat, and before it stops listening.
func TestNoWorkerIsSaidWithinTheDeadline(t *testing.T) {
	for name, fault := range map[string]fault{
		"refuse": refuse, "hang": hang, "drain": answer(errDraining), "cut": cutBefore, "": nil,
	} {
		t.Run("all "+name, func(t *testing.T) {
			t.Parallel()
			var workers []string
			if fault != nil {
				workers = []string{"w1", "w2"}
			}
			cfg := quick
			cfg.Deadline = time.Second
			f := openFront(t, cfg, workers...)
			for _, w := range f.workers {
				w.set(fault)
			}
			// Of a deadline of its own a caller hears a tenth of a second before, which a busy
			// machine may need: TestCallerHearsALittleBeforeItsDeadline has a clock of its own.
			_, err := f.purchases.CreatePurchase(t.Context(), buy("p", 1))
			if status.Code(err) != codes.Unavailable || holdfastv1.Reason(err) != holdfastv1.ReasonNoWorker {
				t.Errorf("gRPC: %v", err)
			}
			code, body := f.do("POST", "/v1/purchases", `{"product_id":"p","amount":1,"customer_id":"c"}`)
			if reason := holdfastv1.Reason(httpStatus(t, body).Err()); code != http.StatusServiceUnavailable || reason != holdfastv1.ReasonNoWorker {
				t.Errorf("HTTP: %d %s", code, body)
			}
		})
	}
}

// At a start of the whole cluster the first callers come before the workers.
func TestCallWaitsForTheFirstWorker(t *testing.T) {
	s := newShops(t)
	f := s.front(coordinator.Config{})
	begun, done := make(chan struct{}), make(chan error, 1)
	go func() {
		close(begun)
		_, err := f.products.CreateProduct(t.Context(), &holdfastv1.CreateProductRequest{ProductId: "p", AmountInStorage: 1})
		done <- err
	}()
	<-begun
	select {
	case err := <-done:
		t.Fatalf("answered without a worker: %v", err)
	case <-time.After(100 * time.Millisecond):
	}
	s.open("w1")
	if err := await(t, done, "the answer of the first worker"); err != nil {
		t.Error(err)
	}
}

// A caller that has left must not keep a worker busy.
func TestCancelledCallEndsAtOnce(t *testing.T) {
	f := openFront(t, coordinator.Config{}, "w1", "w2")
	reached, left := make(chan struct{}, 10), make(chan struct{}, 10)
	for _, w := range f.workers {
		w.set(func(ctx context.Context, _ *worker, _ func() (any, error)) (any, error) {
			reached <- struct{}{}
			<-ctx.Done()
			left <- struct{}{}
			return nil, ctx.Err()
		})
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() {
		_, err := f.purchases.CreatePurchase(ctx, buy("p", 1))
		done <- err
	}()
	await(t, reached, "the call to reach a worker")
	begun := time.Now()
	cancel()
	await(t, left, "the worker to be told")
	if err := await(t, done, "the end of the call"); status.Code(err) != codes.Canceled {
		t.Errorf("got %v", err)
	}
	if took := time.Since(begun); took > time.Second {
		t.Errorf("took %v", took)
	}
	_ = f.conn.Close() // waits for nothing; a call that was passed on would be in the list
	if calls := f.shop.takeCalls(); len(calls) != 1 {
		t.Errorf("%d workers were asked", len(calls))
	}
}
