package coordinator_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"sync/atomic"
	"syscall"
	"testing"

	"google.golang.org/grpc"

	holdfastv1 "github.com/holdfast-io/holdfast/api/holdfast/v1"
	workerv1 "github.com/holdfast-io/holdfast/api/holdfast/worker/v1"
	"github.com/holdfast-io/holdfast/coordinator"
)

// openTill is a coordinator before three workers that sell everything at once, so that
// what is measured is the way there and back.
func openTill(b *testing.B) *front {
	b.Helper()
	s := newShops(b)
	for i := range 3 {
		listener, server := listen(b), grpc.NewServer()
		workerv1.RegisterWorkerServiceServer(server, endOfLinks(sellAtOnce))
		done := make(chan struct{})
		go func() { defer close(done); _ = server.Serve(listener) }()
		b.Cleanup(func() { server.Stop(); <-done })
		s.register(fmt.Sprint("w", i), listener.Addr().String())
	}
	f := s.front(coordinator.Config{})
	if _, err := f.purchases.CreatePurchase(b.Context(), order(0)); err != nil {
		b.Fatal(err)
	}
	return f
}

func sellAtOnce(_ context.Context, r *holdfastv1.CreatePurchaseRequest) (*holdfastv1.Purchase, error) {
	return &holdfastv1.Purchase{
		PurchaseId: "eu-0192f4c0-7a52-7cc3-98c4-dc0c0c07398f", ProductId: r.GetProductId(), Amount: r.GetAmount(),
		CustomerId: r.GetCustomerId(), Region: r.GetRegion(), RequestId: r.GetRequestId(),
		State: holdfastv1.PurchaseState_PURCHASE_STATE_CONFIRMED, CreateTime: opened,
	}, nil
}

// measure reports allocations, and the processors' time: other processes have their
// share in what the clock says.
func measure(b *testing.B) (stop func()) {
	b.ReportAllocs()
	b.ResetTimer()
	begun := processorTime(b)
	return func() { b.ReportMetric(float64(processorTime(b)-begun)/float64(b.N), "cpu-ns/op") }
}

func processorTime(b *testing.B) int64 {
	var used syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &used); err != nil {
		b.Fatal(err)
	}
	return used.Utime.Nano() + used.Stime.Nano()
}

func order(n int64) *holdfastv1.CreatePurchaseRequest {
	return &holdfastv1.CreatePurchaseRequest{
		ProductId: fmt.Sprint("product-", n%1000), Amount: 1, CustomerId: fmt.Sprint("customer-", n), RequestId: fmt.Sprint("request-", n),
	}
}

func BenchmarkCreatePurchase(b *testing.B) {
	f := openTill(b)
	var n atomic.Int64
	buyer := func(pb *testing.PB) {
		for pb.Next() {
			if _, err := f.purchases.CreatePurchase(context.Background(), order(n.Add(1))); err != nil {
				b.Error(err)
				return
			}
		}
	}
	for _, callers := range []int{1, 128} { // for each processor
		b.Run(fmt.Sprint("callers=", callers), func(b *testing.B) {
			b.SetParallelism(callers)
			defer measure(b)()
			b.RunParallel(buyer)
		})
	}
}

// An operation is a hundred purchases.
func BenchmarkBatchCreatePurchases(b *testing.B) {
	f := openTill(b)
	defer measure(b)()
	for n := range int64(b.N) {
		req := &holdfastv1.BatchCreatePurchasesRequest{}
		for i := range int64(100) {
			req.Requests = append(req.Requests, order(n*100+i))
		}
		if _, err := f.purchases.BatchCreatePurchases(context.Background(), req); err != nil {
			b.Fatal(err)
		}
	}
}

// An operation is one purchase of a stream that is kept full.
func BenchmarkStreamPurchases(b *testing.B) {
	f := openTill(b)
	stream, err := f.purchases.StreamPurchases(context.Background())
	if err != nil {
		b.Fatal(err)
	}
	defer measure(b)()
	go func() {
		for i := range b.N {
			_ = stream.Send(&holdfastv1.StreamPurchasesRequest{Purchase: order(int64(i))})
		}
		_ = stream.CloseSend()
	}()
	for range b.N {
		if resp, err := stream.Recv(); err != nil || resp.GetPurchase() == nil {
			b.Fatal(resp, err)
		}
	}
	if _, err := stream.Recv(); !errors.Is(err, io.EOF) {
		b.Error(err)
	}
}
