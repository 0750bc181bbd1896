package link_test

import (
	"context"
	"fmt"
	"net"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"
	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/status"

	holdfastv1 "github.com/holdfast-io/holdfast/api/holdfast/v1"
	workerv1 "github.com/holdfast-io/holdfast/api/holdfast/worker/v1"
	"github.com/holdfast-io/holdfast/api/link"
	"github.com/holdfast-io/holdfast/api/link/linktest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// patience bounds waits for what must happen; nothing is measured by it.
const patience = 20 * time.Second

type (
	req = holdfastv1.CreatePurchaseRequest
	// seller decides a purchase, as a worker does.
	seller func(context.Context, *req) (*holdfastv1.Purchase, error)
)

// sells answers with a purchase that names the request.
func sells(_ context.Context, r *req) (*holdfastv1.Purchase, error) {
	return &holdfastv1.Purchase{RequestId: r.GetRequestId()}, nil
}

func answer(s *link.Sale) {
	p, err := sells(context.Background(), s.Request)
	s.Answer(linktest.Stored(p), err)
}

// serve has a real gRPC server at an address, and returns how to end it at once.
func serve(t *testing.T, l net.Listener, server workerv1.WorkerServiceServer) (kill func()) {
	t.Helper()
	g := grpc.NewServer()
	workerv1.RegisterWorkerServiceServer(g, server)
	done := make(chan struct{})
	go func() { defer close(done); _ = g.Serve(l) }()
	kill = sync.OnceFunc(func() { g.Stop(); <-done })
	t.Cleanup(kill)
	return kill
}

func listen(t *testing.T, address string) net.Listener {
	t.Helper()
	l, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	return l
}

func dial(t *testing.T, address string, limit int) *link.Link {
	t.Helper()
	conn, err := grpc.NewClient(address, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	l := link.New(conn, limit)
	t.Cleanup(func() { l.Close(); _ = conn.Close() })
	return l
}

func connect(t *testing.T, sell seller, limit, atWorker int) (*link.Link, *link.Server) {
	t.Helper()
	server := linktest.Worker(sell, atWorker)
	listener := listen(t, "127.0.0.1:0")
	serve(t, listener, server)
	return dial(t, listener.Addr().String(), limit), server
}

func named(id string) *req { return &req{RequestId: id} }

// later is until when a purchase is to be decided that nothing keeps from it.
func later() time.Time { return time.Now().Add(patience) }

func patient(t *testing.T) context.Context {
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	t.Cleanup(cancel)
	return ctx
}

func await(t *testing.T, happened <-chan struct{}, what string) {
	t.Helper()
	select {
	case <-happened:
	case <-time.After(patience):
		t.Fatalf("%s did not happen", what)
	}
}

// Thousands share a stream, and its messages; each must get its own answer.
func TestEachPurchaseGetsItsOwnAnswer(t *testing.T) {
	refused := holdfastv1.Error(codes.FailedPrecondition, holdfastv1.ReasonInsufficientStock, "none left", nil)
	l, _ := connect(t, func(ctx context.Context, r *req) (*holdfastv1.Purchase, error) {
		if r.GetAmount() == 7 {
			return nil, refused
		}
		return sells(ctx, r)
	}, 10_000, 10_000)
	ctx := patient(t)
	check := func(id string, amount int64, p *holdfastv1.Purchase, err error) {
		if amount == 7 {
			if holdfastv1.Reason(err) != holdfastv1.ReasonInsufficientStock || status.Convert(err).Message() != "none left" {
				t.Errorf("%s: refused with %v", id, err)
			}
			return
		}
		if err != nil || p.GetRequestId() != id {
			t.Errorf("%s: got %v, %v", id, p, err)
		}
	}
	var buyers sync.WaitGroup
	for b := range 200 {
		buyers.Go(func() {
			for i := range int64(20) {
				r := &req{RequestId: fmt.Sprint(b, "/", i), Amount: i}
				p, err := l.Sell(ctx, r, later())
				check(r.GetRequestId(), i, p, err)
			}
		})
	}
	buyers.Go(func() {
		var all []*req
		for i := range int64(3000) { // more than one message takes
			all = append(all, &req{RequestId: fmt.Sprint("all/", i), Amount: i % 10})
		}
		for i, a := range l.SellAll(ctx, all, later()) {
			check(all[i].GetRequestId(), all[i].GetAmount(), a.Purchase, a.Err)
		}
	})
	buyers.Wait()
}

// A product that has to be taken over first takes long; the others share its stream.
func TestSlowPurchaseDelaysNoOther(t *testing.T) {
	release := make(chan struct{})
	l, _ := connect(t, func(ctx context.Context, r *req) (*holdfastv1.Purchase, error) {
		if r.GetRequestId() == "slow" {
			<-release
		}
		return sells(ctx, r)
	}, 10, 10)
	ctx := patient(t)
	slow := make(chan error, 1)
	go func() { _, err := l.Sell(ctx, named("slow"), later()); slow <- err }()
	for i := range 10 {
		if _, err := l.Sell(ctx, named(fmt.Sprint(i)), later()); err != nil {
			t.Fatal(err)
		}
	}
	close(release)
	if err := <-slow; err != nil {
		t.Error(err)
	}
}

// A worker must not go on queueing for a product for somebody who is elsewhere by now.
func TestWorkerLearnsThatNobodyWaits(t *testing.T) {
	began, ended := make(chan struct{}), make(chan struct{})
	l, _ := connect(t, func(ctx context.Context, r *req) (*holdfastv1.Purchase, error) {
		if r.GetRequestId() == "left" {
			close(began)
			<-ctx.Done()
			close(ended)
		}
		return sells(ctx, r)
	}, 10, 10)
	ctx, leave := context.WithCancel(t.Context())
	told := make(chan error, 1)
	go func() { _, err := l.Sell(ctx, named("left"), later()); told <- err }()
	await(t, began, "the sale")
	leave()
	if err := <-told; status.Code(err) != codes.Canceled {
		t.Errorf("got %v, want CANCELED", err)
	}
	await(t, ended, "the end of the sale's context")
	late, cancel := context.WithTimeout(t.Context(), -time.Second)
	defer cancel()
	if _, err := l.Sell(late, named("late"), later()); status.Code(err) != codes.DeadlineExceeded {
		t.Errorf("got %v, want DEADLINE_EXCEEDED", err)
	}
	if _, err := l.Sell(patient(t), named("next"), later()); err != nil {
		t.Error(err)
	}
}

// A worker that cannot decide, since a shard is away say, must not take what nobody waits
// for any more for being under way: it would turn all others away.
func TestAbandonedPurchaseDoesNotCount(t *testing.T) {
	began, never := make(chan struct{}, 1), make(chan *link.Sale, 1)
	server := link.NewServer(func(s *link.Sale) {
		if s.Request.GetRequestId() == "undecided" {
			never <- s
			began <- struct{}{}
			return
		}
		answer(s)
	}, 1)
	listener := listen(t, "127.0.0.1:0")
	kill := serve(t, listener, server)
	l := dial(t, listener.Addr().String(), 10)
	ctx, leave := context.WithCancel(t.Context())
	left := make(chan error, 1)
	go func() { _, err := l.Sell(ctx, named("undecided"), time.Now().Add(patience)); left <- err }()
	await(t, began, "the sale")
	leave()
	if err := <-left; status.Code(err) != codes.Canceled {
		t.Errorf("got %v, want CANCELED", err)
	}
	for ctx := patient(t); ; { // the worker takes a moment to hear of it
		_, err := l.Sell(ctx, named("other"), time.Now().Add(patience))
		if err == nil {
			break
		}
		if holdfastv1.Reason(err) != holdfastv1.ReasonOverloaded {
			t.Fatal(err)
		}
	}
	s := <-never
	answer(s) // decided after all: nobody is told
	if s.Context().Err() == nil {
		t.Error("its context has not ended")
	}
	go func() {
		for overloaded := true; overloaded; { // the worker takes a moment to have room again
			_, err := l.Sell(patient(t), named("undecided"), time.Now().Add(patience))
			overloaded = holdfastv1.Reason(err) == holdfastv1.ReasonOverloaded
		}
	}()
	await(t, began, "the sale")
	kill() // waits for the stream, which must not wait for the sale
}

// What was under way when a stream broke may be stored or not: that is no answer
// of the worker. The next purchase finds the worker that was started again.
func TestBrokenStream(t *testing.T) {
	listener := listen(t, "127.0.0.1:0")
	address := listener.Addr().String()
	began, ended := make(chan struct{}), make(chan struct{})
	kill := serve(t, listener, linktest.Worker(func(ctx context.Context, _ *req) (*holdfastv1.Purchase, error) {
		close(began)
		<-ctx.Done()
		close(ended)
		return nil, ctx.Err()
	}, 10))
	l := dial(t, address, 10)
	told := make(chan error, 1)
	go func() { _, err := l.Sell(patient(t), named("lost"), later()); told <- err }()
	await(t, began, "the sale")
	kill()
	await(t, ended, "the end of the sale's context")
	err := <-told
	if status.Code(err) != codes.Unavailable || holdfastv1.Info(err) != nil {
		t.Errorf("got %v, want a bare UNAVAILABLE", err)
	}
	if _, err := l.Sell(patient(t), named("nobody listens"), later()); status.Code(err) != codes.Unavailable {
		t.Errorf("got %v, want UNAVAILABLE", err)
	}
	serve(t, listen(t, address), linktest.Worker(sells, 10))
	for ctx := patient(t); ; {
		_, err := l.Sell(ctx, named("again"), later())
		if err == nil {
			break
		}
		if status.Code(err) != codes.Unavailable {
			t.Fatal(err)
		}
	}
}

// Memory is bounded on both sides, and one who came too much is told when to come back.
func TestTooManyPurchases(t *testing.T) {
	for name, limits := range map[string][2]int{"at the coordinator": {3, 100}, "at the worker": {100, 3}} {
		t.Run(name, func(t *testing.T) {
			began, release := make(chan struct{}, 3), make(chan struct{})
			l, _ := connect(t, func(ctx context.Context, r *req) (*holdfastv1.Purchase, error) {
				began <- struct{}{}
				<-release
				return sells(ctx, r)
			}, limits[0], limits[1])
			ctx := patient(t)
			var under sync.WaitGroup
			for i := range 3 {
				under.Go(func() {
					if _, err := l.Sell(ctx, named(fmt.Sprint(i)), later()); err != nil {
						t.Error(err)
					}
				})
			}
			for range 3 {
				<-began
			}
			_, err := l.Sell(ctx, named("too many"), later())
			if status.Code(err) != codes.ResourceExhausted || holdfastv1.Reason(err) != holdfastv1.ReasonOverloaded {
				t.Errorf("got %v, want OVERLOADED", err)
			}
			told := false
			for _, d := range status.Convert(err).Details() {
				retry, ok := d.(*errdetails.RetryInfo)
				told = told || ok && retry.GetRetryDelay().AsDuration() > 0
			}
			if !told {
				t.Error("without a RetryInfo")
			}
			close(release)
			under.Wait()
			for i := range 10 { // there is room again, each time
				if _, err := l.Sell(ctx, named(fmt.Sprint("after ", i)), later()); err != nil {
					t.Error(err)
				}
				<-began
			}
		})
	}
}

// A worker that stops answers what it was given. What comes then is for another one.
func TestStoppedServerAnswersWhatItHas(t *testing.T) {
	began, release := make(chan struct{}), make(chan struct{})
	l, server := connect(t, func(ctx context.Context, r *req) (*holdfastv1.Purchase, error) {
		if r.GetRequestId() == "first" {
			close(began)
			<-release
		}
		return sells(ctx, r)
	}, 10, 10)
	ctx := patient(t)
	told := make(chan error, 1)
	go func() { _, err := l.Sell(ctx, named("first"), later()); told <- err }()
	await(t, began, "the sale")
	server.Stop()
	close(release)
	if err := <-told; err != nil {
		t.Error(err)
	}
	for { // the stream takes a moment to hear of it
		_, err := l.Sell(ctx, named("later"), later())
		if status.Code(err) == codes.Unavailable && holdfastv1.Info(err) == nil {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
	}
}

// odd answers with what makes no sense.
type odd struct {
	workerv1.UnimplementedWorkerServiceServer
	answer func(number uint64) *workerv1.SellResponse
}

func (o odd) Sell(stream grpc.BidiStreamingServer[workerv1.SellRequest, workerv1.SellResponse]) error {
	msg, err := stream.Recv()
	if err != nil {
		return err
	}
	_ = stream.Send(o.answer(msg.GetNumbers()[0]))
	<-stream.Context().Done()
	return nil
}

// A worker of another version may answer what this one does not know: that is an
// error, and never a purchase.
func TestAnswerThatMakesNoSense(t *testing.T) {
	for name, tt := range map[string]struct {
		answer func(number uint64) *workerv1.SellResponse
		want   codes.Code
	}{
		"an error that is none": {func(number uint64) *workerv1.SellResponse {
			return &workerv1.SellResponse{
				Numbers: []uint64{number + 1}, States: make([]holdfastv1.PurchaseState, 1), CreateTimes: []int64{1},
				PurchaseIds: "eu-1", PurchaseIdLengths: []uint32{4},
				Errors: []*workerv1.SaleError{{Number: number + 2}, {Number: number}},
			}
		}, codes.Internal},
		"a purchase without its columns": {func(number uint64) *workerv1.SellResponse {
			return &workerv1.SellResponse{Numbers: []uint64{number}}
		}, codes.Unavailable},
	} {
		t.Run(name, func(t *testing.T) {
			listener := listen(t, "127.0.0.1:0")
			serve(t, listener, odd{answer: tt.answer})
			p, err := dial(t, listener.Addr().String(), 10).Sell(patient(t), named("r"), later())
			if p != nil || status.Code(err) != tt.want {
				t.Errorf("got %v, %v; want %v", p, err, tt.want)
			}
		})
	}
}
