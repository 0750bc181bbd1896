package worker

import (
	"context"
	"errors"
	"fmt"
	"time"

	"google.golang.org/grpc/codes"

	holdfastv1 "github.com/holdfast-io/holdfast/api/holdfast/v1"
	"github.com/holdfast-io/holdfast/api/traces"
	"github.com/holdfast-io/holdfast/worker/ledger"
	"github.com/holdfast-io/holdfast/worker/payment"
)

// The steps of a payment, and what a crash after each leaves:
//
//	held            the holds expire
//	payment stored  they expire, and the trigger has the payment let go in that transaction
//	authorized      the same, or a repetition of the call asks again and confirms them
//	confirmed       the provider's answer and the capture to come were written in that
//	                transaction, and the outbox does it
//
// Providers are asked by the goroutine of the call, or of the outbox. No lock, transaction
// or batch waits for one.

// PayOrder has a held order paid, and confirms it. Whoever calls it again goes on where the
// last one was.
func (s *service) PayOrder(ctx context.Context, req *holdfastv1.PayOrderRequest) (*holdfastv1.Order, error) {
	sh, id, err := s.findOrder(req.GetOrderId())
	if err != nil {
		return nil, err
	}
	o, err := sh.BeginPayment(ctx, id)
	switch {
	case err != nil:
		return nil, s.orderStatus(ctx, sh.Name(), req.GetOrderId(), err)
	case o.State != ledger.OrderPlaced:
		return nil, notPlaced(req.GetOrderId())
	case priceOf(o) == 0:
		return nil, holdfastv1.FieldError(holdfastv1.ReasonInvalidField, "order_id", "the order has no price: confirm it")
	}
	return s.pay(ctx, sh, o)
}

// pay goes on with an order whose payment has begun, unless a hold had ended before.
func (s *service) pay(ctx context.Context, sh *ledger.Shard, o *ledger.WholeOrder) (*holdfastv1.Order, error) {
	id := holdfastv1.PurchaseID(sh.Name(), o.OrderID)
	if o.Payment == nil {
		return nil, holdEnded(id)
	}
	var settlement *ledger.Settlement
	if o.Payment.State == ledger.Authorizing {
		var err error
		if settlement, err = s.authorize(ctx, sh, o.Payment); err != nil {
			return nil, err
		}
		o.Payment.State, o.Payment.Reference, o.Payment.Decline = settlement.State, settlement.Reference, settlement.Decline
	}
	switch o.Payment.State {
	case ledger.Declined:
		if _, err := s.changeOrder(ctx, sh, o, ledger.Cancel, declinedRequest, settlement); err != nil && !isOver(err) {
			return nil, err
		}
		return nil, declined(id, o.Payment)
	case ledger.Voided:
		return nil, holdEnded(id)
	}
	return s.changeOrder(ctx, sh, o, ledger.Confirm, paidRequest, settlement)
}

// isOver tells that the purchases of an order were let go before.
func isOver(err error) bool {
	reason := holdfastv1.Reason(err)
	return reason == holdfastv1.ReasonHoldExpired || reason == holdfastv1.ReasonPurchaseCancelled
}

// The pauses between questions to a provider of whose answer nothing is known.
const (
	firstProviderPause = 50 * time.Millisecond
	maxProviderPause   = 2 * time.Second
)

// authorize asks the provider until it has an answer or the caller has left.
func (s *service) authorize(ctx context.Context, sh *ledger.Shard, p *ledger.Payment) (*ledger.Settlement, error) {
	id := holdfastv1.PurchaseID(sh.Name(), p.OrderID)
	provider, asked, err := askedOf(s.providers, sh.Name(), p)
	if err != nil {
		return nil, s.status(ctx, "", err)
	}
	asking, stop := before(ctx)
	defer stop()
	reference := ""
	for wait := firstProviderPause; ; wait = min(2*wait, maxProviderPause) {
		reference, err = provider.Authorize(asking, asked)
		if !errors.Is(err, payment.ErrUnknown) {
			break
		}
		if pause(asking, wait); asking.Err() != nil {
			return nil, holdfastv1.Error(codes.Unavailable, holdfastv1.ReasonPaymentPending,
				"the payment's outcome is not known yet; repeat with the same request_id", map[string]string{"order_id": id})
		}
	}
	if no, is := errors.AsType[*payment.DeclinedError](err); is {
		return &ledger.Settlement{State: ledger.Declined, Reference: reference, Decline: no.Code}, nil
	}
	if payment.IsRefused(err, payment.ReasonVoided) {
		return nil, holdEnded(id)
	}
	if err != nil {
		traces.Log(ctx, s.log).Error("payment not authorized", "order", id, "error", err)
		return &ledger.Settlement{State: ledger.Declined, Reference: reference, Decline: err.Error()}, nil
	}
	return &ledger.Settlement{State: ledger.Authorized, Reference: reference}, nil
}

// before ends a little earlier than ctx, by a tenth at most: whoever waits is to hear that
// nothing is known.
func before(ctx context.Context) (context.Context, context.CancelFunc) {
	deadline, limited := ctx.Deadline()
	if !limited {
		return context.WithCancel(ctx)
	}
	return context.WithDeadline(ctx, deadline.Add(-min(time.Until(deadline)/10, 200*time.Millisecond)))
}

// askedOf is a payment as its provider is asked about it.
func askedOf(providers payment.Providers, shard string, p *ledger.Payment) (payment.Provider, payment.Payment, error) {
	provider, method, err := providers.Find(p.PaymentMethod)
	if err != nil {
		return nil, payment.Payment{}, fmt.Errorf("find provider: %w", err)
	}
	return provider, payment.Payment{
		Key: holdfastv1.PurchaseID(shard, p.OrderID), Method: method.Token, Begun: p.CreateTime, Reference: p.Reference,
		Money: payment.Money{Currency: p.Currency, MinorUnits: p.MinorUnits},
	}, nil
}

func declined(orderID string, p *ledger.Payment) error {
	return holdfastv1.Error(codes.FailedPrecondition, holdfastv1.ReasonPaymentDeclined,
		"payment_method: the payment was declined: "+p.Decline, map[string]string{"order_id": orderID, "code": p.Decline})
}

func holdEnded(orderID string) error {
	return holdfastv1.Error(codes.FailedPrecondition, holdfastv1.ReasonHoldExpired,
		"order_id: the order is not held any more", map[string]string{"order_id": orderID})
}
