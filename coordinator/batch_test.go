package coordinator_test

import (
	"context"
	"fmt"
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
func TestBatchAnswersInOrderWithOneCallPerWorker(t *testing.T) {
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
		for _, r := range c.req.(*holdfastv1.BatchCreatePurchasesRequest).GetRequests() {
			if first := f.ranked(r.GetProductId())[0].name; first != c.worker {
				t.Errorf("%s was asked for %s, which is %s's", c.worker, r.GetProductId(), first)
			}
		}
	}
	if len(asked) != 3 || asked["w1"] != 1 || asked["w2"] != 1 || asked["w3"] != 1 {
		t.Errorf("calls %v, want one to each", asked)
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
		{"reply lost after headers", refuseAfterHeaders},
		{"hangs after it has stored", hangAfter},
		{"draining", answer(errDraining)},
		{"draining each purchase", drainEach},
		{"draining half of it", drainHalf},
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

// drainEach has stored all, and says of each purchase that it drains.
func drainEach(_ context.Context, _ *worker, handle func() (any, error)) (any, error) {
	return drainEvery(1, handle)
}

func drainHalf(_ context.Context, _ *worker, handle func() (any, error)) (any, error) {
	return drainEvery(2, handle)
}

func drainEvery(nth int, handle func() (any, error)) (any, error) {
	answered, err := handle()
	resp := answered.(*holdfastv1.BatchCreatePurchasesResponse)
	for i := 0; i < len(resp.GetResults()); i += nth {
		resp.Results[i] = failed(errDraining)
	}
	return resp, err
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

// A worker's own error for the whole of its part is the answer to each purchase.
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
	if calls := f.shop.takeCalls(); len(calls) != 1 {
		t.Errorf("%d calls", len(calls))
	}
}

// A worker of another version may count wrongly; the front door must not fall
// over, nor answer a purchase with nothing.
func TestBatchWithAWrongNumberOfResultsIsAnError(t *testing.T) {
	for name, change := range map[string]func(*holdfastv1.BatchCreatePurchasesResponse){
		"too few":  func(r *holdfastv1.BatchCreatePurchasesResponse) { r.Results = r.GetResults()[1:] },
		"too many": func(r *holdfastv1.BatchCreatePurchasesResponse) { r.Results = append(r.Results, r.GetResults()...) },
	} {
		t.Run(name, func(t *testing.T) {
			f := openFront(t, quick, "w1")
			req := f.basket(3)
			f.workers["w1"].set(func(_ context.Context, _ *worker, handle func() (any, error)) (any, error) {
				answered, err := handle()
				change(answered.(*holdfastv1.BatchCreatePurchasesResponse))
				return answered, err
			})
			resp, err := f.purchases.BatchCreatePurchases(t.Context(), req)
			if err != nil || len(resp.GetResults()) != 3 {
				t.Fatal(resp, err)
			}
			for i, result := range resp.GetResults() {
				if code := status.FromProto(result.GetError()).Code(); code != codes.Internal {
					t.Errorf("results[%d]: %v", i, result)
				}
			}
		})
	}
}
