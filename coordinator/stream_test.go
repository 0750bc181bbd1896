package coordinator_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"sync/atomic"
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

// A worker that fails costs a stream what it costs single purchases: nothing.
func TestStreamOutlivesAWorkerThatFails(t *testing.T) {
	for _, tt := range []struct {
		name  string
		fault fault
	}{
		{"request lost", refuse},
		{"reply lost", cutAfter},
		{"hangs after it has stored", hangAfter},
		{"draining half of it", drainHalf()},
		{"cannot reach the shard", answer(holdfastv1.Error(codes.Unavailable, holdfastv1.ReasonShardUnavailable, "shard us did not answer", nil))},
	} {
		t.Run(tt.name, func(t *testing.T) {
			f := openFront(t, quick, "w1", "w2", "w3")
			req := f.basket(30)
			f.workers["w2"].set(tt.fault)
			answers := f.stream(req.GetRequests())
			resp := &holdfastv1.BatchCreatePurchasesResponse{}
			for i := range req.GetRequests() {
				resp.Results = append(resp.Results, &holdfastv1.PurchaseResult{
					Result: &holdfastv1.PurchaseResult_Purchase{Purchase: answers[fmt.Sprint(i)].GetPurchase()},
				})
			}
			f.check(req, resp)
		})
	}
}

// stream sends purchases over a stream of their own, with their indexes for request ids,
// and returns the answers by request id.
func (f *front) stream(requests []*holdfastv1.CreatePurchaseRequest) map[string]*holdfastv1.StreamPurchasesResponse {
	f.t.Helper()
	stream, err := f.purchases.StreamPurchases(f.t.Context())
	if err != nil {
		f.t.Fatal(err)
	}
	for i, r := range requests {
		r.RequestId = fmt.Sprint(i)
		if err := stream.Send(&holdfastv1.StreamPurchasesRequest{Purchase: r}); err != nil {
			f.t.Fatal(err)
		}
	}
	_ = stream.CloseSend()
	answers := map[string]*holdfastv1.StreamPurchasesResponse{}
	for {
		resp, err := stream.Recv()
		if errors.Is(err, io.EOF) {
			return answers
		}
		if err != nil || answers[resp.GetRequestId()] != nil {
			f.t.Fatalf("%v, %v after %d answers", resp, err, len(answers))
		}
		answers[resp.GetRequestId()] = resp
	}
}

// A stream may come before the workers, as a call may.
func TestStreamWithoutWorkersIsAnswered(t *testing.T) {
	f := newShops(t).front(coordinator.Config{Deadline: 2 * time.Second})
	region := buy("p", 1)
	region.Region = "mars"
	answers := f.stream([]*holdfastv1.CreatePurchaseRequest{buy("p", 1), buy("q", 1), region})
	for id, want := range map[string]string{
		"0": holdfastv1.ReasonNoWorker, "1": holdfastv1.ReasonNoWorker, "2": holdfastv1.ReasonUnknownRegion,
	} {
		if got := holdfastv1.Reason(status.ErrorProto(answers[id].GetError())); got != want {
			t.Errorf("%s: %v, want %s", id, answers[id], want)
		}
	}
}

// A caller that sends without end must not fill the coordinator's memory, nor keep
// other callers from a worker.
func TestStreamTakesInNoMoreThanMayBeUnderWay(t *testing.T) {
	f := openFront(t, coordinator.Config{AttemptTimeout: patience, Deadline: patience}, "w1")
	f.stock("p", 5000)
	var reached atomic.Int64
	full, release := make(chan struct{}), make(chan struct{})
	f.workers["w1"].set(func(_ context.Context, _ *worker, handle func() (any, error)) (any, error) {
		if reached.Add(1) == 1024 {
			close(full)
		}
		<-release
		return handle()
	})
	stream, err := f.purchases.StreamPurchases(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	const n = 1100
	for i := range n { // they fit into gRPC's window
		if err := stream.Send(streamed(fmt.Sprint(i), "p", 1)); err != nil {
			t.Fatal(err)
		}
	}
	_ = stream.CloseSend()
	await(t, full, "the stream to be full")
	time.Sleep(50 * time.Millisecond)
	if got := reached.Load(); got != 1024 {
		t.Errorf("%d are under way", got)
	}
	close(release)
	for i := range n {
		if resp, err := stream.Recv(); err != nil || resp.GetPurchase() == nil {
			t.Fatalf("answer %d: %v, %v", i, resp, err)
		}
	}
	if _, err := stream.Recv(); !errors.Is(err, io.EOF) {
		t.Errorf("end: %v", err)
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
