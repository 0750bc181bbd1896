package worker

import (
	"context"
	"errors"
	"slices"
	"strings"
	"time"

	"github.com/google/uuid"
	"github.com/hashicorp/go-hclog"
	"go.opentelemetry.io/otel/trace"
	"golang.org/x/sync/errgroup"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/holdfast-io/holdfast/api/cluster"
	holdfastv1 "github.com/holdfast-io/holdfast/api/holdfast/v1"
	"github.com/holdfast-io/holdfast/worker/ledger"
	"github.com/holdfast-io/holdfast/worker/payment"
)

// service answers coordinators, which have validated the requests and filled in region
// and request_id. Purchases come over links, all else in calls of the public contract.
type service struct {
	holdfastv1.UnimplementedProductServiceServer
	holdfastv1.UnimplementedPurchaseServiceServer
	holdfastv1.UnimplementedOrderServiceServer
	holdfastv1.UnimplementedEventServiceServer
	holdfastv1.UnimplementedWebhookServiceServer
	tenures  *tenures
	lanes    *lanes
	topology cluster.Topology
	shards   []*ledger.Shard
	maxHold  time.Duration
	watches  *watches

	providers payment.Providers
	outboxes  map[string]*outbox // by shard
	tracer    trace.Tracer       // of purchases that links bring

	log hclog.Logger
}

// CreateProduct creates within a tenure: whoever is fenced cannot create, so all
// shards have one amount.
func (s *service) CreateProduct(ctx context.Context, req *holdfastv1.CreateProductRequest) (*holdfastv1.Product, error) {
	if req.GetAmountInStorage() < 1 {
		return nil, holdfastv1.FieldError(holdfastv1.ReasonInvalidField, "amount_in_storage", "must be at least 1")
	}
	asked := &ledger.Product{
		ProductID: strings.Clone(req.GetProductId()), AmountInStorage: req.GetAmountInStorage(),
		MaxPerCustomer: limit(req.GetMaxPerCustomer()), MaxPerPurchase: limit(req.GetMaxPerPurchase()),
	}
	p, available, err := s.available(ctx, req.GetProductId(), asked)
	if err == nil {
		err = sameProduct(p, asked)
	}
	if err != nil {
		return nil, s.status(ctx, req.GetProductId(), err)
	}
	return s.product(ctx, p, available)
}

// GetProduct answers from the product's tenure, and begins one if need be: only
// whoever sells knows what is left.
func (s *service) GetProduct(ctx context.Context, req *holdfastv1.GetProductRequest) (*holdfastv1.Product, error) {
	p, available, err := s.available(ctx, req.GetProductId(), nil)
	if err != nil {
		return nil, s.status(ctx, req.GetProductId(), err)
	}
	return s.product(ctx, p, available)
}

// available reads a product under a tenure that is proved to be current after
// the call began.
func (s *service) available(ctx context.Context, productID string, create *ledger.Product) (*ledger.Product, int64, error) {
	for {
		t, err := s.tenures.get(ctx, productID, create)
		if errors.Is(err, ErrProductNotFound) && create != nil {
			continue // joined an attempt that was not to create it
		}
		if err != nil {
			return nil, 0, err
		}
		r, err := s.lanes.recountOf(ctx, t.fence)
		if err != nil {
			return nil, 0, err
		}
		if available, ended := t.left(r.released); !ended && r.current {
			return &t.product, available, nil
		}
		t.stop()
		if err := t.awaitGone(ctx); err != nil {
			return nil, 0, err
		}
	}
}

// limit is a limit of the contract, where 0 is none.
func limit(units int64) *int64 {
	if units == 0 {
		return nil
	}
	return &units
}

// sameProduct tells a repetition from a product that exists otherwise.
func sameProduct(p, asked *ledger.Product) error {
	switch {
	case p.AmountInStorage != asked.AmountInStorage:
		return &ProductExistsError{Field: "amount_in_storage", Value: p.AmountInStorage}
	case !same(p.MaxPerCustomer, asked.MaxPerCustomer):
		return &ProductExistsError{Field: maxPerCustomer, Value: unlimited(p.MaxPerCustomer)}
	case !same(p.MaxPerPurchase, asked.MaxPerPurchase):
		return &ProductExistsError{Field: maxPerPurchase, Value: unlimited(p.MaxPerPurchase)}
	}
	return nil
}

// unlimited is the inverse of limit.
func unlimited(limit *int64) int64 {
	if limit == nil {
		return 0
	}
	return *limit
}

func (s *service) ListProducts(ctx context.Context, req *holdfastv1.ListProductsRequest) (*holdfastv1.ListProductsResponse, error) {
	size := pageSize(req.GetPageSize())
	after, err := decodeToken(req.GetPageToken())
	if err != nil {
		return nil, err
	}
	products, err := s.shards[0].Products(ctx, after, size)
	if err != nil {
		return nil, s.status(ctx, "", &ShardError{Shard: s.shards[0].Name(), cause: err})
	}
	sold, err := s.sold(ctx, products)
	if err != nil {
		return nil, s.status(ctx, "", err)
	}
	delivered, err := s.delivered(ctx, products)
	if err != nil {
		return nil, s.status(ctx, "", err)
	}
	resp := &holdfastv1.ListProductsResponse{}
	for _, p := range products {
		resp.Products = append(resp.Products, product(&p, p.AmountInStorage-sold[p.ProductID], delivered[p.ProductID]))
	}
	if len(products) == size {
		resp.NextPageToken = encodeToken(products[size-1].ProductID)
	}
	return resp, nil
}

// sold adds up the running totals of all shards.
func (s *service) sold(ctx context.Context, products []ledger.Product) (map[string]int64, error) {
	return s.sum(products, func(sh *ledger.Shard, ids []string) (map[string]int64, error) { return sh.Totals(ctx, ids) })
}

// delivered adds up the deliveries.
func (s *service) delivered(ctx context.Context, products []ledger.Product) (map[string]int64, error) {
	return s.sum(products, func(sh *ledger.Shard, ids []string) (map[string]int64, error) { return sh.Delivered(ctx, ids) })
}

// sum adds up what the shards say of products.
func (s *service) sum(
	products []ledger.Product, read func(*ledger.Shard, []string) (map[string]int64, error),
) (map[string]int64, error) {
	ids := make([]string, len(products))
	for i, p := range products {
		ids[i] = p.ProductID
	}
	parts := make([]map[string]int64, len(s.shards))
	var g errgroup.Group
	for i, sh := range s.shards {
		g.Go(func() (err error) {
			if parts[i], err = read(sh, ids); err != nil {
				return &ShardError{Shard: sh.Name(), cause: err}
			}
			return nil
		})
	}
	if err := g.Wait(); err != nil {
		return nil, err
	}
	sums := make(map[string]int64, len(ids))
	for _, part := range parts {
		for id, units := range part {
			sums[id] += units
		}
	}
	return sums, nil
}

func (s *service) shard(name string) *ledger.Shard {
	for _, sh := range s.shards {
		if sh.Name() == name {
			return sh
		}
	}
	return nil
}

func (s *service) GetPurchase(ctx context.Context, req *holdfastv1.GetPurchaseRequest) (*holdfastv1.Purchase, error) {
	region, id, err := s.locate(req.GetPurchaseId(), holdfastv1.PurchaseNotFound)
	if err != nil {
		return nil, err
	}
	p, err := s.shard(region).Purchase(ctx, id)
	switch {
	case errors.Is(err, ledger.ErrNotFound):
		return nil, holdfastv1.PurchaseNotFound(req.GetPurchaseId())
	case err != nil:
		return nil, s.status(ctx, "", &ShardError{Shard: region, cause: err})
	}
	return purchase(region, p), nil
}

// ListPurchases reads the shards one after the other; a page may end in one and
// the next page begin there.
func (s *service) ListPurchases(ctx context.Context, req *holdfastv1.ListPurchasesRequest) (*holdfastv1.ListPurchasesResponse, error) {
	if req.GetRegion() != "" && !s.topology.Has(req.GetRegion()) {
		return nil, unknownRegion(req.GetRegion(), s.topology)
	}
	from, after, err := decodePurchaseToken(req.GetPageToken())
	if err != nil {
		return nil, err
	}
	filter := ledger.Filter{ProductID: req.GetProductId(), CustomerID: req.GetCustomerId()}
	size := pageSize(req.GetPageSize())
	resp := &holdfastv1.ListPurchasesResponse{}
	shards := s.shardsFrom(from, req.GetRegion())
	if len(shards) == 0 {
		return nil, badToken()
	}
	for _, sh := range shards {
		rows, err := sh.Purchases(ctx, filter, after, size-len(resp.Purchases))
		if err != nil {
			return nil, s.status(ctx, "", &ShardError{Shard: sh.Name(), cause: err})
		}
		for _, row := range rows {
			resp.Purchases = append(resp.Purchases, purchase(sh.Name(), &row))
		}
		if len(resp.Purchases) == size {
			resp.NextPageToken = encodeToken(resp.Purchases[size-1].GetPurchaseId())
			break
		}
		after = uuid.Nil // the next shard is read from its beginning
	}
	return resp, nil
}

// shardsFrom are the shards of a listing, from the one that a page token names.
// There are none when it names a shard that is not of this listing.
func (s *service) shardsFrom(from, region string) []*ledger.Shard {
	shards := s.shards
	if region != "" {
		shards = []*ledger.Shard{s.shard(region)}
	}
	if from == "" {
		return shards
	}
	i := slices.IndexFunc(shards, func(sh *ledger.Shard) bool { return sh.Name() == from })
	if i < 0 {
		return nil
	}
	return shards[i:]
}

// product is a product as callers see it.
func (s *service) product(ctx context.Context, p *ledger.Product, available int64) (*holdfastv1.Product, error) {
	delivered, err := s.delivered(ctx, []ledger.Product{*p})
	if err != nil {
		return nil, s.status(ctx, p.ProductID, err)
	}
	return product(p, available, delivered[p.ProductID]), nil
}

func product(p *ledger.Product, available, delivered int64) *holdfastv1.Product {
	return &holdfastv1.Product{
		ProductId: p.ProductID, AmountInStorage: p.AmountInStorage, AmountAvailableForPurchase: available,
		CreateTime: timestamppb.New(p.CreateTime), AmountDelivered: delivered,
		MaxPerCustomer: unlimited(p.MaxPerCustomer), MaxPerPurchase: unlimited(p.MaxPerPurchase),
	}
}

func purchase(region string, p *ledger.Purchase) *holdfastv1.Purchase {
	answer := &holdfastv1.Purchase{
		PurchaseId: holdfastv1.PurchaseID(region, p.PurchaseID), ProductId: p.ProductID, Amount: p.Amount,
		CustomerId: p.CustomerID, Region: region, PaymentMethod: p.PaymentMethod, RequestId: p.RequestID,
		State: states[p.State], CreateTime: timestamppb.New(p.CreateTime), AmountReleased: p.Amount - p.Has(),
	}
	if p.ExpireTime != nil {
		answer.ExpireTime = timestamppb.New(*p.ExpireTime)
	}
	if p.OrderID != nil {
		answer.OrderId = holdfastv1.PurchaseID(region, *p.OrderID)
	}
	return answer
}

var states = map[ledger.State]holdfastv1.PurchaseState{
	ledger.Held:      holdfastv1.PurchaseState_PURCHASE_STATE_HELD,
	ledger.Confirmed: holdfastv1.PurchaseState_PURCHASE_STATE_CONFIRMED,
	ledger.Cancelled: holdfastv1.PurchaseState_PURCHASE_STATE_CANCELLED,
	ledger.Expired:   holdfastv1.PurchaseState_PURCHASE_STATE_EXPIRED,
	ledger.Returned:  holdfastv1.PurchaseState_PURCHASE_STATE_RETURNED,
}
