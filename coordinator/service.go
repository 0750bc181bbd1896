package coordinator

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"time"

	"buf.build/gen/go/bufbuild/protovalidate/protocolbuffers/go/buf/validate"
	"buf.build/go/protovalidate"
	"github.com/google/uuid"
	"go.opentelemetry.io/otel/trace"
	"google.golang.org/grpc"
	"google.golang.org/protobuf/proto"

	"github.com/holdfast-io/holdfast/api/cluster"
	holdfastv1 "github.com/holdfast-io/holdfast/api/holdfast/v1"
	"github.com/holdfast-io/holdfast/api/traces"
	"github.com/holdfast-io/holdfast/coordinator/auth"
)

// service is the public API.
type service struct {
	holdfastv1.UnimplementedProductServiceServer
	holdfastv1.UnimplementedPurchaseServiceServer
	holdfastv1.UnimplementedOrderServiceServer
	holdfastv1.UnimplementedEventServiceServer
	holdfastv1.UnimplementedWebhookServiceServer
	router   *router
	edge     *edge // which calls have passed
	validate protovalidate.Validator
	deadline time.Duration // for callers that set none
	hold     time.Duration // for holds of which nobody says how long they last
	tracer   trace.Tracer  // nil when nothing is traced

	maxWatches int64
	watching   atomic.Int64 // watches that are open
	watches    atomic.Int64 // watches of all events that there were
}

// answerMargin is how long before the caller's deadline the last word is said.
const answerMargin = 100 * time.Millisecond

// until is when a call gets the last word. A caller's own deadline is taken a little
// early, by a tenth at most: an answer is of no use to a caller that has stopped
// listening. A call without a deadline has the default one.
func (s *service) until(ctx context.Context) time.Time {
	now := time.Now()
	deadline, ok := ctx.Deadline()
	if !ok {
		return now.Add(s.deadline)
	}
	return deadline.Add(-min(deadline.Sub(now)/10, answerMargin))
}

// ask validates a request and has a worker answer it.
func ask[Client any, Req proto.Message, Resp any](
	ctx context.Context, s *service, key string, req Req, client func(grpc.ClientConnInterface) Client,
	method func(Client, context.Context, Req, ...grpc.CallOption) (Resp, error),
) (resp Resp, err error) {
	if err := s.check(req); err != nil {
		return resp, err
	}
	until := s.until(ctx)
	if err := s.router.findID(ctx, until, req); err != nil {
		return resp, err
	}
	err = s.router.call(ctx, until, key, &way{}, func(p *peer, until time.Time) (err error) {
		ctx, cancel := p.attempt(ctx, until)
		defer cancel()
		resp, err = method(client(p.conn), ctx, req)
		return err
	})
	return resp, err
}

func (s *service) CreateProduct(ctx context.Context, req *holdfastv1.CreateProductRequest) (*holdfastv1.Product, error) {
	return ask(ctx, s, req.GetProductId(), req,
		holdfastv1.NewProductServiceClient, holdfastv1.ProductServiceClient.CreateProduct)
}

func (s *service) GetProduct(ctx context.Context, req *holdfastv1.GetProductRequest) (*holdfastv1.Product, error) {
	return ask(ctx, s, req.GetProductId(), req,
		holdfastv1.NewProductServiceClient, holdfastv1.ProductServiceClient.GetProduct)
}

// ListProducts and the reads of purchases can be answered by any worker; their
// keys only spread them.
func (s *service) ListProducts(ctx context.Context, req *holdfastv1.ListProductsRequest) (*holdfastv1.ListProductsResponse, error) {
	return ask(ctx, s, req.GetPageToken(), req,
		holdfastv1.NewProductServiceClient, holdfastv1.ProductServiceClient.ListProducts)
}

func (s *service) GetPurchase(ctx context.Context, req *holdfastv1.GetPurchaseRequest) (*holdfastv1.Purchase, error) {
	return ask(ctx, s, req.GetPurchaseId(), req,
		holdfastv1.NewPurchaseServiceClient, holdfastv1.PurchaseServiceClient.GetPurchase)
}

func (s *service) ListPurchases(ctx context.Context, req *holdfastv1.ListPurchasesRequest) (*holdfastv1.ListPurchasesResponse, error) {
	if err := s.check(req); err != nil {
		return nil, err
	}
	if req.GetRegion() != "" {
		ctx, cancel := context.WithDeadline(ctx, s.until(ctx))
		defer cancel()
		if _, err := s.router.withRegion(ctx, req.GetRegion(), ""); err != nil {
			return nil, err
		}
	}
	return ask(ctx, s, req.GetPageToken(), req,
		holdfastv1.NewPurchaseServiceClient, holdfastv1.PurchaseServiceClient.ListPurchases)
}

func (s *service) CreatePurchase(
	ctx context.Context, req *holdfastv1.CreatePurchaseRequest,
) (*holdfastv1.Purchase, error) {
	if err := s.check(req); err != nil {
		return nil, err
	}
	if req.GetUnitPrice() != nil {
		return s.sellForMoney(ctx, req)
	}
	return s.sell(ctx, s.until(ctx), req, &way{})
}

// sell has a worker decide a valid purchase, on the way that it has come so far. It makes
// no contexts and no timers where a worker answers: they cost more than all else here.
func (s *service) sell(
	ctx context.Context, until time.Time, req *holdfastv1.CreatePurchaseRequest, w *way,
) (purchase *holdfastv1.Purchase, err error) {
	defer func() { s.router.metrics.decided(err) }()
	if err := s.complete(ctx, until, req, ""); err != nil {
		return nil, err
	}
	err = s.router.call(ctx, until, req.GetProductId(), w, func(p *peer, until time.Time) (err error) {
		ctx, span := p.ask(ctx)
		purchase, err = p.link.Sell(ctx, req, until)
		traces.Decided(span, err)
		return err
	})
	return purchase, err
}

// complete fills in what the caller left out, before the purchase is sent for
// the first time: from then on it can be repeated on any worker. The path says
// where in a larger request it stands.
func (s *service) complete(ctx context.Context, until time.Time, req *holdfastv1.CreatePurchaseRequest, path string) error {
	if err := s.fillHold(req.GetHold(), path); err != nil {
		return err
	}
	if fill(req, s.router.known()) {
		return nil
	}
	ctx, cancel := context.WithDeadline(ctx, until)
	defer cancel()
	topology, err := s.router.awaitTopology(ctx)
	if err == nil && req.GetRegion() != "" {
		topology, err = s.router.withRegion(ctx, req.GetRegion(), path)
	}
	if err == nil && !fill(req, topology) {
		err = holdfastv1.FieldError(holdfastv1.ReasonRegionDraining, path+"region",
			fmt.Sprintf("region %q takes no new purchases", req.GetRegion()))
	}
	return err
}

// fill completes a purchase. It reports whether the topology is known to have the region,
// and to sell there.
func fill(req *holdfastv1.CreatePurchaseRequest, topology cluster.Topology) bool {
	if req.GetRegion() == "" && len(topology.Shards) > 0 {
		req.Region = topology.Home(req.GetCustomerId())
	}
	if req.GetRequestId() == "" {
		req.RequestId = uuid.NewString()
	}
	return topology.Sells(req.GetRegion())
}

// ownerOf finds out whose a purchase or an order is.
func (s *service) ownerOf(ctx context.Context, own auth.Owned) (customerID string, err error) {
	if own.OrderID != "" {
		order, err := s.GetOrder(ctx, &holdfastv1.GetOrderRequest{OrderId: own.OrderID})
		return order.GetCustomerId(), err
	}
	purchase, err := s.GetPurchase(ctx, &holdfastv1.GetPurchaseRequest{PurchaseId: own.PurchaseID})
	return purchase.GetCustomerId(), err
}

// check returns an INVALID_ARGUMENT that names the first field that breaks a
// rule of the contract.
func (s *service) check(req proto.Message) error {
	if plain(req) {
		return nil
	}
	if field := notUTF8(req.ProtoReflect(), ""); field != "" {
		return holdfastv1.FieldError(holdfastv1.ReasonInvalidField, field, "must be UTF-8")
	}
	err := s.validate.Validate(req)
	var invalid *protovalidate.ValidationError
	switch {
	case err == nil:
		return nil
	case errors.As(err, &invalid) && len(invalid.Violations) > 0:
		v := invalid.Violations[0]
		return holdfastv1.FieldError(holdfastv1.ReasonInvalidField,
			protovalidate.FieldPathString(v.Proto.GetField()), describe(v.Proto))
	}
	return fmt.Errorf("validate: %w", err)
}

// describe says in words what the one pattern of the contract means.
func describe(v *validate.Violation) string {
	if v.GetRuleId() == "string.pattern" {
		return "must not hold control characters"
	}
	return v.GetMessage()
}
