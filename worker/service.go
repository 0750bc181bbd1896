package worker

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/google/uuid"
	"github.com/hashicorp/go-hclog"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/holdfast-io/holdfast/api/cluster"
	holdfastv1 "github.com/holdfast-io/holdfast/api/holdfast/v1"
	"github.com/holdfast-io/holdfast/api/link"
	"github.com/holdfast-io/holdfast/worker/ledger"
)

// service answers coordinators, which have validated the requests and filled in region
// and request_id. Purchases come over links, all else in calls of the public contract.
type service struct {
	holdfastv1.UnimplementedProductServiceServer
	holdfastv1.UnimplementedPurchaseServiceServer
	tenures  *tenures
	lanes    *lanes
	topology cluster.Topology
	shards   []*ledger.Shard
	log      hclog.Logger
}

// CreateProduct creates within a tenure: whoever is fenced cannot create, so all
// shards have one amount.
func (s *service) CreateProduct(ctx context.Context, req *holdfastv1.CreateProductRequest) (*holdfastv1.Product, error) {
	if req.GetAmountInStorage() < 1 {
		return nil, holdfastv1.FieldError(holdfastv1.ReasonInvalidField, "amount_in_storage", "must be at least 1")
	}
	p, available, err := s.available(ctx, req.GetProductId(), req.GetAmountInStorage())
	if err == nil && p.AmountInStorage != req.GetAmountInStorage() {
		err = &ProductExistsError{AmountInStorage: p.AmountInStorage}
	}
	if err != nil {
		return nil, s.status(ctx, req.GetProductId(), err)
	}
	return product(p, available), nil
}

// GetProduct answers from the product's tenure, and begins one if need be: only
// whoever sells knows what is left.
func (s *service) GetProduct(ctx context.Context, req *holdfastv1.GetProductRequest) (*holdfastv1.Product, error) {
	p, available, err := s.available(ctx, req.GetProductId(), 0)
	if err != nil {
		return nil, s.status(ctx, req.GetProductId(), err)
	}
	return product(p, available), nil
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
		available, ended := t.left()
		if !ended {
			current, err := s.lanes.current(ctx, t.fence)
			if err != nil {
				return nil, 0, err
			}
			if current {
				return &t.product, available, nil
			}
			t.stop()
		}
		if err := t.awaitGone(ctx); err != nil {
			return nil, 0, err
		}
	}
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
	resp := &holdfastv1.ListProductsResponse{}
	for _, p := range products {
		resp.Products = append(resp.Products, product(&p, p.AmountInStorage-sold[p.ProductID]))
	}
	if len(products) == size {
		resp.NextPageToken = encodeToken(products[size-1].ProductID)
	}
	return resp, nil
}

// sold adds up the running totals of all shards.
func (s *service) sold(ctx context.Context, products []ledger.Product) (map[string]int64, error) {
	ids := make([]string, len(products))
	for i, p := range products {
		ids[i] = p.ProductID
	}
	sold := make(map[string]int64, len(ids))
	for _, sh := range s.shards {
		totals, err := sh.Totals(ctx, ids)
		if err != nil {
			return nil, &ShardError{Shard: sh.Name(), cause: err}
		}
		for id, units := range totals {
			sold[id] += units
		}
	}
	return sold, nil
}

// order is a purchase that a coordinator waits for.
type order struct {
	*link.Sale
	service *service
}

// told makes an order a buyer.
func (o *order) told(stored *ledger.Purchase, err error) {
	if err != nil {
		o.Answer(link.Stored{}, o.service.status(o.Context(), o.Request.GetProductId(), err))
		return
	}
	o.Answer(link.Stored{
		PurchaseID: PurchaseID(o.Request.GetRegion(), stored.PurchaseID), State: states[stored.State], CreateTime: stored.CreateTime,
	}, nil)
}

func (s *service) sell(sale *link.Sale) {
	req := sale.Request
	if err := s.sells(req); err != nil {
		sale.Answer(link.Stored{}, err)
		return
	}
	s.tenures.sell(Purchase{
		ProductID: req.GetProductId(), Region: req.GetRegion(), RequestID: req.GetRequestId(),
		Amount: req.GetAmount(), CustomerID: req.GetCustomerId(), PaymentMethod: req.GetPaymentMethod(),
	}, &order{sale, s})
}

// sells reports why a purchase cannot be sold, whatever the product's tenure says.
func (s *service) sells(req *holdfastv1.CreatePurchaseRequest) error {
	switch {
	case !s.topology.Has(req.GetRegion()):
		return unknownRegion(req.GetRegion(), s.topology)
	case !s.topology.Sells(req.GetRegion()):
		return holdfastv1.FieldError(holdfastv1.ReasonRegionDraining, "region",
			fmt.Sprintf("region %q takes no new purchases", req.GetRegion()))
	case req.GetAmount() < 1:
		// Admission would add what it is to take away.
		return holdfastv1.FieldError(holdfastv1.ReasonInvalidField, "amount", "must be at least 1")
	}
	return nil
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
	region, id, ok := parseID(req.GetPurchaseId())
	sh := s.shard(region)
	if !ok || sh == nil {
		return nil, purchaseNotFound(req.GetPurchaseId())
	}
	p, err := sh.Purchase(ctx, id)
	switch {
	case errors.Is(err, ledger.ErrNotFound):
		return nil, purchaseNotFound(req.GetPurchaseId())
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

func product(p *ledger.Product, available int64) *holdfastv1.Product {
	return &holdfastv1.Product{
		ProductId: p.ProductID, AmountInStorage: p.AmountInStorage, AmountAvailableForPurchase: available,
		CreateTime: timestamppb.New(p.CreateTime),
	}
}

func purchase(region string, p *ledger.Purchase) *holdfastv1.Purchase {
	return &holdfastv1.Purchase{
		PurchaseId: PurchaseID(region, p.PurchaseID), ProductId: p.ProductID, Amount: p.Amount,
		CustomerId: p.CustomerID, Region: region, PaymentMethod: p.PaymentMethod, RequestId: p.RequestID,
		State: states[p.State], CreateTime: timestamppb.New(p.CreateTime),
	}
}

var states = map[ledger.State]holdfastv1.PurchaseState{
	ledger.Confirmed: holdfastv1.PurchaseState_PURCHASE_STATE_CONFIRMED,
}
