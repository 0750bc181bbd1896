package auth

import (
	"errors"
	"testing"
	"time"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/reflect/protoregistry"

	holdfastv1 "github.com/holdfast-io/holdfast/api/holdfast/v1"
)

// requests are an empty request of each method of the contract.
func requests(t *testing.T) (all []proto.Message) {
	t.Helper()
	for _, file := range []protoreflect.FileDescriptor{
		holdfastv1.File_holdfast_v1_product_proto, holdfastv1.File_holdfast_v1_purchase_proto,
		holdfastv1.File_holdfast_v1_order_proto, holdfastv1.File_holdfast_v1_event_proto,
		holdfastv1.File_holdfast_v1_webhook_proto,
	} {
		for i := range file.Services().Len() {
			for m := range file.Services().Get(i).Methods().Len() {
				name := file.Services().Get(i).Methods().Get(m).Input().FullName()
				kind, err := protoregistry.GlobalTypes.FindMessageByName(name)
				if err != nil {
					t.Fatal(err)
				}
				all = append(all, kind.New().Interface())
			}
		}
	}
	return all
}

// A method that is added to the contract must be nobody's until somebody has said whose it is.
func TestEveryRequestHasARule(t *testing.T) {
	seen := 0
	for _, req := range requests(t) {
		name := req.ProtoReflect().Descriptor().Name()
		if name == "StreamPurchasesRequest" { // each of its purchases is asked about by itself
			continue
		}
		seen++
		r, known := rules[name]
		if !known {
			t.Errorf("%s has no rule", name)
		}
		if !r.roles.Has(Operator) {
			t.Errorf("%s is not for operators", name)
		}
	}
	if seen != len(rules) {
		t.Errorf("%d rules for %d requests", len(rules), seen)
	}
	if _, err := Allow(&Caller{Roles: Operator}, &holdfastv1.Purchase{}); !errors.Is(err, ErrRole) {
		t.Errorf("no request: %v", err)
	}
}

func TestWhoMayDoWhat(t *testing.T) {
	nobody, viewer, operator := &Caller{}, &Caller{Roles: Viewer}, &Caller{Roles: Operator}
	ann, both := &Caller{Roles: Buyer, CustomerID: "ann"}, &Caller{Roles: Buyer | Viewer, CustomerID: "ann"}
	anonymous := &Caller{Roles: Buyer}
	price := &holdfastv1.Money{CurrencyCode: "EUR", MinorUnits: 1}
	buy := func(customer string) *holdfastv1.CreatePurchaseRequest {
		return &holdfastv1.CreatePurchaseRequest{CustomerId: customer}
	}
	batch := func(all ...*holdfastv1.CreatePurchaseRequest) proto.Message {
		return &holdfastv1.BatchCreatePurchasesRequest{Requests: all}
	}
	for name, tt := range map[string]struct {
		who  *Caller
		req  proto.Message
		own  Owned
		want error
	}{
		"nobody reads":                  {nobody, &holdfastv1.GetProductRequest{}, Owned{}, ErrRole},
		"viewer reads":                  {viewer, &holdfastv1.GetPurchaseRequest{PurchaseId: "p"}, Owned{}, nil},
		"viewer lists all":              {viewer, &holdfastv1.ListPurchasesRequest{}, Owned{}, nil},
		"viewer buys":                   {viewer, buy("ann"), Owned{}, ErrRole},
		"viewer creates":                {viewer, &holdfastv1.CreateProductRequest{}, Owned{}, ErrRole},
		"operator buys for anybody":     {operator, buy("bob"), Owned{}, nil},
		"operator names a price":        {operator, &holdfastv1.CreatePurchaseRequest{UnitPrice: price}, Owned{}, nil},
		"buyer buys":                    {ann, buy("ann"), Owned{}, nil},
		"buyer buys for another":        {ann, buy("bob"), Owned{}, ErrCustomer},
		"buyer buys for nobody":         {ann, buy(""), Owned{}, ErrCustomer},
		"buyer without a customer":      {anonymous, buy(""), Owned{}, ErrCustomer},
		"buyer names a price":           {ann, &holdfastv1.CreatePurchaseRequest{CustomerId: "ann", UnitPrice: price}, Owned{}, ErrPrice},
		"a batch of one's own":          {ann, batch(buy("ann"), buy("ann")), Owned{}, nil},
		"a batch with another's":        {ann, batch(buy("ann"), buy("bob")), Owned{}, ErrCustomer},
		"a batch with a price":          {ann, batch(&holdfastv1.CreatePurchaseRequest{CustomerId: "ann", UnitPrice: price}), Owned{}, ErrPrice},
		"buyer sees a purchase":         {ann, &holdfastv1.GetPurchaseRequest{PurchaseId: "p"}, Owned{PurchaseID: "p"}, nil},
		"buyer cancels":                 {ann, &holdfastv1.CancelPurchaseRequest{PurchaseId: "p"}, Owned{PurchaseID: "p"}, nil},
		"buyer returns":                 {ann, &holdfastv1.ReturnPurchaseRequest{PurchaseId: "p"}, Owned{}, ErrRole},
		"buyer lists his":               {ann, &holdfastv1.ListPurchasesRequest{CustomerId: "ann"}, Owned{}, nil},
		"buyer lists all":               {ann, &holdfastv1.ListPurchasesRequest{}, Owned{}, ErrCustomer},
		"buyer pays":                    {ann, &holdfastv1.PayOrderRequest{OrderId: "o"}, Owned{OrderID: "o"}, nil},
		"buyer orders with a price":     {ann, &holdfastv1.CreateOrderRequest{CustomerId: "ann", Lines: []*holdfastv1.OrderLine{{UnitPrice: price}}}, Owned{}, ErrPrice},
		"buyer orders":                  {ann, &holdfastv1.CreateOrderRequest{CustomerId: "ann", Lines: []*holdfastv1.OrderLine{{}}}, Owned{}, nil},
		"buyer watches everything":      {ann, &holdfastv1.WatchEventsRequest{}, Owned{}, ErrRole},
		"buyer who views sees":          {both, &holdfastv1.GetPurchaseRequest{PurchaseId: "p"}, Owned{}, nil},
		"buyer who views buys for bob":  {both, buy("bob"), Owned{}, ErrCustomer},
		"buyer who views changes bob's": {both, &holdfastv1.CancelPurchaseRequest{PurchaseId: "p"}, Owned{PurchaseID: "p"}, nil},
	} {
		own, err := Allow(tt.who, tt.req)
		if own != tt.own || !errors.Is(err, tt.want) || (err == nil) != (tt.want == nil) {
			t.Errorf("%s: %+v, %v", name, own, err)
		}
	}
}

// One who floods a shop must not keep the others out.
func TestRates(t *testing.T) {
	l, err := NewLimiter(Rates{PerBuyer: 5, PerCaller: 0})
	if err != nil {
		t.Fatal(err)
	}
	ann, bob := &Caller{Name: "ann", Roles: Buyer}, &Caller{Name: "bob", Roles: Buyer}
	for i := range 10 {
		if ok, _ := l.Allow(ann, 1); !ok {
			t.Fatalf("call %d is too many", i)
		}
	}
	if ok, wait := l.Allow(ann, 1); ok || wait <= 0 || wait > time.Second/5 {
		t.Errorf("the 11th: %t, repeat after %v", ok, wait)
	}
	if ok, wait := l.Allow(ann, 5); ok || wait <= 800*time.Millisecond || wait > time.Second {
		t.Errorf("five more: %t, repeat after %v", ok, wait)
	}
	if ok, _ := l.Allow(bob, 1000); !ok {
		t.Error("bob may not make one batch")
	}
	if ok, wait := l.Allow(bob, 1); ok || wait < 190*time.Second || wait > 200*time.Second {
		t.Errorf("a call after a batch of 1000, at 5 a second: %t, %v", ok, wait)
	}
	operator := &Caller{Name: "shop", Roles: Operator | Buyer}
	for range 1000 {
		if ok, _ := l.Allow(operator, 1); !ok {
			t.Fatal("the operator has no limit")
		}
	}
}

// What nobody has open any more must not be remembered: callers come and go.
func TestStreamsAreForgotten(t *testing.T) {
	s := NewStreams(1)
	for _, name := range []string{"ann", "bob", "ann"} {
		c := &Caller{Name: name, Roles: Buyer}
		closed, ok := s.Open(c)
		if !ok {
			t.Fatalf("%s has none open", name)
		}
		if _, ok := s.Open(c); ok {
			t.Errorf("%s has two", name)
		}
		closed()
	}
	if len(s.open) != 0 {
		t.Errorf("remembered: %v", s.open)
	}
}
