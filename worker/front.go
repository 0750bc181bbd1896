package worker

import (
	"context"
	"sync"
	"sync/atomic"

	"google.golang.org/grpc"

	holdfastv1 "github.com/holdfast-io/holdfast/api/holdfast/v1"
	"github.com/holdfast-io/holdfast/api/link"
)

// front passes calls to the service of the current term. Between two terms it
// answers that the worker drains, and coordinators ask again.
type front struct {
	holdfastv1.UnimplementedProductServiceServer
	holdfastv1.UnimplementedPurchaseServiceServer
	holdfastv1.UnimplementedOrderServiceServer
	holdfastv1.UnimplementedEventServiceServer
	holdfastv1.UnimplementedWebhookServiceServer
	current atomic.Pointer[service]
	once    sync.Once
	opened  chan struct{} // closed when there was a service for the first time
}

func newFront() *front { return &front{opened: make(chan struct{})} }

// alive reports whether the work on a product makes progress.
func (f *front) alive(productID string) bool {
	s := f.current.Load()
	return s == nil || s.tenures.alive(productID)
}

func (f *front) serve(s *service) {
	f.current.Store(s)
	f.once.Do(func() { close(f.opened) })
}

// pass calls a method of the current service.
func pass[Req, Resp any](
	ctx context.Context, f *front, req Req, method func(*service, context.Context, Req) (Resp, error),
) (resp Resp, err error) {
	s := f.current.Load()
	if s == nil {
		return resp, drainingStatus()
	}
	return method(s, ctx, req)
}

func (f *front) CreateProduct(ctx context.Context, req *holdfastv1.CreateProductRequest) (*holdfastv1.Product, error) {
	return pass(ctx, f, req, (*service).CreateProduct)
}

func (f *front) GetProduct(ctx context.Context, req *holdfastv1.GetProductRequest) (*holdfastv1.Product, error) {
	return pass(ctx, f, req, (*service).GetProduct)
}

func (f *front) ListProducts(ctx context.Context, req *holdfastv1.ListProductsRequest) (*holdfastv1.ListProductsResponse, error) {
	return pass(ctx, f, req, (*service).ListProducts)
}

// sell decides what a link has brought.
func (f *front) sell(sale *link.Sale) {
	s := f.current.Load()
	if s == nil {
		sale.Answer(link.Stored{}, drainingStatus())
		return
	}
	s.sell(sale)
}

func (f *front) GetPurchase(ctx context.Context, req *holdfastv1.GetPurchaseRequest) (*holdfastv1.Purchase, error) {
	return pass(ctx, f, req, (*service).GetPurchase)
}

func (f *front) ListPurchases(ctx context.Context, req *holdfastv1.ListPurchasesRequest) (*holdfastv1.ListPurchasesResponse, error) {
	return pass(ctx, f, req, (*service).ListPurchases)
}

func (f *front) ExtendPurchase(ctx context.Context, req *holdfastv1.ExtendPurchaseRequest) (*holdfastv1.Purchase, error) {
	return pass(ctx, f, req, (*service).ExtendPurchase)
}

func (f *front) ConfirmPurchase(ctx context.Context, req *holdfastv1.ConfirmPurchaseRequest) (*holdfastv1.Purchase, error) {
	return pass(ctx, f, req, (*service).ConfirmPurchase)
}

func (f *front) CancelPurchase(ctx context.Context, req *holdfastv1.CancelPurchaseRequest) (*holdfastv1.Purchase, error) {
	return pass(ctx, f, req, (*service).CancelPurchase)
}

func (f *front) ReturnPurchase(ctx context.Context, req *holdfastv1.ReturnPurchaseRequest) (*holdfastv1.Purchase, error) {
	return pass(ctx, f, req, (*service).ReturnPurchase)
}

func (f *front) CreateDelivery(ctx context.Context, req *holdfastv1.CreateDeliveryRequest) (*holdfastv1.Delivery, error) {
	return pass(ctx, f, req, (*service).CreateDelivery)
}

func (f *front) GetOrder(ctx context.Context, req *holdfastv1.GetOrderRequest) (*holdfastv1.Order, error) {
	return pass(ctx, f, req, (*service).GetOrder)
}

func (f *front) PayOrder(ctx context.Context, req *holdfastv1.PayOrderRequest) (*holdfastv1.Order, error) {
	return pass(ctx, f, req, (*service).PayOrder)
}

func (f *front) ConfirmOrder(ctx context.Context, req *holdfastv1.ConfirmOrderRequest) (*holdfastv1.Order, error) {
	return pass(ctx, f, req, (*service).ConfirmOrder)
}

func (f *front) CancelOrder(ctx context.Context, req *holdfastv1.CancelOrderRequest) (*holdfastv1.Order, error) {
	return pass(ctx, f, req, (*service).CancelOrder)
}

func (f *front) ListMovements(ctx context.Context, req *holdfastv1.ListMovementsRequest) (*holdfastv1.ListMovementsResponse, error) {
	return pass(ctx, f, req, (*service).ListMovements)
}

func (f *front) WatchEvents(
	req *holdfastv1.WatchEventsRequest, stream grpc.ServerStreamingServer[holdfastv1.WatchEventsResponse],
) error {
	if s := f.current.Load(); s != nil {
		return s.WatchEvents(req, stream)
	}
	return drainingStatus()
}

func (f *front) WatchProduct(
	req *holdfastv1.WatchProductRequest, stream grpc.ServerStreamingServer[holdfastv1.Product],
) error {
	if s := f.current.Load(); s != nil {
		return s.WatchProduct(req, stream)
	}
	return drainingStatus()
}

func (f *front) CreateWebhook(ctx context.Context, req *holdfastv1.CreateWebhookRequest) (*holdfastv1.Webhook, error) {
	return pass(ctx, f, req, (*service).CreateWebhook)
}

func (f *front) ListWebhooks(ctx context.Context, req *holdfastv1.ListWebhooksRequest) (*holdfastv1.ListWebhooksResponse, error) {
	return pass(ctx, f, req, (*service).ListWebhooks)
}

func (f *front) DeleteWebhook(ctx context.Context, req *holdfastv1.DeleteWebhookRequest) (*holdfastv1.DeleteWebhookResponse, error) {
	return pass(ctx, f, req, (*service).DeleteWebhook)
}

func (f *front) ListDeadLetters(ctx context.Context, req *holdfastv1.ListDeadLettersRequest) (*holdfastv1.ListDeadLettersResponse, error) {
	return pass(ctx, f, req, (*service).ListDeadLetters)
}

func (f *front) ResendDeadLetters(ctx context.Context, req *holdfastv1.ResendDeadLettersRequest) (*holdfastv1.ResendDeadLettersResponse, error) {
	return pass(ctx, f, req, (*service).ResendDeadLetters)
}
