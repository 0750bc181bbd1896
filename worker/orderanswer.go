package worker

import (
	"slices"

	"google.golang.org/protobuf/types/known/timestamppb"

	holdfastv1 "github.com/holdfast-io/holdfast/api/holdfast/v1"
	"github.com/holdfast-io/holdfast/worker/ledger"
)

// order is an order as callers see it, with its purchases and its payment.
func order(region string, o *ledger.WholeOrder) *holdfastv1.Order {
	answer := &holdfastv1.Order{
		OrderId: holdfastv1.PurchaseID(region, o.OrderID), CustomerId: o.CustomerID, Region: region,
		PaymentMethod: o.PaymentMethod, RequestId: o.RequestID, CreateTime: timestamppb.New(o.CreateTime),
		State: stateOf(o.Purchases),
	}
	for _, p := range o.Purchases {
		answer.Purchases = append(answer.Purchases, purchase(region, p))
	}
	if o.Payment != nil {
		answer.Payment = paymentOf(o.Payment)
	}
	return answer
}

// stateOf is the state of purchases together. They are held, confirmed and cancelled
// together, but expire and are returned each by itself.
func stateOf(purchases []*ledger.Purchase) holdfastv1.PurchaseState {
	for _, state := range []ledger.State{ledger.Confirmed, ledger.Returned, ledger.Expired, ledger.Cancelled} {
		if slices.ContainsFunc(purchases, func(p *ledger.Purchase) bool { return p.State == state }) {
			return states[state]
		}
	}
	return holdfastv1.PurchaseState_PURCHASE_STATE_HELD
}

var paymentStates = map[ledger.PaymentState]holdfastv1.PaymentState{
	ledger.Authorizing: holdfastv1.PaymentState_PAYMENT_STATE_AUTHORIZING,
	ledger.Authorized:  holdfastv1.PaymentState_PAYMENT_STATE_AUTHORIZED,
	ledger.Declined:    holdfastv1.PaymentState_PAYMENT_STATE_DECLINED,
	ledger.Voided:      holdfastv1.PaymentState_PAYMENT_STATE_VOIDED,
	ledger.Captured:    holdfastv1.PaymentState_PAYMENT_STATE_CAPTURED,
}

func paymentOf(p *ledger.Payment) *holdfastv1.Payment {
	return &holdfastv1.Payment{
		State:              paymentStates[p.State],
		Amount:             &holdfastv1.Money{CurrencyCode: p.Currency, MinorUnits: p.MinorUnits},
		CapturedMinorUnits: p.Captured, RefundedMinorUnits: p.Refunded,
	}
}
