package link_test

import (
	"net"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"

	holdfastv1 "github.com/holdfast-io/holdfast/api/holdfast/v1"
	workerv1 "github.com/holdfast-io/holdfast/api/holdfast/worker/v1"
	"github.com/holdfast-io/holdfast/api/link"
)

// What a purchase costs on its way there and back, among others.
func BenchmarkPurchase(b *testing.B) {
	const together = 500
	stored := link.Stored{PurchaseID: "eu-1", State: holdfastv1.PurchaseState_PURCHASE_STATE_CONFIRMED, CreateTime: time.Now()}
	server := grpc.NewServer()
	workerv1.RegisterWorkerServiceServer(server, link.NewServer(func(s *link.Sale) { s.Answer(stored, nil) }, 10*together))
	listener, err := (&net.ListenConfig{}).Listen(b.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		b.Fatal(err)
	}
	done := make(chan struct{})
	go func() { defer close(done); _ = server.Serve(listener) }()
	defer func() { server.Stop(); <-done }()
	conn, err := grpc.NewClient(listener.Addr().String(), grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		b.Fatal(err)
	}
	defer func() { _ = conn.Close() }()
	l := link.New(conn, 10*together)
	defer l.Close()
	reqs := make([]*holdfastv1.CreatePurchaseRequest, together)
	for i := range reqs {
		reqs[i] = &holdfastv1.CreatePurchaseRequest{ProductId: "product", Amount: 1, CustomerId: "customer", Region: "eu", RequestId: "request"}
	}
	b.ReportAllocs()
	for n := 0; n < b.N; n += together {
		for _, a := range l.SellAll(b.Context(), reqs, time.Now().Add(time.Minute)) {
			if a.Err != nil {
				b.Fatal(a.Err)
			}
		}
	}
}
