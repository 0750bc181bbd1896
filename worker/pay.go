package worker

import (
	"context"
	"errors"
	"fmt"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/proto"

	holdfastv1 "github.com/holdfast-io/holdfast/api/holdfast/v1"
	"github.com/holdfast-io/holdfast/worker/ledger"
	"github.com/holdfast-io/holdfast/worker/payment"
)

// The steps of a payment, and what a crash after each leaves:
//
//	held            the holds expire
//	payment stored  they expire, and the trigger has the payment let go in that transaction
//	authorized      the same, or a repetition of the call confirms them
//	confirmed       the capture was written in that transaction, and the outbox does it
//
// Providers are asked by the goroutine of the call, or of the outbox. No lock, transaction
// or batch waits for one.

// PayOrder has a held order paid, and confirms it. Whoever calls it again goes on where the
// last one was.
func (s *service) PayOrder(ctx context.Context, req *holdfastv1.PayOrderRequest) (*holdfastv1.Order, error) {
	l, sh, id, err := s.findOrder(req.GetOrderId())
	if err != nil {
		return nil, err
	}
	o, err := sh.Order(ctx, id)
	if err != nil {
		return nil, s.orderStatus(ctx, sh.Name(), req.GetOrderId(), err)
	}
	p, err := s.beginPayment(ctx, sh, o)
	if err != nil {
		return nil, err
	}
	if p.State == ledger.Authorizing {
		if p, err = s.authorize(ctx, sh, p); err != nil {
			return nil, err
		}
	}
	switch p.State {
	case ledger.Declined:
		if err := s.changeAll(ctx, l, sh, id, ledger.Cancel, declinedRequest); err != nil && !isOver(err) {
			return nil, err
		}
		return nil, declined(req.GetOrderId(), p)
	case ledger.Voided:
		return nil, holdEnded(req.GetOrderId())
	}
	if err := s.changeAll(ctx, l, sh, id, ledger.Confirm, paidRequest); err != nil {
		return nil, err
	}
	s.outboxes[sh.Name()].wake()
	return s.order(ctx, sh, o)
}

// isOver tells that the purchases of an order were let go before.
func isOver(err error) bool {
	reason := holdfastv1.Reason(err)
	return reason == holdfastv1.ReasonHoldExpired || reason == holdfastv1.ReasonPurchaseCancelled
}

// beginPayment stores the payment of an order before its provider is asked.
func (s *service) beginPayment(ctx context.Context, sh *ledger.Shard, o *ledger.Order) (*ledger.Payment, error) {
	id := holdfastv1.PurchaseID(sh.Name(), o.OrderID)
	content := &holdfastv1.CreateOrderRequest{}
	if err := proto.Unmarshal(o.Content, content); err != nil {
		return nil, s.status(ctx, "", fmt.Errorf("read order: %w", err))
	}
	switch {
	case o.State != ledger.OrderPlaced:
		return nil, holdfastv1.Error(codes.FailedPrecondition, holdfastv1.ReasonOrderNotPlaced,
			"order_id: the order is not placed: repeat CreateOrder with its request_id", map[string]string{"order_id": id})
	case total(content) == 0:
		return nil, holdfastv1.FieldError(holdfastv1.ReasonInvalidField, "order_id", "the order has no price: confirm it")
	}
	p, err := sh.BeginPayment(ctx, o.OrderID, len(content.GetLines()), o.PaymentMethod, currency(content))
	switch {
	case errors.Is(err, ledger.ErrNotFound):
		return nil, holdEnded(id)
	case err != nil:
		return nil, s.orderStatus(ctx, sh.Name(), id, err)
	}
	return p, nil
}

func currency(o *holdfastv1.CreateOrderRequest) string {
	for _, line := range o.GetLines() {
		if code := line.GetUnitPrice().GetCurrencyCode(); code != "" {
			return code
		}
	}
	return ""
}

// The pauses between questions to a provider of whose answer nothing is known.
const (
	firstProviderPause = 50 * time.Millisecond
	maxProviderPause   = 2 * time.Second
)

// authorize asks the provider until it has an answer or the caller has left, and stores it.
func (s *service) authorize(ctx context.Context, sh *ledger.Shard, p *ledger.Payment) (*ledger.Payment, error) {
	id := holdfastv1.PurchaseID(sh.Name(), p.OrderID)
	provider, asked, err := s.paymentOf(sh.Name(), p)
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
	state, why := ledger.Authorized, ""
	if no, is := errors.AsType[*payment.DeclinedError](err); is {
		state, why = ledger.Declined, no.Code
	} else if payment.IsRefused(err, payment.ReasonVoided) {
		return nil, holdEnded(id)
	} else if err != nil {
		s.log.Error("payment not authorized", "order", id, "error", err)
		state, why = ledger.Declined, err.Error()
	}
	// The answer is stored also when the caller has left meanwhile.
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), batchTimeout)
	defer cancel()
	settled, err := sh.SettlePayment(ctx, p.OrderID, state, reference, why)
	if err != nil {
		return nil, s.orderStatus(ctx, sh.Name(), id, err)
	}
	return settled, nil
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

// paymentOf is a payment as its provider is asked about it.
func (s *service) paymentOf(shard string, p *ledger.Payment) (payment.Provider, payment.Payment, error) {
	return askedOf(s.providers, shard, p)
}

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
