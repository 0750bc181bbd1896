package replay

import (
	"context"
	"fmt"
	"iter"
	"net"
	"sync"
	"testing"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/status"
	"google.golang.org/grpc/test/bufconn"

	holdfastv1 "github.com/holdfast-io/holdfast/api/holdfast/v1"
)

// shop is holdfast's API with a mutex for an implementation: honest, unless
// told to lie.
type shop struct {
	holdfastv1.UnimplementedProductServiceServer
	holdfastv1.UnimplementedPurchaseServiceServer

	before faults // the request is lost: nothing happened
	after  faults // the reply is lost: it happened, and nobody knows
	lie    lie

	mu    sync.Mutex // guards all below
	calls int
	stock map[string]int64
	left  map[string]int64
	rows  []Row
	sold  map[string]int // index of the row of each request id
}

// faults fails every nth call with a code; none if every is 0.
type faults struct {
	every int
	code  codes.Code
}

func (f faults) strike(call int) error {
	if f.every > 0 && call%f.every == 0 {
		return status.Error(f.code, "fault")
	}
	return nil
}

type lie int

const (
	honest lie = iota
	sellsMoreThanThereIs
	sellsTheSameRequestAgain
	acknowledgesWithoutStoring
	refusesTheLastUnit
	answersAnotherPurchase
)

func (s *shop) CreateProduct(_ context.Context, request *holdfastv1.CreateProductRequest) (*holdfastv1.Product, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.calls++
	if err := s.before.strike(s.calls); err != nil {
		return nil, err
	}
	product, amount := request.GetProductId(), request.GetAmountInStorage()
	if existing, ok := s.stock[product]; ok && existing != amount {
		return nil, status.Errorf(codes.AlreadyExists, "product %s has %d", product, existing)
	} else if !ok {
		s.stock[product], s.left[product] = amount, amount
	}
	if err := s.after.strike(s.calls); err != nil {
		return nil, err
	}
	return &holdfastv1.Product{ProductId: product, AmountInStorage: amount}, nil
}

func (s *shop) CreatePurchase(_ context.Context, request *holdfastv1.CreatePurchaseRequest) (*holdfastv1.Purchase, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.calls++
	if err := s.before.strike(s.calls); err != nil {
		return nil, err
	}
	row, err := s.sell(request)
	if err != nil {
		return nil, err
	}
	if err := s.after.strike(s.calls); err != nil {
		return nil, err
	}
	return &holdfastv1.Purchase{
		PurchaseId: row.PurchaseID, ProductId: row.ProductID, RequestId: row.RequestID, Amount: row.Amount,
	}, nil
}

func (s *shop) sell(request *holdfastv1.CreatePurchaseRequest) (Row, error) {
	if at, again := s.sold[request.GetRequestId()]; again && s.lie != sellsTheSameRequestAgain {
		return s.rows[at], nil
	}
	row := Row{
		PurchaseID: fmt.Sprintf("%s-%d", request.GetRegion(), s.calls),
		ProductID:  request.GetProductId(),
		RequestID:  request.GetRequestId(),
		Amount:     request.GetAmount(),
	}
	left := s.left[row.ProductID]
	if s.lie == refusesTheLastUnit {
		left--
	}
	if row.Amount > left && s.lie != sellsMoreThanThereIs {
		return Row{}, insufficientStock()
	}
	s.left[row.ProductID] -= row.Amount
	if s.lie == acknowledgesWithoutStoring && len(s.sold) > 0 {
		return row, nil
	}
	s.sold[row.RequestID] = len(s.rows)
	s.rows = append(s.rows, row)
	if s.lie == answersAnotherPurchase {
		return s.rows[0], nil
	}
	return row, nil
}

func insufficientStock() error {
	refusal := status.New(codes.FailedPrecondition, "not enough left")
	refusal, err := refusal.WithDetails(&errdetails.ErrorInfo{Reason: "INSUFFICIENT_STOCK", Domain: "holdfast"})
	if err != nil {
		return err
	}
	return refusal.Err()
}

// everyRow is what the shards of this shop hold in the end.
func (s *shop) everyRow() iter.Seq2[Row, error] {
	s.mu.Lock()
	defer s.mu.Unlock()
	return withoutError(s.rows)
}

// open serves the shop over gRPC for the length of the test, and returns the
// Config of a replay against it.
func (s *shop) open(t *testing.T) Config {
	t.Helper()
	s.stock, s.left, s.sold = make(map[string]int64), make(map[string]int64), make(map[string]int)
	listener := bufconn.Listen(1 << 16)
	server := grpc.NewServer()
	holdfastv1.RegisterProductServiceServer(server, s)
	holdfastv1.RegisterPurchaseServiceServer(server, s)
	served := make(chan error, 1)
	go func() { served <- server.Serve(listener) }()

	conn, err := grpc.NewClient("passthrough:shop",
		grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithContextDialer(func(ctx context.Context, _ string) (net.Conn, error) {
			return listener.DialContext(ctx)
		}))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := conn.Close(); err != nil {
			t.Error(err)
		}
		server.Stop()
		if err := <-served; err != nil {
			t.Error(err)
		}
	})
	return Config{
		Products:  holdfastv1.NewProductServiceClient(conn),
		Purchases: holdfastv1.NewPurchaseServiceClient(conn),
	}
}
