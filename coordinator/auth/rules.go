package auth

import (
	"strings"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"

	holdfastv1 "github.com/holdfast-io/holdfast/api/holdfast/v1"
)

// Owned is what a buyer's request is about by its id only: it is his to see and to change if it
// is his customer's.
type Owned struct {
	PurchaseID, OrderID string // one of them, or none when there is nothing to find out
}

// owner is where a request says whose it is.
type owner int

const (
	nobody    owner = iota // it is about no customer
	customer               // in customer_id
	customers              // in each of its requests
	purchase               // the purchase's of purchase_id
	order                  // the order's of order_id
)

type rule struct {
	roles Roles
	owner owner // whom a buyer has to be
}

// rules says of each request of the contract who may make it.
var rules = map[protoreflect.Name]rule{
	"CreateProductRequest":  {Operator, nobody},
	"CreateDeliveryRequest": {Operator, nobody},
	"GetProductRequest":     {Buyer | Operator | Viewer, nobody},
	"ListProductsRequest":   {Buyer | Operator | Viewer, nobody},
	"WatchProductRequest":   {Buyer | Operator | Viewer, nobody},

	"CreatePurchaseRequest":       {Buyer | Operator, customer},
	"BatchCreatePurchasesRequest": {Buyer | Operator, customers},
	"GetPurchaseRequest":          {Buyer | Operator | Viewer, purchase},
	"ListPurchasesRequest":        {Buyer | Operator | Viewer, customer},
	"ExtendPurchaseRequest":       {Buyer | Operator, purchase},
	"ConfirmPurchaseRequest":      {Buyer | Operator, purchase},
	"CancelPurchaseRequest":       {Buyer | Operator, purchase},
	"ReturnPurchaseRequest":       {Operator, nobody},

	"CreateOrderRequest":  {Buyer | Operator, customer},
	"GetOrderRequest":     {Buyer | Operator | Viewer, order},
	"PayOrderRequest":     {Buyer | Operator, order},
	"ConfirmOrderRequest": {Buyer | Operator, order},
	"CancelOrderRequest":  {Buyer | Operator, order},

	"WatchEventsRequest":   {Operator | Viewer, nobody},
	"ListMovementsRequest": {Operator | Viewer, nobody},

	"CreateWebhookRequest":     {Operator, nobody},
	"ListWebhooksRequest":      {Operator | Viewer, nobody},
	"DeleteWebhookRequest":     {Operator, nobody},
	"ListDeadLettersRequest":   {Operator | Viewer, nobody},
	"ResendDeadLettersRequest": {Operator, nobody},
}

// Allow decides whether the caller may make a request: ErrRole, ErrPrice or ErrCustomer if not.
// If what it is about has to be his own and only its id is known, it is returned.
func Allow(c *Caller, req proto.Message) (Owned, error) {
	r := rules[req.ProtoReflect().Descriptor().Name()]
	switch {
	case !c.Roles.Has(r.roles):
		return Owned{}, ErrRole
	case !c.onlyBuys(r.roles):
		return Owned{}, nil
	case namesPrice(req):
		return Owned{}, ErrPrice
	}
	switch r.owner {
	case customer:
		return Owned{}, c.mustBe(req.(interface{ GetCustomerId() string }).GetCustomerId())
	case customers:
		for _, each := range req.(*holdfastv1.BatchCreatePurchasesRequest).GetRequests() {
			if err := c.mustBe(each.GetCustomerId()); err != nil {
				return Owned{}, err
			}
		}
	case purchase:
		return Owned{PurchaseID: req.(interface{ GetPurchaseId() string }).GetPurchaseId()}, nil
	case order:
		return Owned{OrderID: req.(interface{ GetOrderId() string }).GetOrderId()}, nil
	case nobody:
	}
	return Owned{}, nil
}

// IsAudited reports whether a request is to be logged: an operator changes something, and it is
// no sale, which the shards keep anyway.
func IsAudited(c *Caller, req proto.Message) bool {
	switch req.(type) {
	case *holdfastv1.CreatePurchaseRequest, *holdfastv1.BatchCreatePurchasesRequest, *holdfastv1.CreateOrderRequest:
		return false
	}
	r := rules[req.ProtoReflect().Descriptor().Name()]
	return c.Roles.Has(Operator) && r.roles.Has(Operator) && !r.roles.Has(Viewer)
}

// maxAudited is how much of a field is logged: no id that is valid is longer.
const maxAudited = 128

// Field is a field of a request.
type Field struct{ Name, Value string }

// AuditedFields are the fields of a request that tell what it is about: ids and amounts, and
// never a secret or an address, which may hold one.
func AuditedFields(req proto.Message) (fields []Field) {
	m := req.ProtoReflect()
	for i := range m.Descriptor().Fields().Len() {
		f := m.Descriptor().Fields().Get(i)
		name := string(f.Name())
		if f.IsList() || !m.Has(f) || !strings.HasSuffix(name, "_id") && !strings.HasPrefix(name, "amount") {
			continue
		}
		value := m.Get(f).String()
		fields = append(fields, Field{name, value[:min(len(value), maxAudited)]})
	}
	return fields
}

// Owns reports whether a customer is the one for whom the caller buys.
func (c *Caller) Owns(customerID string) bool { return customerID != "" && customerID == c.CustomerID }

func (c *Caller) mustBe(customerID string) error {
	if !c.Owns(customerID) {
		return ErrCustomer
	}
	return nil
}

// namesPrice reports whether whoever makes the request says what the units cost: that is the
// shop's to say.
func namesPrice(req proto.Message) bool {
	switch req := req.(type) {
	case *holdfastv1.CreatePurchaseRequest:
		return req.GetUnitPrice() != nil
	case *holdfastv1.BatchCreatePurchasesRequest:
		for _, each := range req.GetRequests() {
			if each.GetUnitPrice() != nil {
				return true
			}
		}
	case *holdfastv1.CreateOrderRequest:
		for _, line := range req.GetLines() {
			if line.GetUnitPrice() != nil {
				return true
			}
		}
	}
	return false
}
