package coordinator_test

import (
	"errors"
	"fmt"
	"io"
	"testing"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	holdfastv1 "github.com/holdfast-io/holdfast/api/holdfast/v1"
	"github.com/holdfast-io/holdfast/coordinator"
)

func streamed(request, product string, amount int64) *holdfastv1.StreamPurchasesRequest {
	r := buy(product, amount)
	r.RequestId = request
	return &holdfastv1.StreamPurchasesRequest{Purchase: r}
}

// Each purchase of a stream is answered under its own request_id, whatever the
// others come to, and none is forgotten when the caller has said all.
func TestStreamAnswersEachPurchaseUnderItsRequestID(t *testing.T) {
	f := openFront(t, coordinator.Config{AttemptTimeout: patience, Deadline: patience}, "w1", "w2")
	f.stock("p", 5000)
	stream, err := f.purchases.StreamPurchases(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	const n = 1200 // more than may be under way at once
	go func() {
		for i := range n {
			_ = stream.Send(streamed(fmt.Sprint(i), "p", 1))
		}
		_ = stream.Send(streamed("too many", "p", 1_000_000))
		_ = stream.Send(streamed("", "p", 1))
		_ = stream.Send(streamed("bad", "p", -1))
		_ = stream.CloseSend()
	}()
	sold, reasons := map[string]bool{}, map[string]string{}
	for {
		resp, err := stream.Recv()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		if p := resp.GetPurchase(); p != nil && p.GetRequestId() == resp.GetRequestId() {
			sold[resp.GetRequestId()] = true
			continue
		}
		reasons[resp.GetRequestId()] = holdfastv1.Reason(status.ErrorProto(resp.GetError()))
	}
	if len(sold) != n || len(f.shop.stored("p")) != n {
		t.Errorf("%d sold, %d stored, want %d", len(sold), len(f.shop.stored("p")), n)
	}
	want := map[string]string{
		"too many": holdfastv1.ReasonInsufficientStock, "": holdfastv1.ReasonInvalidField, "bad": holdfastv1.ReasonInvalidField,
	}
	if fmt.Sprint(reasons) != fmt.Sprint(want) {
		t.Errorf("refused %v, want %v", reasons, want)
	}
}

// A coordinator that is replaced answers what it has read of a stream, and ends
// it so that the caller goes on elsewhere.
func TestDrainEndsStreams(t *testing.T) {
	f := openFront(t, coordinator.Config{DrainTimeout: patience}, "w1")
	f.stock("p", 10)
	reached, release := holding(f.workers["w1"])
	defer release()
	stream, err := f.purchases.StreamPurchases(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if err := stream.Send(streamed("r", "p", 1)); err != nil {
		t.Fatal(err)
	}
	await(t, reached, "the purchase to reach the worker")
	f.stop()
	f.awaitRefused(f.grpcAddr)
	release()
	if resp, err := stream.Recv(); err != nil || resp.GetPurchase() == nil {
		t.Errorf("answer: %v, %v", resp, err)
	}
	if _, err := stream.Recv(); status.Code(err) != codes.Unavailable {
		t.Errorf("end: %v", err)
	}
	begun := time.Now()
	await(t, f.stopped, "the end of Run")
	if took := time.Since(begun); took > 5*time.Second {
		t.Errorf("took %v", took)
	}
}
