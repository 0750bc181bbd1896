package coordinator_test

import (
	"context"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"

	holdfastv1 "github.com/holdfast-io/holdfast/api/holdfast/v1"
)

// opened is the time of everything in the shop.
var opened = timestamppb.New(time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC))

// shop stands in for the shards: it is what all fake workers of a test share. It
// keeps the contract's promises, and remembers who was asked for what.
type shop struct {
	mu        sync.Mutex
	products  map[string]*holdfastv1.Product
	purchases []*holdfastv1.Purchase
	calls     []call
	changes   onChange // nil when the test is not about changes
	order     *placed  // nil when the test is not about orders
}

// call is a call that has reached a worker.
type call struct {
	worker string
	req    proto.Message
}

func newShop() *shop { return &shop{products: map[string]*holdfastv1.Product{}} }

func (s *shop) record(worker string, req proto.Message) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.calls = append(s.calls, call{worker, proto.Clone(req)})
}

// takeCalls returns the calls since it was asked last.
func (s *shop) takeCalls() []call {
	s.mu.Lock()
	defer s.mu.Unlock()
	taken := s.calls
	s.calls = nil
	return taken
}

// stored returns the purchases of a product, in order of admission.
func (s *shop) stored(product string) (found []*holdfastv1.Purchase) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, p := range s.purchases {
		if p.GetProductId() == product {
			found = append(found, p)
		}
	}
	return found
}

func (s *shop) CreateProduct(_ context.Context, req *holdfastv1.CreateProductRequest) (*holdfastv1.Product, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	p, ok := s.products[req.GetProductId()]
	switch {
	case !ok:
		s.products[req.GetProductId()] = &holdfastv1.Product{
			ProductId: req.GetProductId(), AmountInStorage: req.GetAmountInStorage(),
			AmountAvailableForPurchase: req.GetAmountInStorage(), CreateTime: opened,
		}
	case p.GetAmountInStorage() != req.GetAmountInStorage():
		return nil, holdfastv1.Error(codes.AlreadyExists, holdfastv1.ReasonProductExists,
			fmt.Sprintf("amount_in_storage: product %q exists with %d", p.GetProductId(), p.GetAmountInStorage()), nil)
	}
	return s.product(req.GetProductId())
}

func (s *shop) GetProduct(_ context.Context, req *holdfastv1.GetProductRequest) (*holdfastv1.Product, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.product(req.GetProductId())
}

// product returns a copy. The caller holds mu.
func (s *shop) product(id string) (*holdfastv1.Product, error) {
	p, ok := s.products[id]
	if !ok {
		return nil, holdfastv1.Error(codes.NotFound, holdfastv1.ReasonProductNotFound,
			fmt.Sprintf("product_id: there is no product %q", id), map[string]string{"product_id": id})
	}
	return proto.CloneOf(p), nil
}

func (s *shop) ListProducts(context.Context, *holdfastv1.ListProductsRequest) (*holdfastv1.ListProductsResponse, error) {
	return &holdfastv1.ListProductsResponse{}, nil
}

func (s *shop) CreatePurchase(_ context.Context, req *holdfastv1.CreatePurchaseRequest) (*holdfastv1.Purchase, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	product, ok := s.products[req.GetProductId()]
	if !ok {
		_, err := s.product(req.GetProductId())
		return nil, err
	}
	for _, p := range s.purchases {
		if p.GetProductId() == req.GetProductId() && p.GetRegion() == req.GetRegion() && p.GetRequestId() == req.GetRequestId() {
			if p.GetAmount() != req.GetAmount() {
				return nil, holdfastv1.FieldError(holdfastv1.ReasonRequestIDReused, "request_id", "was used with other content")
			}
			return proto.CloneOf(p), nil
		}
	}
	if available := product.GetAmountAvailableForPurchase(); req.GetAmount() > available {
		return nil, holdfastv1.Error(codes.FailedPrecondition, holdfastv1.ReasonInsufficientStock,
			fmt.Sprintf("%d asked for, %d available", req.GetAmount(), available),
			map[string]string{"product_id": req.GetProductId(), "available": strconv.FormatInt(available, 10)})
	}
	product.AmountAvailableForPurchase -= req.GetAmount()
	p := &holdfastv1.Purchase{
		PurchaseId: fmt.Sprintf("%s-%08d", req.GetRegion(), len(s.purchases)+1), ProductId: req.GetProductId(),
		Amount: req.GetAmount(), CustomerId: req.GetCustomerId(), Region: req.GetRegion(), PaymentMethod: req.GetPaymentMethod(),
		RequestId: req.GetRequestId(), State: holdfastv1.PurchaseState_PURCHASE_STATE_CONFIRMED, CreateTime: opened,
	}
	if hold := req.GetHold(); hold != nil {
		p.State, p.ExpireTime = holdfastv1.PurchaseState_PURCHASE_STATE_HELD, hold.GetExpireTime()
	}
	s.purchases = append(s.purchases, p)
	return proto.CloneOf(p), nil
}

// BatchCreatePurchases and StreamPurchases are for buyers; coordinators do not call them.
func (s *shop) BatchCreatePurchases(
	context.Context, *holdfastv1.BatchCreatePurchasesRequest,
) (*holdfastv1.BatchCreatePurchasesResponse, error) {
	return nil, status.Error(codes.Unimplemented, "not a coordinator")
}

func (s *shop) StreamPurchases(grpc.BidiStreamingServer[holdfastv1.StreamPurchasesRequest, holdfastv1.StreamPurchasesResponse]) error {
	return status.Error(codes.Unimplemented, "not a coordinator")
}

func (s *shop) WatchProduct(req *holdfastv1.WatchProductRequest, stream grpc.ServerStreamingServer[holdfastv1.Product]) error {
	for last := int64(-1); stream.Context().Err() == nil; time.Sleep(5 * time.Millisecond) {
		p, err := s.GetProduct(stream.Context(), &holdfastv1.GetProductRequest{ProductId: req.GetProductId()})
		if err != nil {
			return err
		}
		if left := p.GetAmountAvailableForPurchase(); left != last {
			last = left
			if err := stream.Send(p); err != nil {
				return err
			}
		}
	}
	return stream.Context().Err()
}

func (s *shop) GetPurchase(_ context.Context, req *holdfastv1.GetPurchaseRequest) (*holdfastv1.Purchase, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	i := slices.IndexFunc(s.purchases, func(p *holdfastv1.Purchase) bool { return p.GetPurchaseId() == req.GetPurchaseId() })
	if i < 0 {
		return nil, holdfastv1.Error(codes.NotFound, holdfastv1.ReasonPurchaseNotFound,
			fmt.Sprintf("purchase_id: there is no purchase %q", req.GetPurchaseId()), nil)
	}
	return proto.CloneOf(s.purchases[i]), nil
}

func (s *shop) ListPurchases(_ context.Context, req *holdfastv1.ListPurchasesRequest) (*holdfastv1.ListPurchasesResponse, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	resp := &holdfastv1.ListPurchasesResponse{}
	for _, p := range s.purchases {
		if strings.Contains(p.GetProductId(), req.GetProductId()) {
			resp.Purchases = append(resp.Purchases, proto.CloneOf(p))
		}
	}
	return resp, nil
}

// onChange answers a change of a purchase that has reached a worker.
type onChange func(req proto.Message) (*holdfastv1.Purchase, error)

// onChanges says what changes are answered with from now on.
func (s *shop) onChanges(answer onChange) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.changes = answer
}

func (s *shop) change(req proto.Message) (*holdfastv1.Purchase, error) {
	s.mu.Lock()
	answer := s.changes
	s.mu.Unlock()
	if answer == nil {
		return nil, status.Error(codes.Unimplemented, "the test did not say what to answer")
	}
	return answer(req)
}

func (s *shop) ExtendPurchase(_ context.Context, req *holdfastv1.ExtendPurchaseRequest) (*holdfastv1.Purchase, error) {
	return s.change(req)
}

func (s *shop) ConfirmPurchase(_ context.Context, req *holdfastv1.ConfirmPurchaseRequest) (*holdfastv1.Purchase, error) {
	return s.change(req)
}

func (s *shop) CancelPurchase(_ context.Context, req *holdfastv1.CancelPurchaseRequest) (*holdfastv1.Purchase, error) {
	return s.change(req)
}

func (s *shop) ReturnPurchase(_ context.Context, req *holdfastv1.ReturnPurchaseRequest) (*holdfastv1.Purchase, error) {
	return s.change(req)
}

func (s *shop) CreateDelivery(_ context.Context, req *holdfastv1.CreateDeliveryRequest) (*holdfastv1.Delivery, error) {
	return &holdfastv1.Delivery{
		DeliveryId: "d-1", ProductId: req.GetProductId(), Amount: req.GetAmount(), RequestId: req.GetRequestId(), CreateTime: opened,
	}, nil
}
