package link_test

import (
	"context"
	"testing"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"

	holdfastv1 "github.com/holdfast-io/holdfast/api/holdfast/v1"
	workerv1 "github.com/holdfast-io/holdfast/api/holdfast/worker/v1"
	"github.com/holdfast-io/holdfast/api/link"
)

// told keeps which region the calls of a worker came from.
type told struct {
	*link.Server
	calls chan string
}

func (s told) HoldLine(ctx context.Context, _ *workerv1.HoldLineRequest) (*holdfastv1.Purchase, error) {
	s.calls <- link.ToldRegion(ctx)
	return &holdfastv1.Purchase{}, nil
}

// A worker that counts a purchase for the wrong region moves its product there.
func TestWorkerIsToldTheRegionOfEachCoordinator(t *testing.T) {
	calls := make(chan string, 1)
	server := told{link.NewServer(func(s *link.Sale) {
		calls <- s.Region()
		answer(s)
	}, 10), calls}
	listener := listen(t, "127.0.0.1:0")
	serve(t, listener, server)
	for _, region := range []string{"eu", "us", ""} {
		conn, err := grpc.NewClient(listener.Addr().String(),
			append(link.TellRegion(region), grpc.WithTransportCredentials(insecure.NewCredentials()))...)
		if err != nil {
			t.Fatal(err)
		}
		l := link.New(conn, 10)
		for range 2 { // the second one over the same stream
			if _, err := l.Sell(patient(t), named("r"), later()); err != nil {
				t.Error(err)
			}
			if got := <-calls; got != region {
				t.Errorf("a purchase came from %q, want %q", got, region)
			}
		}
		if _, err := workerv1.NewWorkerServiceClient(conn).HoldLine(patient(t), &workerv1.HoldLineRequest{}); err != nil {
			t.Error(err)
		}
		if got := <-calls; got != region {
			t.Errorf("a call came from %q, want %q", got, region)
		}
		l.Close()
		_ = conn.Close()
	}
}
