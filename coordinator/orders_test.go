package coordinator_test

import (
	"context"
	"testing"

	"google.golang.org/grpc/codes"

	holdfastv1 "github.com/holdfast-io/holdfast/api/holdfast/v1"
	workerv1 "github.com/holdfast-io/holdfast/api/holdfast/worker/v1"
	"github.com/holdfast-io/holdfast/coordinator"
)

// placed is the one order of a shop, which was placed before, and what it came to when it
// is paid or confirmed.
type placed struct {
	state   holdfastv1.PurchaseState
	outcome error
}

type orders struct {
	holdfastv1.UnimplementedOrderServiceServer
	shop *shop
}

func (o orders) answer() *holdfastv1.Order {
	return &holdfastv1.Order{OrderId: "eu-1", State: o.shop.order.state, Purchases: []*holdfastv1.Purchase{{State: o.shop.order.state}}}
}

func (o orders) GetOrder(context.Context, *holdfastv1.GetOrderRequest) (*holdfastv1.Order, error) {
	return o.answer(), nil
}

func (o orders) PayOrder(context.Context, *holdfastv1.PayOrderRequest) (*holdfastv1.Order, error) {
	return o.answer(), o.shop.order.outcome
}

func (o orders) ConfirmOrder(context.Context, *holdfastv1.ConfirmOrderRequest) (*holdfastv1.Order, error) {
	return o.answer(), o.shop.order.outcome
}

func (f forCoordinators) OpenOrder(context.Context, *workerv1.OpenOrderRequest) (*workerv1.OpenOrderResponse, error) {
	return &workerv1.OpenOrderResponse{OrderId: "eu-1"}, nil
}

// Whoever did not get his answer asks again, and must not take an order that was declined
// for one that he has.
func TestRepeatedOrderIsToldItsOutcome(t *testing.T) {
	failed := func(reason string) error { return holdfastv1.Error(codes.FailedPrecondition, reason, "no", nil) }
	f := openFront(t, coordinator.Config{}, "w1")
	price := &holdfastv1.Money{CurrencyCode: "EUR", MinorUnits: 5}
	for name, tt := range map[string]struct {
		was   placed
		price *holdfastv1.Money
		want  string
	}{
		"declined":          {placed{holdfastv1.PurchaseState_PURCHASE_STATE_CANCELLED, failed(holdfastv1.ReasonPaymentDeclined)}, price, holdfastv1.ReasonPaymentDeclined},
		"expired":           {placed{holdfastv1.PurchaseState_PURCHASE_STATE_EXPIRED, failed(holdfastv1.ReasonHoldExpired)}, price, holdfastv1.ReasonHoldExpired},
		"expired, free":     {placed{holdfastv1.PurchaseState_PURCHASE_STATE_EXPIRED, failed(holdfastv1.ReasonHoldExpired)}, nil, holdfastv1.ReasonHoldExpired},
		"confirmed":         {placed{holdfastv1.PurchaseState_PURCHASE_STATE_CONFIRMED, failed("asked again")}, price, ""},
		"returned":          {placed{holdfastv1.PurchaseState_PURCHASE_STATE_RETURNED, failed("asked again")}, price, ""},
		"held, now it goes": {placed{holdfastv1.PurchaseState_PURCHASE_STATE_HELD, nil}, price, ""},
	} {
		t.Run(name, func(t *testing.T) {
			f.shop.order = &tt.was
			_, err := f.orders.CreateOrder(t.Context(), &holdfastv1.CreateOrderRequest{
				Lines:      []*holdfastv1.OrderLine{{ProductId: "p", Amount: 1, UnitPrice: tt.price}},
				CustomerId: "ann", Region: "eu", PaymentMethod: "simulated", RequestId: "r",
			})
			if got := holdfastv1.Reason(err); got != tt.want || (err == nil) != (tt.want == "") {
				t.Errorf("told %v, want %q", err, tt.want)
			}
			if tt.price == nil {
				return
			}
			_, err = f.purchases.CreatePurchase(t.Context(), &holdfastv1.CreatePurchaseRequest{
				ProductId: "p", Amount: 1, UnitPrice: tt.price, CustomerId: "ann", Region: "eu", PaymentMethod: "simulated", RequestId: "r",
			})
			if got := holdfastv1.Reason(err); got != tt.want || (err == nil) != (tt.want == "") {
				t.Errorf("purchase: told %v, want %q", err, tt.want)
			}
		})
	}
}
