package worker

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/google/uuid"
	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/types/known/timestamppb"

	holdfastv1 "github.com/holdfast-io/holdfast/api/holdfast/v1"
	workerv1 "github.com/holdfast-io/holdfast/api/holdfast/worker/v1"
	"github.com/holdfast-io/holdfast/api/link"
	"github.com/holdfast-io/holdfast/api/traces"
	"github.com/holdfast-io/holdfast/worker/ledger"
)

// What follows a purchase needs no tenure, so any worker does it: it gives back or keeps
// what is counted already. Only a confirmation after the expiry takes units again.

func (s *service) ExtendPurchase(ctx context.Context, req *holdfastv1.ExtendPurchaseRequest) (*holdfastv1.Purchase, error) {
	return s.change(ctx, req.GetPurchaseId(), ledger.Change{
		Action: ledger.Extend, RequestID: req.GetRequestId(), ExpireTime: req.GetHold().GetExpireTime().AsTime(), MaxHold: s.maxHold,
	})
}

func (s *service) ConfirmPurchase(ctx context.Context, req *holdfastv1.ConfirmPurchaseRequest) (*holdfastv1.Purchase, error) {
	return s.change(ctx, req.GetPurchaseId(), confirmation(req))
}

func confirmation(req *holdfastv1.ConfirmPurchaseRequest) ledger.Change {
	return ledger.Change{Action: ledger.Confirm, RequestID: req.GetRequestId(), Amount: req.GetAmount()}
}

func (s *service) CancelPurchase(ctx context.Context, req *holdfastv1.CancelPurchaseRequest) (*holdfastv1.Purchase, error) {
	return s.change(ctx, req.GetPurchaseId(), ledger.Change{Action: ledger.Cancel, RequestID: req.GetRequestId()})
}

func (s *service) ReturnPurchase(ctx context.Context, req *holdfastv1.ReturnPurchaseRequest) (*holdfastv1.Purchase, error) {
	return s.change(ctx, req.GetPurchaseId(), ledger.Change{
		Action: ledger.Return, RequestID: req.GetRequestId(), Amount: req.GetAmount(),
	})
}

// change changes one purchase in its shard.
func (s *service) change(ctx context.Context, purchaseID string, c ledger.Change) (*holdfastv1.Purchase, error) {
	l, id, err := s.find(purchaseID)
	if err != nil {
		return nil, err
	}
	c.PurchaseID = id
	changed, err := await(ctx, &l.changes, []ledger.Change{c})
	switch {
	case err != nil:
		return nil, s.status(ctx, "", err)
	case changed[0].Err != nil:
		return nil, changeStatus(purchaseID, changed[0])
	}
	return purchase(l.shard.Name(), changed[0].Purchase), nil
}

// find finds the lane to the shard that a purchase id names.
func (s *service) find(purchaseID string) (*lane, uuid.UUID, error) {
	region, id, err := s.locate(purchaseID, holdfastv1.PurchaseNotFound)
	return s.lanes.byShard[region], id, err
}

// locate finds the shard and the row that an id names. Coordinators have found its region:
// if it is not known here, this worker has yet to hear of it, and another one is asked.
func (s *service) locate(id string, notFound func(string) error) (region string, row uuid.UUID, err error) {
	region, row, ok := holdfastv1.ParseID(id)
	switch {
	case !ok:
		return "", uuid.Nil, notFound(id)
	case !s.topology.Has(region):
		return "", uuid.Nil, unknownRegion(region, s.topology)
	}
	return region, row, nil
}

// reasons tells in which state a purchase was that could not be changed.
var reasons = map[ledger.State]string{
	ledger.Held:      holdfastv1.ReasonPurchaseHeld,
	ledger.Confirmed: holdfastv1.ReasonPurchaseConfirmed,
	ledger.Cancelled: holdfastv1.ReasonPurchaseCancelled,
	ledger.Expired:   holdfastv1.ReasonHoldExpired,
	ledger.Returned:  holdfastv1.ReasonPurchaseReturned,
}

// changeStatus is what callers see of a change that was refused.
func changeStatus(purchaseID string, c ledger.Changed) error {
	var (
		state  *ledger.StateError
		amount *ledger.AmountError
		hold   *ledger.HoldError

		metadata = map[string]string{"purchase_id": purchaseID}
		refuse   = func(reason, field string) error {
			return holdfastv1.Error(codes.FailedPrecondition, reason, fmt.Sprintf("%s: %v", field, c.Err), metadata)
		}
	)
	switch {
	case errors.Is(c.Err, ledger.ErrNotFound):
		return holdfastv1.PurchaseNotFound(purchaseID)
	case errors.Is(c.Err, ledger.ErrRequestIDReused):
		return holdfastv1.FieldError(holdfastv1.ReasonRequestIDReused, "request_id", c.Err.Error())
	case errors.Is(c.Err, errPastHold):
		return pastHold()
	case errors.Is(c.Err, ledger.ErrToReadmit):
		metadata["product_id"] = c.Purchase.ProductID
		return refuse(holdfastv1.ReasonToReadmit, "purchase_id")
	case errors.Is(c.Err, ledger.ErrOfOrder):
		return refuse(holdfastv1.ReasonPurchaseInOrder, "purchase_id")
	case errors.As(c.Err, &state):
		metadata["action"] = string(state.Action)
		return refuse(reasons[state.State], "purchase_id")
	case errors.As(c.Err, &amount):
		metadata["has"] = strconv.FormatInt(amount.Has, 10)
		return refuse(holdfastv1.ReasonAmountExceeded, "amount")
	case errors.As(c.Err, &hold):
		return holdTooLong(hold, metadata)
	}
	return c.Err
}

func holdTooLong(e *ledger.HoldError, metadata map[string]string) error {
	metadata["latest_expire_time"] = e.Latest.UTC().Format(time.RFC3339Nano)
	return holdfastv1.Error(codes.InvalidArgument, holdfastv1.ReasonHoldTooLong, fmt.Sprintf("hold: %v", e), metadata,
		&errdetails.BadRequest{FieldViolations: []*errdetails.BadRequest_FieldViolation{
			{Field: "hold", Description: e.Error(), Reason: holdfastv1.ReasonHoldTooLong},
		}})
}

// readmit confirms an expired purchase in its product's tenure. What it needs to know of
// the purchase it reads before; that the purchase is still expired, the shard makes sure of.
func (s *service) readmit(ctx context.Context, req *workerv1.ReadmitRequest) (*holdfastv1.Purchase, error) {
	c := confirmation(req.GetConfirmation())
	purchaseID := req.GetConfirmation().GetPurchaseId()
	l, id, err := s.find(purchaseID)
	if err != nil {
		return nil, err
	}
	expired, err := s.GetPurchase(ctx, &holdfastv1.GetPurchaseRequest{PurchaseId: purchaseID})
	if err != nil {
		return nil, err
	}
	if c.Amount > expired.GetAmount() {
		return nil, changeStatus(purchaseID, ledger.Changed{Err: &ledger.AmountError{Action: c.Action, Has: expired.GetAmount()}})
	}
	amount := c.Amount
	if amount == 0 {
		amount = expired.GetAmount()
	}
	_, err = s.take(ctx, Purchase{
		ProductID: expired.GetProductId(), Region: l.shard.Name(), Amount: amount, CustomerID: expired.GetCustomerId(),
		RequestID: specialKey("confirm", purchaseID, c.RequestID),
		special: func(ctx context.Context, sh shard, f ledger.Fence) (ledger.Outcome, error) {
			return sh.Readmit(ctx, ledger.Readmission{Fence: f, PurchaseID: id, RequestID: c.RequestID, Asked: c.Amount, Amount: amount})
		},
	})
	stock := new(InsufficientStockError)
	if err != nil && !errors.Is(err, errTakenBefore) && !errors.As(err, &stock) {
		return nil, s.status(ctx, expired.GetProductId(), err)
	}
	// Done, now or before, or not to be done: the purchase itself tells what is to be said.
	confirmed, err := s.ConfirmPurchase(ctx, req.GetConfirmation())
	if holdfastv1.Reason(err) == holdfastv1.ReasonToReadmit {
		err = changeStatus(purchaseID, ledger.Changed{Err: &ledger.StateError{Action: ledger.Confirm, State: ledger.Expired}})
	}
	return confirmed, err
}

// CreateDelivery stores a delivery in the first shard of the topology, which is always the
// same one. What was found missing is taken in the product's tenure, like a purchase.
func (s *service) CreateDelivery(ctx context.Context, req *holdfastv1.CreateDeliveryRequest) (*holdfastv1.Delivery, error) {
	stored, err := s.deliver(ctx, ledger.Delivery{
		DeliveryID: uuid.Must(uuid.NewV7()), ProductID: req.GetProductId(), RequestID: req.GetRequestId(), Amount: req.GetAmount(),
	})
	if err == nil && stored.Amount != req.GetAmount() {
		err = errRequestIDReused
	}
	if err != nil {
		return nil, s.status(ctx, req.GetProductId(), err)
	}
	return delivery(stored), nil
}

func (s *service) deliver(ctx context.Context, d ledger.Delivery) (stored *ledger.Delivery, err error) {
	sh := s.shards[0]
	if d.Amount > 0 {
		stored, err = sh.Deliver(ctx, d)
	} else {
		// A repetition is found before the units are looked for: they need not be there again.
		stored, err = sh.Delivery(ctx, d.ProductID, d.RequestID)
		if errors.Is(err, ledger.ErrNotFound) {
			return s.takeAway(ctx, d)
		}
	}
	switch {
	case errors.Is(err, ledger.ErrNotFound):
		return nil, ErrProductNotFound
	case err != nil:
		return nil, &ShardError{Shard: sh.Name(), cause: err}
	}
	return stored, nil
}

func (s *service) takeAway(ctx context.Context, d ledger.Delivery) (*ledger.Delivery, error) {
	sh := s.shards[0]
	_, err := s.take(ctx, Purchase{
		ProductID: d.ProductID, Region: sh.Name(), Amount: -d.Amount, RequestID: specialKey("deliver", d.RequestID),
		special: func(ctx context.Context, sh shard, f ledger.Fence) (ledger.Outcome, error) {
			return sh.TakeAway(ctx, f, &d)
		},
	})
	if err != nil && !errors.Is(err, errTakenBefore) {
		return nil, err
	}
	stored, err := sh.Delivery(ctx, d.ProductID, d.RequestID)
	if err != nil {
		return nil, &ShardError{Shard: sh.Name(), cause: err}
	}
	return stored, nil
}

// specialKey stands for a request id where it cannot be that of a purchase: those hold no
// control characters.
func specialKey(parts ...string) string { return "\x00" + strings.Join(parts, "\x00") }

// take has units taken in a product's tenure, and waits for the outcome.
func (s *service) take(ctx context.Context, p Purchase) (*ledger.Purchase, error) {
	if deadline, limited := ctx.Deadline(); limited {
		p.Until = deadline
	}
	p.From = link.ToldRegion(ctx)
	p.span = traces.Recorded(ctx)
	b := &taker{ctx: ctx, done: make(chan struct{})}
	s.tenures.sell(p, b)
	select {
	case <-b.done:
		return b.stored, b.err
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// taker is a buyer that waits.
type taker struct {
	ctx    context.Context
	done   chan struct{} // closed when the others are set
	stored *ledger.Purchase
	err    error
}

func (b *taker) Context() context.Context { return b.ctx }

func (b *taker) told(stored *ledger.Purchase, err error) {
	b.stored, b.err = stored, err
	close(b.done)
}

func delivery(d *ledger.Delivery) *holdfastv1.Delivery {
	return &holdfastv1.Delivery{
		DeliveryId: d.DeliveryID.String(), ProductId: d.ProductID, Amount: d.Amount, RequestId: d.RequestID,
		CreateTime: timestamppb.New(d.CreateTime),
	}
}
