package coordinator

import (
	"context"
	"errors"
	"fmt"
	"time"

	"buf.build/gen/go/bufbuild/protovalidate/protocolbuffers/go/buf/validate"
	"buf.build/go/protovalidate"
	"github.com/google/uuid"
	"google.golang.org/grpc"
	"google.golang.org/protobuf/proto"

	holdfastv1 "github.com/holdfast-io/holdfast/api/holdfast/v1"
)

// service is the public API.
type service struct {
	holdfastv1.UnimplementedProductServiceServer
	holdfastv1.UnimplementedPurchaseServiceServer
	router   *router
	validate protovalidate.Validator
	deadline time.Duration // for callers that set none
}

// answerMargin is how long before the caller's deadline the last word is said.
const answerMargin = 100 * time.Millisecond

// within gives a call without a deadline the default one. A caller's own is taken
// a little early, by a tenth at most: an answer is of no use to a caller that has
// stopped listening.
func (s *service) within(ctx context.Context) (context.Context, context.CancelFunc) {
	deadline, ok := ctx.Deadline()
	if !ok {
		return context.WithTimeout(ctx, s.deadline)
	}
	margin := min(time.Until(deadline)/10, answerMargin)
	return context.WithDeadline(ctx, deadline.Add(-margin))
}

// ask validates a request and has a worker answer it.
func ask[Client any, Req proto.Message, Resp any](
	ctx context.Context, s *service, key string, req Req, client func(grpc.ClientConnInterface) Client,
	method func(Client, context.Context, Req, ...grpc.CallOption) (Resp, error),
) (resp Resp, err error) {
	if err := s.check(req); err != nil {
		return resp, err
	}
	ctx, cancel := s.within(ctx)
	defer cancel()
	err = s.router.call(ctx, key, func(ctx context.Context, p *peer) (err error) {
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
		ctx, cancel := s.within(ctx)
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
) (purchase *holdfastv1.Purchase, err error) {
	if err := s.check(req); err != nil {
		return nil, err
	}
	ctx, cancel := s.within(ctx)
	defer cancel()
	if err := s.complete(ctx, req, ""); err != nil {
		return nil, err
	}
	err = s.router.call(ctx, req.GetProductId(), func(ctx context.Context, p *peer) (err error) {
		purchase, err = p.link.Sell(ctx, req)
		return err
	})
	return purchase, err
}

// complete fills in what the caller left out, before the purchase is sent for
// the first time: from then on it can be repeated on any worker. The path says
// where in a larger request it stands.
func (s *service) complete(ctx context.Context, req *holdfastv1.CreatePurchaseRequest, path string) error {
	if req.GetRegion() == "" {
		topology, err := s.router.awaitTopology(ctx)
		if err != nil {
			return err
		}
		req.Region = topology.Home(req.GetCustomerId())
	}
	topology, err := s.router.withRegion(ctx, req.GetRegion(), path)
	switch {
	case err != nil:
		return err
	case !topology.Sells(req.GetRegion()):
		return holdfastv1.FieldError(holdfastv1.ReasonRegionDraining, path+"region",
			fmt.Sprintf("region %q takes no new purchases", req.GetRegion()))
	}
	if req.GetRequestId() == "" {
		req.RequestId = uuid.NewString()
	}
	return nil
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
