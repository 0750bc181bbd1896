package worker

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/google/uuid"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"

	holdfastv1 "github.com/holdfast-io/holdfast/api/holdfast/v1"
	workerv1 "github.com/holdfast-io/holdfast/api/holdfast/worker/v1"
	"github.com/holdfast-io/holdfast/worker/ledger"
)

// orderSpace makes the id of an order from its region and request id, so that a repetition
// has the same id before anything is stored.
var orderSpace = uuid.MustParse("6f9b0d6e-3c1a-4b52-9f0e-1f6a3a0a7d4c")

func orderID(region, requestID string) uuid.UUID {
	return uuid.NewSHA1(orderSpace, []byte(region+"\x00"+requestID))
}

// openOrder stores an order before its first line is held.
func (s *service) openOrder(ctx context.Context, req *workerv1.OpenOrderRequest) (*workerv1.OpenOrderResponse, error) {
	o := req.GetOrder()
	sh := s.shard(o.GetRegion())
	switch {
	case sh == nil:
		return nil, unknownRegion(o.GetRegion(), s.topology)
	case total(o) > 0:
		if _, _, err := s.providers.Find(o.GetPaymentMethod()); err != nil {
			return nil, holdfastv1.FieldError(holdfastv1.ReasonInvalidField, "payment_method", err.Error())
		}
	}
	content, err := contentOf(o)
	if err != nil {
		return nil, s.status(ctx, "", err)
	}
	stored, err := sh.OpenOrder(ctx, ledger.Order{
		OrderID: orderID(o.GetRegion(), o.GetRequestId()), RequestID: o.GetRequestId(), CustomerID: o.GetCustomerId(),
		PaymentMethod: o.GetPaymentMethod(), Content: content,
	})
	if err != nil {
		return nil, s.orderStatus(ctx, sh.Name(), "", err)
	}
	id := holdfastv1.PurchaseID(sh.Name(), stored.OrderID)
	if stored.State == ledger.OrderFailed {
		// Whoever had it fail may have been killed before he gave its lines back.
		s.giveBackAll(ctx, s.lanes.byShard[sh.Name()], sh, stored.OrderID)
		return nil, orderFailed(id, stored.Failure)
	}
	return &workerv1.OpenOrderResponse{OrderId: id, Open: stored.State == ledger.OrderOpen}, nil
}

// contentOf is what tells an order from others: all of it but the end of its hold, which is
// reckoned from when it was asked for.
func contentOf(o *holdfastv1.CreateOrderRequest) ([]byte, error) {
	c := proto.CloneOf(o)
	if c.GetHold() != nil {
		c.Hold = &holdfastv1.Hold{}
	}
	return proto.MarshalOptions{Deterministic: true}.Marshal(c)
}

// total is the price of an order, in the smallest unit of its currency.
func total(o *holdfastv1.CreateOrderRequest) (minorUnits int64) {
	for _, line := range o.GetLines() {
		minorUnits += line.GetAmount() * line.GetUnitPrice().GetMinorUnits()
	}
	return minorUnits
}

// holdLine holds a line of an order in its product's tenure.
func (s *service) holdLine(ctx context.Context, req *workerv1.HoldLineRequest) (*holdfastv1.Purchase, error) {
	line := req.GetLine()
	region, id, ok := holdfastv1.ParseID(req.GetOrderId())
	if !ok || region != line.GetRegion() {
		return nil, holdfastv1.OrderNotFound(req.GetOrderId())
	}
	if err := s.sells(line); err != nil {
		return nil, err
	}
	expires := line.GetHold().GetExpireTime().AsTime()
	p := Purchase{
		ProductID: line.GetProductId(), Region: region, RequestID: line.GetRequestId(), Amount: line.GetAmount(),
		CustomerID: line.GetCustomerId(), PaymentMethod: line.GetPaymentMethod(), ExpireTime: &expires, OrderID: &id,
	}
	if price := req.GetUnitPrice(); price != nil {
		units := price.GetMinorUnits()
		p.UnitPrice = &units
	}
	stored, err := s.take(ctx, p)
	if err != nil {
		return nil, s.status(ctx, line.GetProductId(), err)
	}
	return purchase(region, stored), nil
}

// closeOrder places an order, or has it fail and gives back what is held of it. Whoever
// closes it first decides.
func (s *service) closeOrder(ctx context.Context, req *workerv1.CloseOrderRequest) (*holdfastv1.Order, error) {
	l, sh, id, err := s.findOrder(req.GetOrderId())
	if err != nil {
		return nil, err
	}
	state, failure := ledger.OrderPlaced, []byte(nil)
	if len(req.GetFailure().GetLines()) > 0 {
		state = ledger.OrderFailed
		if failure, err = proto.Marshal(req.GetFailure()); err != nil {
			return nil, s.status(ctx, "", err)
		}
	}
	closed, err := sh.CloseOrder(ctx, id, state, failure)
	if err != nil {
		return nil, s.orderStatus(ctx, sh.Name(), req.GetOrderId(), err)
	}
	if closed.State == ledger.OrderFailed {
		s.giveBackAll(ctx, l, sh, id)
		return nil, orderFailed(req.GetOrderId(), closed.Failure)
	}
	return s.order(ctx, sh, closed)
}

// giveBackAll cancels what is still held of an order that has failed. What cannot be
// cancelled now expires.
func (s *service) giveBackAll(ctx context.Context, l *lane, sh *ledger.Shard, id uuid.UUID) {
	purchases, err := sh.PurchasesOfOrder(ctx, id)
	for _, p := range purchases {
		if p.State == ledger.Held && err == nil {
			_, err = await(ctx, &l.changes, []ledger.Change{{
				PurchaseID: p.PurchaseID, Action: ledger.Cancel, RequestID: failedRequest, OrderID: &id,
			}})
		}
	}
	if err != nil {
		s.log.Warn("failed order not given back, its holds will expire", "order", holdfastv1.PurchaseID(sh.Name(), id), "error", err)
	}
}

// Request ids of what holdfast does to the lines of an order by itself. Callers' own hold
// no control characters.
const (
	failedRequest   = "\x01failed"
	declinedRequest = "\x01declined"
	paidRequest     = "\x01paid"
)

func (s *service) GetOrder(ctx context.Context, req *holdfastv1.GetOrderRequest) (*holdfastv1.Order, error) {
	_, sh, id, err := s.findOrder(req.GetOrderId())
	if err != nil {
		return nil, err
	}
	o, err := sh.Order(ctx, id)
	if err != nil {
		return nil, s.orderStatus(ctx, sh.Name(), req.GetOrderId(), err)
	}
	return s.order(ctx, sh, o)
}

func (s *service) ConfirmOrder(ctx context.Context, req *holdfastv1.ConfirmOrderRequest) (*holdfastv1.Order, error) {
	return s.changeOrder(ctx, req.GetOrderId(), ledger.Confirm, req.GetRequestId())
}

func (s *service) CancelOrder(ctx context.Context, req *holdfastv1.CancelOrderRequest) (*holdfastv1.Order, error) {
	return s.changeOrder(ctx, req.GetOrderId(), ledger.Cancel, req.GetRequestId())
}

// changeOrder does the same to all purchases of a placed order, in one transaction.
func (s *service) changeOrder(ctx context.Context, orderID string, action ledger.Action, requestID string) (*holdfastv1.Order, error) {
	l, sh, id, err := s.findOrder(orderID)
	if err != nil {
		return nil, err
	}
	o, err := sh.Order(ctx, id)
	if err != nil {
		return nil, s.orderStatus(ctx, sh.Name(), orderID, err)
	}
	if o.State != ledger.OrderPlaced {
		return nil, holdfastv1.Error(codes.FailedPrecondition, holdfastv1.ReasonOrderNotPlaced,
			"order_id: the order is not placed: repeat CreateOrder with its request_id", map[string]string{"order_id": orderID})
	}
	if err := s.changeAll(ctx, l, sh, id, action, requestID); err != nil {
		return nil, err
	}
	return s.order(ctx, sh, o)
}

// changeAll does the same to all purchases of an order, in one transaction.
func (s *service) changeAll(ctx context.Context, l *lane, sh *ledger.Shard, id uuid.UUID, action ledger.Action, requestID string) error {
	orderID := holdfastv1.PurchaseID(sh.Name(), id)
	purchases, err := sh.PurchasesOfOrder(ctx, id)
	if err != nil {
		return s.orderStatus(ctx, sh.Name(), orderID, err)
	}
	set := make([]ledger.Change, len(purchases))
	for i, p := range purchases {
		set[i] = ledger.Change{PurchaseID: p.PurchaseID, Action: action, RequestID: requestID, OrderID: &id}
	}
	changed, err := await(ctx, &l.changes, set)
	if err != nil {
		return s.orderStatus(ctx, sh.Name(), orderID, err)
	}
	for i, c := range changed {
		if c.Err != nil {
			return changeStatus(holdfastv1.PurchaseID(sh.Name(), set[i].PurchaseID), c)
		}
	}
	return nil
}

// findOrder finds the lane and the shard that an order id names.
func (s *service) findOrder(orderID string) (*lane, *ledger.Shard, uuid.UUID, error) {
	region, id, err := s.locate(orderID, holdfastv1.OrderNotFound)
	return s.lanes.byShard[region], s.shard(region), id, err
}

// orderStatus is what callers see of an error of a shard about an order.
func (s *service) orderStatus(ctx context.Context, shard, orderID string, err error) error {
	switch {
	case errors.Is(err, ledger.ErrNotFound):
		return holdfastv1.OrderNotFound(orderID)
	case errors.Is(err, ledger.ErrNotAuthorized):
		return holdfastv1.Error(codes.FailedPrecondition, holdfastv1.ReasonPaymentPending,
			"order_id: the payment of the order is not authorized: pay it", map[string]string{"order_id": orderID})
	case errors.Is(err, errRequestIDReused), errors.As(err, new(*ShardError)):
		return s.status(ctx, "", err)
	}
	return s.status(ctx, "", &ShardError{Shard: shard, cause: err})
}

// orderFailed is what callers are told of an order that has failed.
func orderFailed(orderID string, failure []byte) error {
	f := &holdfastv1.OrderFailure{}
	if err := proto.Unmarshal(failure, f); err != nil {
		return fmt.Errorf("read failure of order: %w", err)
	}
	lines := make([]string, len(f.GetLines()))
	for i, line := range f.GetLines() {
		reason := holdfastv1.Reason(status.ErrorProto(line.GetStatus()))
		lines[i] = fmt.Sprintf("%s (%s)", line.GetProductId(), reason)
	}
	return holdfastv1.Error(codes.FailedPrecondition, holdfastv1.ReasonOrderFailed,
		"lines: not to be had: "+strings.Join(lines, ", "), map[string]string{"order_id": orderID}, f)
}

// order is an order as callers see it, with its purchases and its payment.
func (s *service) order(ctx context.Context, sh *ledger.Shard, o *ledger.Order) (*holdfastv1.Order, error) {
	id := holdfastv1.PurchaseID(sh.Name(), o.OrderID)
	purchases, err := sh.PurchasesOfOrder(ctx, o.OrderID)
	if err != nil {
		return nil, s.orderStatus(ctx, sh.Name(), id, err)
	}
	answer := &holdfastv1.Order{
		OrderId: id, CustomerId: o.CustomerID, Region: sh.Name(), PaymentMethod: o.PaymentMethod, RequestId: o.RequestID,
		CreateTime: timestamppb.New(o.CreateTime), State: stateOf(purchases),
	}
	for _, p := range purchases {
		answer.Purchases = append(answer.Purchases, purchase(sh.Name(), p))
	}
	p, err := sh.Payment(ctx, o.OrderID)
	switch {
	case err == nil:
		answer.Payment = paymentOf(p)
	case !errors.Is(err, ledger.ErrNotFound):
		return nil, s.orderStatus(ctx, sh.Name(), id, err)
	}
	return answer, nil
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
