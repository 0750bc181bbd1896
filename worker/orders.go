package worker

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/google/uuid"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"

	holdfastv1 "github.com/holdfast-io/holdfast/api/holdfast/v1"
	workerv1 "github.com/holdfast-io/holdfast/api/holdfast/worker/v1"
	"github.com/holdfast-io/holdfast/api/traces"
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
	sh, asked, err := s.asked(ctx, req.GetOrder())
	if err != nil {
		return nil, err
	}
	stored, err := sh.OpenOrder(ctx, *asked)
	if err != nil {
		return nil, s.orderStatus(ctx, sh.Name(), "", err)
	}
	id := holdfastv1.PurchaseID(sh.Name(), stored.OrderID)
	if stored.State == ledger.OrderFailed {
		// Whoever had it fail may have been killed before he gave its lines back.
		o, err := sh.WholeOrder(ctx, stored.OrderID)
		if err != nil {
			return nil, s.orderStatus(ctx, sh.Name(), id, err)
		}
		s.giveBackAll(ctx, sh, o)
		return nil, orderFailed(id, stored.Failure)
	}
	return &workerv1.OpenOrderResponse{OrderId: id, Open: stored.State == ledger.OrderOpen}, nil
}

// asked is an order as it is to be stored, and where.
func (s *service) asked(ctx context.Context, o *holdfastv1.CreateOrderRequest) (*ledger.Shard, *ledger.Order, error) {
	sh := s.shard(o.GetRegion())
	switch {
	case sh == nil:
		return nil, nil, unknownRegion(o.GetRegion(), s.topology)
	case total(o) > 0:
		if _, _, err := s.providers.Find(o.GetPaymentMethod()); err != nil {
			return nil, nil, holdfastv1.FieldError(holdfastv1.ReasonInvalidField, "payment_method", err.Error())
		}
	}
	content, err := contentOf(o)
	if err != nil {
		return nil, nil, s.status(ctx, "", err)
	}
	return sh, &ledger.Order{
		OrderID: orderID(o.GetRegion(), o.GetRequestId()), RequestID: o.GetRequestId(), CustomerID: o.GetCustomerId(),
		PaymentMethod: o.GetPaymentMethod(), Currency: currency(o), Content: content,
	}, nil
}

// currency is that of an order's prices, which is the same for all.
func currency(o *holdfastv1.CreateOrderRequest) string {
	for _, line := range o.GetLines() {
		if code := line.GetUnitPrice().GetCurrencyCode(); code != "" {
			return code
		}
	}
	return ""
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
// closes it first decides. A placed order that is not only to be held goes on from there.
func (s *service) closeOrder(ctx context.Context, req *workerv1.CloseOrderRequest) (*holdfastv1.Order, error) {
	sh, id, err := s.findOrder(req.GetOrderId())
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
	o, err := sh.CloseOrder(ctx, id, state, failure, req.GetFinish())
	if err != nil {
		return nil, s.orderStatus(ctx, sh.Name(), req.GetOrderId(), err)
	}
	return s.goOn(ctx, sh, o, req.GetFinish())
}

// goOn does what is left to be done of an order that is closed.
func (s *service) goOn(ctx context.Context, sh *ledger.Shard, o *ledger.WholeOrder, finish bool) (*holdfastv1.Order, error) {
	switch {
	case o.State == ledger.OrderFailed:
		s.giveBackAll(ctx, sh, o)
		return nil, orderFailed(holdfastv1.PurchaseID(sh.Name(), o.OrderID), o.Failure)
	case !finish || isDone(o):
		return order(sh.Name(), o), nil
	case priceOf(o) > 0:
		return s.pay(ctx, sh, o)
	}
	return s.changeOrder(ctx, sh, o, ledger.Confirm, o.RequestID, nil)
}

// sellForMoney sells an order of one line. Its request id is of its own kind: that of a
// purchase is its product's, that of an order its region's. So its line is always the same
// one, which is held first: until then there is nothing to be stored.
func (s *service) sellForMoney(ctx context.Context, req *workerv1.SellForMoneyRequest) (*holdfastv1.Order, error) {
	o := proto.CloneOf(req.GetOrder())
	if len(o.GetLines()) != 1 {
		return nil, holdfastv1.FieldError(holdfastv1.ReasonInvalidField, "lines", "must be one")
	}
	line := o.GetLines()[0]
	o.RequestId = "\x01" + line.GetProductId() + "\x01" + o.GetRequestId()
	if req.GetFinish() {
		o.Hold = nil // the caller has asked for none
	}
	sh, asked, err := s.asked(ctx, o)
	if err != nil {
		return nil, err
	}
	id := holdfastv1.PurchaseID(sh.Name(), asked.OrderID)
	holding, cancel := context.WithDeadline(ctx, req.GetHoldUntil().AsTime())
	defer cancel()
	_, err = s.holdLine(holding, &workerv1.HoldLineRequest{
		OrderId: id, UnitPrice: line.GetUnitPrice(), Line: &holdfastv1.CreatePurchaseRequest{
			ProductId: line.GetProductId(), Amount: line.GetAmount(), CustomerId: o.GetCustomerId(), Region: o.GetRegion(),
			PaymentMethod: o.GetPaymentMethod(), RequestId: req.GetOrder().GetRequestId(), Hold: req.GetOrder().GetHold(),
		},
	})
	if holdfastv1.IsTransient(err) || status.Code(err) == codes.InvalidArgument {
		// What cannot be asked for has no outcome; its request_id may be that of another one.
		return nil, err
	}
	asked.State = ledger.OrderPlaced
	if err != nil {
		asked.State = ledger.OrderFailed
		asked.Failure, err = proto.Marshal(&holdfastv1.OrderFailure{Lines: []*holdfastv1.LineFailure{
			{ProductId: line.GetProductId(), Status: status.Convert(err).Proto()},
		}})
		if err != nil {
			return nil, s.status(ctx, "", err)
		}
	}
	var placed *ledger.WholeOrder
	err = s.lanes.byShard[sh.Name()].contact.during(ctx, batchTimeout, func(ctx context.Context) (err error) {
		placed, err = sh.PlaceOrder(ctx, *asked, req.GetFinish())
		return err
	})
	if errors.Is(err, ledger.ErrRequestIDReused) && placed.State == ledger.OrderFailed {
		s.giveBackAll(ctx, sh, placed) // nothing but what was held just now
	}
	if err != nil {
		return nil, s.orderStatus(ctx, sh.Name(), id, err)
	}
	return s.goOn(ctx, sh, placed, req.GetFinish())
}

// isDone tells that an order was confirmed, whatever has become of it since. One whose holds
// have ended otherwise is told so when it is confirmed, or paid.
func isDone(o *ledger.WholeOrder) bool {
	state := stateOf(o.Purchases)
	return state == holdfastv1.PurchaseState_PURCHASE_STATE_CONFIRMED || state == holdfastv1.PurchaseState_PURCHASE_STATE_RETURNED
}

// priceOf is what a placed order costs, in the smallest unit of its currency.
func priceOf(o *ledger.WholeOrder) (minorUnits int64) {
	for _, p := range o.Purchases {
		if p.UnitPrice != nil {
			minorUnits += p.Amount * *p.UnitPrice
		}
	}
	return minorUnits
}

// giveBackAll cancels what is still held of an order that has failed. What cannot be
// cancelled now expires.
func (s *service) giveBackAll(ctx context.Context, sh *ledger.Shard, o *ledger.WholeOrder) {
	for _, p := range o.Purchases {
		if p.State != ledger.Held {
			continue
		}
		_, err := await(ctx, &s.lanes.byShard[sh.Name()].changes, []ledger.Change{{
			PurchaseID: p.PurchaseID, Action: ledger.Cancel, RequestID: failedRequest, OrderID: &o.OrderID,
		}})
		if err != nil {
			traces.Log(ctx, s.log).Warn("failed order not given back, its holds will expire",
				"order", holdfastv1.PurchaseID(sh.Name(), o.OrderID), "error", err)
			return
		}
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
	sh, o, err := s.wholeOrder(ctx, req.GetOrderId())
	if err != nil {
		return nil, err
	}
	return order(sh.Name(), o), nil
}

func (s *service) ConfirmOrder(ctx context.Context, req *holdfastv1.ConfirmOrderRequest) (*holdfastv1.Order, error) {
	return s.changePlaced(ctx, req.GetOrderId(), ledger.Confirm, req.GetRequestId())
}

func (s *service) CancelOrder(ctx context.Context, req *holdfastv1.CancelOrderRequest) (*holdfastv1.Order, error) {
	return s.changePlaced(ctx, req.GetOrderId(), ledger.Cancel, req.GetRequestId())
}

func (s *service) changePlaced(ctx context.Context, orderID string, action ledger.Action, requestID string) (*holdfastv1.Order, error) {
	sh, o, err := s.wholeOrder(ctx, orderID)
	switch {
	case err != nil:
		return nil, err
	case o.State != ledger.OrderPlaced:
		return nil, notPlaced(orderID)
	}
	return s.changeOrder(ctx, sh, o, action, requestID, nil)
}

func notPlaced(orderID string) error {
	return holdfastv1.Error(codes.FailedPrecondition, holdfastv1.ReasonOrderNotPlaced,
		"order_id: the order is not placed: repeat CreateOrder with its request_id", map[string]string{"order_id": orderID})
}

// changeOrder does the same to all purchases of a placed order, in one transaction. The
// settlement is that of its payment, if it has just been told.
func (s *service) changeOrder(
	ctx context.Context, sh *ledger.Shard, o *ledger.WholeOrder, action ledger.Action, requestID string,
	settlement *ledger.Settlement,
) (*holdfastv1.Order, error) {
	set := make([]ledger.Change, len(o.Purchases))
	for i, p := range o.Purchases {
		set[i] = ledger.Change{
			PurchaseID: p.PurchaseID, Action: action, RequestID: requestID, OrderID: &o.OrderID, Settlement: settlement,
		}
	}
	changed, err := await(ctx, &s.lanes.byShard[sh.Name()].changes, set)
	if err != nil {
		return nil, s.orderStatus(ctx, sh.Name(), holdfastv1.PurchaseID(sh.Name(), o.OrderID), err)
	}
	after := *o
	after.Purchases = make([]*ledger.Purchase, len(changed))
	for i, c := range changed {
		if c.Err != nil {
			return nil, changeStatus(holdfastv1.PurchaseID(sh.Name(), set[i].PurchaseID), c)
		}
		after.Purchases[i] = c.Purchase
	}
	return order(sh.Name(), &after), nil
}

// findOrder finds the shard that an order id names.
func (s *service) findOrder(orderID string) (*ledger.Shard, uuid.UUID, error) {
	region, id, err := s.locate(orderID, holdfastv1.OrderNotFound)
	return s.shard(region), id, err
}

func (s *service) wholeOrder(ctx context.Context, orderID string) (*ledger.Shard, *ledger.WholeOrder, error) {
	sh, id, err := s.findOrder(orderID)
	if err != nil {
		return nil, nil, err
	}
	o, err := sh.WholeOrder(ctx, id)
	if err != nil {
		return nil, nil, s.orderStatus(ctx, sh.Name(), orderID, err)
	}
	return sh, o, nil
}

// orderStatus is what callers see of an error of a shard about an order.
func (s *service) orderStatus(ctx context.Context, shard, orderID string, err error) error {
	switch {
	case errors.Is(err, ledger.ErrNotFound):
		return holdfastv1.OrderNotFound(orderID)
	case errors.Is(err, ledger.ErrNotAuthorized):
		return holdfastv1.Error(codes.FailedPrecondition, holdfastv1.ReasonPaymentPending,
			"order_id: the payment of the order is not authorized: pay it", map[string]string{"order_id": orderID})
	case errors.Is(err, errRequestIDReused), errors.Is(err, ErrDraining), errors.As(err, new(*ShardError)):
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
