package coordinator_test

import (
	"context"
	"strconv"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/uuid"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"

	holdfastv1 "github.com/holdfast-io/holdfast/api/holdfast/v1"
	"github.com/holdfast-io/holdfast/coordinator"
)

// A worker that was paused with a call in its hands may find units that were given back
// while another one refused the same call. The buyer must not be told that he was refused
// then: he would own what he does not know of.
func TestRefusalIsNotBelievedWhileAnotherWorkerMaySell(t *testing.T) {
	for _, sold := range []bool{true, false} {
		f := openFront(t, quick, "w1", "w2")
		f.stock("p", 10)
		buyers := f.ranked("p")
		var asked atomic.Int32
		woken := make(chan struct{})
		buyers[0].set(func(ctx context.Context, _ *worker, handle func() (any, error)) (any, error) {
			if asked.Add(1) > 1 {
				return handle()
			}
			<-ctx.Done() // paused, until the coordinator has asked the other one
			if sold {
				_, _ = handle()
			}
			close(woken)
			return nil, ctx.Err()
		})
		var refused atomic.Bool
		none := holdfastv1.Error(9, holdfastv1.ReasonInsufficientStock, "0 units available", nil)
		buyers[1].set(func(_ context.Context, _ *worker, handle func() (any, error)) (any, error) {
			if refused.CompareAndSwap(false, true) || !sold {
				return nil, none
			}
			return handle()
		})
		if !sold {
			buyers[0].set(hang)
			close(woken)
		}
		begun := time.Now()
		p, err := f.purchases.CreatePurchase(t.Context(), buy("p", 2))
		<-woken
		switch {
		case sold && (err != nil || len(f.shop.stored("p")) != 1 || f.shop.stored("p")[0].GetPurchaseId() != p.GetPurchaseId()):
			t.Errorf("sold by the worker that was paused: the buyer was told %v, %v", p, err)
		case !sold && holdfastv1.Reason(err) != holdfastv1.ReasonInsufficientStock:
			t.Errorf("sold by nobody: the buyer was told %v, %v", p, err)
		case !sold && time.Since(begun) < quick.AttemptTimeout:
			t.Errorf("refused after %v, while the other worker could still sell", time.Since(begun))
		}
	}
}

// A connection may break though the worker lives on, and has the call in its hands.
func TestRefusalIsNotBelievedWhileWhoeverLostItsConnectionMaySell(t *testing.T) {
	for _, dead := range []bool{false, true} {
		f := openFront(t, coordinator.Config{AttemptTimeout: time.Second}, "w1", "w2")
		f.stock("p", 10)
		workers := f.ranked("p")
		var asked atomic.Int32
		sold := make(chan struct{})
		workers[0].set(func(ctx context.Context, w *worker, handle func() (any, error)) (any, error) {
			if asked.Add(1) > 1 {
				return handle()
			}
			if dead {
				_ = w.listener.Close()
			}
			w.listener.cut()
			<-ctx.Done() // of a connection that is gone
			if !dead {
				time.AfterFunc(100*time.Millisecond, func() { _, _ = handle(); close(sold) })
			}
			return nil, ctx.Err()
		})
		none := holdfastv1.Error(codes.FailedPrecondition, holdfastv1.ReasonInsufficientStock, "0 units available", nil)
		workers[1].set(func(_ context.Context, _ *worker, handle func() (any, error)) (any, error) {
			if len(f.shop.stored("p")) == 0 {
				return nil, none
			}
			return handle()
		})
		begun := time.Now()
		p, err := f.purchases.CreatePurchase(t.Context(), buy("p", 2))
		switch took := time.Since(begun); {
		case dead && (holdfastv1.Reason(err) != holdfastv1.ReasonInsufficientStock || took > time.Second):
			t.Errorf("the dead sell nothing, yet the buyer was told %v, %v after %v", p, err, took)
		case !dead && (err != nil || f.shop.stored("p")[0].GetPurchaseId() != p.GetPurchaseId()):
			t.Errorf("sold by the worker that lost its connection: the buyer was told %v, %v", p, err)
		}
		if !dead {
			<-sold
		}
	}
}

// Somebody listens at the address of a worker whose certificate has expired, and takes no
// call. Nobody waits for one that was never sent.
func TestNobodyWaitsForAWorkerThatTakesNoCalls(t *testing.T) {
	s := newShops(t, "w1")
	takesNone := listen(t)
	background(t, func(context.Context) error {
		for conn, err := takesNone.Accept(); err == nil; conn, err = takesNone.Accept() {
			_ = conn.Close()
		}
		return nil
	})
	t.Cleanup(func() { _ = takesNone.Close() })
	s.register("w0", takesNone.Addr().String())
	f := s.front(coordinator.Config{AttemptTimeout: time.Minute})
	if _, err := f.products.ListProducts(t.Context(), &holdfastv1.ListProductsRequest{}); err != nil {
		t.Fatal(err)
	}
	none := holdfastv1.Error(codes.FailedPrecondition, holdfastv1.ReasonInsufficientStock, "0 units available", nil)
	f.workers["w1"].set(answer(none))
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
	defer cancel()
	for i := range 10 { // w0 is the first to be asked about half of them
		product := "p" + strconv.Itoa(i)
		if _, err := f.purchases.CreatePurchase(ctx, buy(product, 1)); holdfastv1.Reason(err) != holdfastv1.ReasonInsufficientStock {
			t.Errorf("purchase: %v", err)
		}
		id := holdfastv1.PurchaseID("eu", uuid.New())
		if _, err := f.purchases.CancelPurchase(ctx, &holdfastv1.CancelPurchaseRequest{PurchaseId: id}); holdfastv1.Reason(err) != holdfastv1.ReasonInsufficientStock {
			t.Errorf("change: %v", err)
		}
	}
}

// Where every worker that was asked has answered, nobody waits for a refusal.
func TestRefusalIsTheAnswerWhenAllHaveAnswered(t *testing.T) {
	f := openFront(t, coordinator.Config{AttemptTimeout: time.Minute}, "w1", "w2")
	f.stock("p", 1)
	f.ranked("p")[0].set(answer(errDraining))
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
	defer cancel()
	_, err := f.purchases.CreatePurchase(ctx, buy("p", 2))
	if holdfastv1.Reason(err) != holdfastv1.ReasonInsufficientStock {
		t.Errorf("got %v", err)
	}
}

// A worker that was paused with a call in its hands can only know that it is too late for it
// if the call says until when it may be done: time that passes in a pause is not seen.
func TestCallsSayUntilWhenTheyMayBeDone(t *testing.T) {
	f := openFront(t, quick, "w1")
	f.stock("p", 10)
	untils := make(chan time.Time, 1)
	f.workers["w1"].set(func(ctx context.Context, _ *worker, handle func() (any, error)) (any, error) {
		md, _ := metadata.FromIncomingContext(ctx)
		for _, value := range md.Get("holdfast-until") {
			milliseconds, err := strconv.ParseInt(value, 10, 64)
			if err != nil {
				t.Error(err)
			}
			untils <- time.UnixMilli(milliseconds)
		}
		return handle()
	})
	begun := time.Now()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	if _, err := f.products.GetProduct(ctx, &holdfastv1.GetProductRequest{ProductId: "p"}); err != nil {
		t.Fatal(err)
	}
	select {
	case until := <-untils:
		if from, to := begun.Add(quick.AttemptTimeout-time.Millisecond), time.Now().Add(quick.AttemptTimeout); until.Before(from) || until.After(to) {
			t.Errorf("may be done until %v, want between %v and %v", until, from, to)
		}
	default:
		t.Error("the call does not say until when it may be done")
	}
}
