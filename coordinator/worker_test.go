package coordinator_test

import (
	"context"
	"net"
	"sync"
	"testing"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"

	holdfastv1 "github.com/holdfast-io/holdfast/api/holdfast/v1"
	workerv1 "github.com/holdfast-io/holdfast/api/holdfast/worker/v1"
	"github.com/holdfast-io/holdfast/api/link"
	"github.com/holdfast-io/holdfast/api/link/linktest"
)

// worker is a fake worker in front of the shop, behind a real gRPC server.
type worker struct {
	shop     *shop
	name     string
	listener *cuttable
	frost    *freezer
	server   *grpc.Server

	mu    sync.Mutex
	fault fault // nil is none
}

// fault is what a worker does with a call instead of answering it; handle
// answers it.
type fault func(ctx context.Context, w *worker, handle func() (any, error)) (any, error)

func serveWorker(t testing.TB, name string, s *shop) *worker {
	t.Helper()
	w := &worker{shop: s, name: name, frost: newFreezer(listen(t))}
	w.listener = &cuttable{Listener: w.frost}
	w.server = grpc.NewServer(grpc.UnaryInterceptor(w.intercept))
	holdfastv1.RegisterProductServiceServer(w.server, products{shop: s})
	holdfastv1.RegisterPurchaseServiceServer(w.server, purchases{shop: s})
	holdfastv1.RegisterEventServiceServer(w.server, events{worker: w, shop: s})
	holdfastv1.RegisterOrderServiceServer(w.server, orders{shop: s})
	workerv1.RegisterWorkerServiceServer(w.server, forCoordinators{endOfLinks(w.sell), s})
	done := make(chan struct{})
	go func() { defer close(done); _ = w.server.Serve(w.listener) }()
	t.Cleanup(func() { w.server.Stop(); <-done })
	return w
}

// seller decides a purchase that came over a link.
type seller = func(context.Context, *holdfastv1.CreatePurchaseRequest) (*holdfastv1.Purchase, error)

func endOfLinks(sell seller) *link.Server { return linktest.Worker(sell, 10_000) }

// forCoordinators is what a worker answers beside the public contract.
type forCoordinators struct {
	*link.Server
	shop *shop
}

func (f forCoordinators) Readmit(_ context.Context, req *workerv1.ReadmitRequest) (*holdfastv1.Purchase, error) {
	return f.shop.change(req)
}

type (
	products struct {
		holdfastv1.UnsafeProductServiceServer
		*shop
	}
	purchases struct {
		holdfastv1.UnsafePurchaseServiceServer
		*shop
	}
)

func (w *worker) address() string { return w.listener.Addr().String() }

func (w *worker) set(f fault) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.fault = f
}

func (w *worker) intercept(ctx context.Context, req any, _ *grpc.UnaryServerInfo, handler grpc.UnaryHandler) (any, error) {
	w.shop.record(w.name, req.(proto.Message))
	w.mu.Lock()
	f := w.fault
	w.mu.Unlock()
	handle := func() (any, error) { return handler(ctx, req) }
	if f == nil {
		return handle()
	}
	return f(ctx, w, handle)
}

// sell is a call that came over a link.
func (w *worker) sell(ctx context.Context, req *holdfastv1.CreatePurchaseRequest) (*holdfastv1.Purchase, error) {
	answered, err := w.intercept(ctx, req, nil, func(ctx context.Context, req any) (any, error) {
		return w.shop.CreatePurchase(ctx, req.(*holdfastv1.CreatePurchaseRequest))
	})
	purchase, _ := answered.(*holdfastv1.Purchase)
	return purchase, err
}

// cuttable is a listener whose connections can be cut.
type cuttable struct {
	net.Listener
	mu    sync.Mutex
	conns []net.Conn
}

func (l *cuttable) Accept() (net.Conn, error) {
	conn, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.conns = append(l.conns, conn)
	return conn, nil
}

func (l *cuttable) cut() {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, conn := range l.conns {
		_ = conn.Close()
	}
	l.conns = nil
}

// The faults. Before: the request is lost, nothing is stored. After: it is
// stored, and the reply is lost.

var errBroken = status.Error(codes.Unavailable, "broken")

func refuse(context.Context, *worker, func() (any, error)) (any, error) { return nil, errBroken }

func cutBefore(ctx context.Context, w *worker, _ func() (any, error)) (any, error) {
	w.listener.cut()
	<-ctx.Done()
	return nil, ctx.Err()
}

func refuseAfter(_ context.Context, _ *worker, handle func() (any, error)) (any, error) {
	_, _ = handle()
	return nil, errBroken
}

func cutAfter(ctx context.Context, w *worker, handle func() (any, error)) (any, error) {
	_, _ = handle()
	return cutBefore(ctx, w, nil)
}

func hang(ctx context.Context, _ *worker, _ func() (any, error)) (any, error) {
	<-ctx.Done()
	return nil, ctx.Err()
}

func hangAfter(ctx context.Context, w *worker, handle func() (any, error)) (any, error) {
	_, _ = handle()
	return hang(ctx, w, nil)
}

// answer is an answer of the worker's own.
func answer(err error) fault {
	return func(context.Context, *worker, func() (any, error)) (any, error) { return nil, err }
}

var errDraining = holdfastv1.Error(codes.Unavailable, holdfastv1.ReasonWorkerDraining, "worker is draining", nil)
