package coordinator_test

import (
	"context"
	"fmt"
	"sync/atomic"
	"testing"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	holdfastv1 "github.com/holdfast-io/holdfast/api/holdfast/v1"
)

// basket is one purchase each of n products, which are there once each.
func (f *front) basket(n int) *holdfastv1.BatchCreatePurchasesRequest {
	f.t.Helper()
	req := &holdfastv1.BatchCreatePurchasesRequest{}
	for i := range n {
		product := fmt.Sprintf("p-%d", i)
		f.stock(product, 1)
		req.Requests = append(req.Requests, buy(product, 1))
	}
	return req
}

// check fails unless each result is a purchase of the product in its place, and
// is the only one of it in the shop.
func (f *front) check(req *holdfastv1.BatchCreatePurchasesRequest, resp *holdfastv1.BatchCreatePurchasesResponse) {
	f.t.Helper()
	if len(resp.GetResults()) != len(req.GetRequests()) {
		f.t.Fatalf("%d results for %d requests", len(resp.GetResults()), len(req.GetRequests()))
	}
	for i, r := range req.GetRequests() {
		p := resp.GetResults()[i].GetPurchase()
		stored := f.shop.stored(r.GetProductId())
		if len(stored) != 1 || p.GetProductId() != r.GetProductId() || stored[0].GetPurchaseId() != p.GetPurchaseId() {
			f.t.Errorf("requests[%d] of %s: answered %v, stored %v", i, r.GetProductId(), resp.GetResults()[i], stored)
		}
	}
}

// The answers carry no number: their order is all that tells them apart.
func TestBatchAnswersInOrderAndAsksEachWorkerForItsOwn(t *testing.T) {
	f := openFront(t, quick, "w1", "w2", "w3")
	req := f.basket(100)
	resp, err := f.purchases.BatchCreatePurchases(t.Context(), req)
	if err != nil {
		t.Fatal(err)
	}
	f.check(req, resp)
	asked := map[string]int{}
	for _, c := range f.shop.takeCalls() {
		asked[c.worker]++
		product := c.req.(*holdfastv1.CreatePurchaseRequest).GetProductId()
		if first := f.ranked(product)[0].name; first != c.worker {
			t.Errorf("%s was asked for %s, which is %s's", c.worker, product, first)
		}
	}
	if len(asked) != 3 || asked["w1"]+asked["w2"]+asked["w3"] != 100 {
		t.Errorf("purchases by worker: %v, want all three and 100 in sum", asked)
	}
}

// One buyer's empty shelf is no reason to refuse the others.
func TestRefusedPurchaseDoesNotTouchItsBatch(t *testing.T) {
	f := openFront(t, quick, "w1", "w2")
	req := f.basket(10)
	req.Requests[2].Amount = 2
	req.Requests[7].ProductId = "unknown"
	resp, err := f.purchases.BatchCreatePurchases(t.Context(), req)
	if err != nil {
		t.Fatal(err)
	}
	for i, result := range resp.GetResults() {
		want := map[int]string{2: holdfastv1.ReasonInsufficientStock, 7: holdfastv1.ReasonProductNotFound}[i]
		if got := holdfastv1.Reason(status.ErrorProto(result.GetError())); got != want || (want == "") != (result.GetPurchase() != nil) {
			t.Errorf("results[%d] = %v, want reason %q", i, result, want)
		}
	}
	available := holdfastv1.Info(status.ErrorProto(resp.GetResults()[2].GetError())).GetMetadata()["available"]
	if available != "1" {
		t.Errorf("available %q, want 1", available)
	}
}

func TestBatchOutlivesAWorkerThatFails(t *testing.T) {
	for _, tt := range []struct {
		name  string
		fault fault
	}{
		{"request lost", refuse},
		{"reply lost", cutAfter},
		{"hangs after it has stored", hangAfter},
		{"draining", answer(errDraining)},
		{"draining after it has stored", drainAfter},
		{"draining half of it", drainHalf()},
	} {
		t.Run(tt.name, func(t *testing.T) {
			f := openFront(t, quick, "w1", "w2", "w3")
			req := f.basket(30)
			f.workers["w2"].set(tt.fault)
			resp, err := f.purchases.BatchCreatePurchases(t.Context(), req)
			if err != nil {
				t.Fatal(err)
			}
			f.check(req, resp)
		})
	}
}

// drainAfter has stored the purchase, and says that it drains.
func drainAfter(_ context.Context, _ *worker, handle func() (any, error)) (any, error) {
	_, _ = handle()
	return nil, errDraining
}

func drainHalf() fault {
	var calls atomic.Int64
	return func(ctx context.Context, w *worker, handle func() (any, error)) (any, error) {
		if calls.Add(1)%2 == 0 {
			return handle()
		}
		return drainAfter(ctx, w, handle)
	}
}

// Callers repeat what they got no answer to: each purchase must have one.
func TestBatchWithoutWorkersSaysSoOfEachPurchase(t *testing.T) {
	cfg := quick
	cfg.Deadline = quick.AttemptTimeout * 2
	f := openFront(t, cfg, "w1", "w2")
	req := f.basket(10)
	for _, w := range f.workers {
		w.set(hang)
	}
	resp, err := f.purchases.BatchCreatePurchases(t.Context(), req)
	if err != nil || len(resp.GetResults()) != 10 {
		t.Fatal(resp, err)
	}
	for i, result := range resp.GetResults() {
		err := status.ErrorProto(result.GetError())
		if status.Code(err) != codes.Unavailable || holdfastv1.Reason(err) != holdfastv1.ReasonNoWorker {
			t.Errorf("results[%d]: %v", i, err)
		}
	}
}

// A worker's own error is the answer, in a batch too.
func TestBatchPassesOnTheAnswerOfAWorker(t *testing.T) {
	f := openFront(t, quick, "w1")
	req := f.basket(3)
	own := holdfastv1.Error(codes.Unavailable, holdfastv1.ReasonShardUnavailable, "shard us did not answer", nil)
	f.workers["w1"].set(answer(own))
	resp, err := f.purchases.BatchCreatePurchases(t.Context(), req)
	if err != nil {
		t.Fatal(err)
	}
	for i, result := range resp.GetResults() {
		if got := holdfastv1.Reason(status.ErrorProto(result.GetError())); got != holdfastv1.ReasonShardUnavailable {
			t.Errorf("results[%d]: %v", i, result)
		}
	}
	if calls := f.shop.takeCalls(); len(calls) != 3 {
		t.Errorf("%d calls", len(calls))
	}
}
