package coordinator_test

import (
	"context"
	"testing"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	holdfastv1 "github.com/holdfast-io/holdfast/api/holdfast/v1"
	workerv1 "github.com/holdfast-io/holdfast/api/holdfast/worker/v1"
	"github.com/holdfast-io/holdfast/coordinator"
)

// placed is the one order of a shop, which was placed before: what closing it comes to, and
// how that was asked for.
type placed struct {
	outcome error
	closing *workerv1.CloseOrderRequest
}

type orders struct {
	holdfastv1.UnimplementedOrderServiceServer
	shop *shop
}

func (o orders) PayOrder(context.Context, *holdfastv1.PayOrderRequest) (*holdfastv1.Order, error) {
	return &holdfastv1.Order{OrderId: "eu-1"}, nil
}

func (f forCoordinators) OpenOrder(context.Context, *workerv1.OpenOrderRequest) (*workerv1.OpenOrderResponse, error) {
	return &workerv1.OpenOrderResponse{OrderId: "eu-1"}, nil
}

func (f forCoordinators) CloseOrder(_ context.Context, req *workerv1.CloseOrderRequest) (*holdfastv1.Order, error) {
	f.shop.order.closing = req
	return &holdfastv1.Order{OrderId: "eu-1", Purchases: []*holdfastv1.Purchase{{PurchaseId: "eu-2"}}}, f.shop.order.outcome
}

func (f forCoordinators) SellForMoney(ctx context.Context, req *workerv1.SellForMoneyRequest) (*holdfastv1.Order, error) {
	if deadline, ok := ctx.Deadline(); !ok || deadline.Before(req.GetHoldUntil().AsTime()) {
		return nil, status.Error(codes.Internal, "what is held may not be paid for longer")
	}
	return f.CloseOrder(ctx, &workerv1.CloseOrderRequest{OrderId: "eu-1", Finish: req.GetFinish()})
}

// Whoever did not get his answer asks again, and must not take an order that was declined
// for one that he has. What was placed before is not held once more.
func TestRepeatedOrderIsToldItsOutcome(t *testing.T) {
	f := openFront(t, coordinator.Config{}, "w1")
	price := &holdfastv1.Money{CurrencyCode: "EUR", MinorUnits: 5}
	for _, reason := range []string{"", holdfastv1.ReasonPaymentDeclined, holdfastv1.ReasonHoldExpired} {
		for _, price := range []*holdfastv1.Money{nil, price} {
			for _, hold := range []*holdfastv1.Hold{nil, {}} {
				was := &placed{}
				if reason != "" {
					was.outcome = holdfastv1.Error(codes.FailedPrecondition, reason, "no", nil)
				}
				f.shop.order = was
				wantOutcome := func(err error) {
					t.Helper()
					if got := holdfastv1.Reason(err); got != reason || (err == nil) != (reason == "") {
						t.Errorf("told %v, want %q", err, reason)
					}
					if was.closing.GetFinish() != (hold == nil) || len(was.closing.GetFailure().GetLines()) > 0 || was.closing.GetOrderId() != "eu-1" {
						t.Errorf("hold %v: closed with %v", hold, was.closing)
					}
				}
				_, err := f.orders.CreateOrder(t.Context(), &holdfastv1.CreateOrderRequest{
					Lines:      []*holdfastv1.OrderLine{{ProductId: "p", Amount: 1, UnitPrice: price}},
					CustomerId: "ann", Region: "eu", PaymentMethod: "simulated", RequestId: "r", Hold: hold,
				})
				wantOutcome(err)
				if price == nil {
					continue
				}
				_, err = f.purchases.CreatePurchase(t.Context(), &holdfastv1.CreatePurchaseRequest{
					ProductId: "p", Amount: 1, UnitPrice: price, CustomerId: "ann", Region: "eu", PaymentMethod: "simulated",
					RequestId: "r", Hold: hold,
				})
				wantOutcome(err)
			}
		}
	}
}
