package client_test

import (
	"context"
	"fmt"
	"net"
	"slices"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"
	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/holdfast-io/holdfast/api/client"
	holdfastv1 "github.com/holdfast-io/holdfast/api/holdfast/v1"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// shop stands in for all that is behind coordinators. It does once what it is asked for with
// one request_id.
type shop struct {
	holdfastv1.UnimplementedProductServiceServer
	holdfastv1.UnimplementedPurchaseServiceServer

	mu        sync.Mutex
	purchases map[string]*holdfastv1.Purchase // by request_id
	asked     []asked
	faults    []fault // of the next calls, one each
}

// asked is a call that has reached a coordinator.
type asked struct {
	coordinator int
	at          time.Time
	req         proto.Message
}

// fault is what happens to a call instead of its being answered; do answers it.
type fault func(ctx context.Context, c *coordinator, do func() (any, error)) (any, error)

// coordinator serves the shop, behind a listener whose connections can be cut.
type coordinator struct {
	*shop
	number int
	net.Listener

	connsMu sync.Mutex
	conns   []net.Conn
}

// open opens a shop with some coordinators, and a client of them all.
func open(t testing.TB, coordinators int, cfg client.Config, faults ...fault) (*shop, *client.Client) {
	t.Helper()
	s := newShop(faults...)
	var targets []string
	for i := range coordinators {
		address, stop, err := s.serve(i)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(stop)
		targets = append(targets, address)
	}
	cfg.Credentials = insecure.NewCredentials()
	c, err := client.New(targets, cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := c.Close(); err != nil {
			t.Error(err)
		}
	})
	return s, c
}

// serve serves the shop until stop is called.
func (s *shop) serve(number int) (address string, stop func(), err error) {
	listener, err := (&net.ListenConfig{}).Listen(context.Background(), "tcp", "127.0.0.1:0")
	if err != nil {
		return "", nil, err
	}
	c := &coordinator{shop: s, number: number, Listener: listener}
	server := grpc.NewServer(grpc.UnaryInterceptor(c.intercept))
	holdfastv1.RegisterProductServiceServer(server, s)
	holdfastv1.RegisterPurchaseServiceServer(server, s)
	var serving sync.WaitGroup
	serving.Go(func() { _ = server.Serve(c) })
	return listener.Addr().String(), func() { server.Stop(); serving.Wait() }, nil
}

// serveExample serves a shop to the examples.
func serveExample() (addresses []string, stop func()) {
	address, stop, err := newShop().serve(0)
	if err != nil {
		panic(err)
	}
	return []string{address}, stop
}

func newShop(faults ...fault) *shop {
	return &shop{purchases: map[string]*holdfastv1.Purchase{}, faults: faults}
}

func (c *coordinator) Accept() (net.Conn, error) {
	conn, err := c.Listener.Accept()
	if err == nil {
		c.connsMu.Lock()
		defer c.connsMu.Unlock()
		c.conns = append(c.conns, conn)
	}
	return conn, err
}

func (c *coordinator) cut() {
	c.connsMu.Lock()
	defer c.connsMu.Unlock()
	for _, conn := range c.conns {
		_ = conn.Close()
	}
	c.conns = nil
}

func (c *coordinator) intercept(ctx context.Context, req any, _ *grpc.UnaryServerInfo, handler grpc.UnaryHandler) (any, error) {
	do := func() (any, error) { return handler(ctx, req) }
	c.mu.Lock()
	c.asked = append(c.asked, asked{c.number, time.Now(), proto.Clone(req.(proto.Message))})
	var f fault
	if len(c.faults) > 0 {
		f, c.faults = c.faults[0], c.faults[1:]
	}
	c.mu.Unlock()
	if f == nil {
		return do()
	}
	return f(ctx, c, do)
}

// The faults. Before: nothing has happened. After: it has, and nobody is told.

func cutBefore(ctx context.Context, c *coordinator, _ func() (any, error)) (any, error) {
	c.cut()
	<-ctx.Done()
	return nil, ctx.Err()
}

func cutAfter(ctx context.Context, c *coordinator, do func() (any, error)) (any, error) {
	_, _ = do()
	return cutBefore(ctx, c, nil)
}

func hang(ctx context.Context, _ *coordinator, _ func() (any, error)) (any, error) {
	<-ctx.Done()
	return nil, ctx.Err()
}

func hangAfter(ctx context.Context, _ *coordinator, do func() (any, error)) (any, error) {
	_, _ = do()
	<-ctx.Done()
	return nil, ctx.Err()
}

func answer(err error) fault {
	return func(context.Context, *coordinator, func() (any, error)) (any, error) { return nil, err }
}

func answerAfter(err error) fault {
	return func(_ context.Context, _ *coordinator, do func() (any, error)) (any, error) {
		_, _ = do()
		return nil, err
	}
}

func overloaded(again time.Duration) error {
	return holdfastv1.Error(codes.ResourceExhausted, holdfastv1.ReasonOverloaded, "too many purchases are under way", nil,
		&errdetails.RetryInfo{RetryDelay: durationpb.New(again)})
}

var errNoWorker = holdfastv1.Error(codes.Unavailable, holdfastv1.ReasonNoWorker, "no worker answered", nil)

func (s *shop) CreateProduct(_ context.Context, req *holdfastv1.CreateProductRequest) (*holdfastv1.Product, error) {
	return &holdfastv1.Product{ProductId: req.GetProductId(), AmountInStorage: req.GetAmountInStorage()}, nil
}

func (s *shop) GetProduct(_ context.Context, req *holdfastv1.GetProductRequest) (*holdfastv1.Product, error) {
	return &holdfastv1.Product{ProductId: req.GetProductId()}, nil
}

func (s *shop) CreatePurchase(_ context.Context, req *holdfastv1.CreatePurchaseRequest) (*holdfastv1.Purchase, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if req.GetProductId() == "sold out" {
		return nil, holdfastv1.Error(codes.FailedPrecondition, holdfastv1.ReasonInsufficientStock, "no",
			map[string]string{"available": "1"})
	}
	p, ok := s.purchases[req.GetRequestId()]
	if !ok {
		p = &holdfastv1.Purchase{
			PurchaseId: fmt.Sprintf("eu-%d", len(s.purchases)+1), ProductId: req.GetProductId(), Amount: req.GetAmount(),
			RequestId: req.GetRequestId(), State: holdfastv1.PurchaseState_PURCHASE_STATE_CONFIRMED,
		}
		if req.GetHold() != nil {
			p.State = holdfastv1.PurchaseState_PURCHASE_STATE_HELD
		}
		s.purchases[req.GetRequestId()] = p
	}
	return p, nil
}

func (s *shop) ConfirmPurchase(_ context.Context, req *holdfastv1.ConfirmPurchaseRequest) (*holdfastv1.Purchase, error) {
	return &holdfastv1.Purchase{
		PurchaseId: req.GetPurchaseId(), State: holdfastv1.PurchaseState_PURCHASE_STATE_CONFIRMED, Amount: 2,
	}, nil
}

// BatchCreatePurchases refuses a purchase of "busy" the first time it is asked for.
func (s *shop) BatchCreatePurchases(
	ctx context.Context, req *holdfastv1.BatchCreatePurchasesRequest,
) (*holdfastv1.BatchCreatePurchasesResponse, error) {
	resp := &holdfastv1.BatchCreatePurchasesResponse{}
	for _, r := range req.GetRequests() {
		p, err := s.CreatePurchase(ctx, r)
		if r.GetProductId() == "busy" && s.times(r.GetRequestId()) == 1 {
			err = errNoWorker
		}
		result := &holdfastv1.PurchaseResult{Result: &holdfastv1.PurchaseResult_Purchase{Purchase: p}}
		if err != nil {
			result.Result = &holdfastv1.PurchaseResult_Error{Error: status.Convert(err).Proto()}
		}
		resp.Results = append(resp.Results, result)
	}
	return resp, nil
}

// times counts how often a purchase of a batch was asked for.
func (s *shop) times(requestID string) (n int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, a := range s.asked {
		batch, _ := a.req.(*holdfastv1.BatchCreatePurchasesRequest)
		if slices.ContainsFunc(batch.GetRequests(), func(r *holdfastv1.CreatePurchaseRequest) bool { return r.GetRequestId() == requestID }) {
			n++
		}
	}
	return n
}

func (s *shop) StreamPurchases(stream grpc.BidiStreamingServer[holdfastv1.StreamPurchasesRequest, holdfastv1.StreamPurchasesResponse]) error {
	for {
		req, err := stream.Recv()
		if err != nil {
			return nil //nolint:nilerr // the caller has said all
		}
		if req.GetPurchase().GetProductId() == "broken" {
			return errNoWorker
		}
		p, _ := s.CreatePurchase(stream.Context(), req.GetPurchase())
		if err := stream.Send(&holdfastv1.StreamPurchasesResponse{
			RequestId: req.GetPurchase().GetRequestId(), Result: &holdfastv1.StreamPurchasesResponse_Purchase{Purchase: p},
		}); err != nil {
			return err
		}
	}
}

// calls returns what has reached the coordinators.
func (s *shop) calls() []asked {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.asked)
}

func (s *shop) stored() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.purchases)
}
