package coordinator

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"

	holdfastv1 "github.com/holdfast-io/holdfast/api/holdfast/v1"
	workerv1 "github.com/holdfast-io/holdfast/api/holdfast/worker/v1"
)

// CreateOrder holds the lines one after the other, in the order of their products: of two
// orders that want the last units of the same products, one gets all of them. No line waits
// for another order's, so none can wait in a circle.
func (s *service) CreateOrder(ctx context.Context, req *holdfastv1.CreateOrderRequest) (*holdfastv1.Order, error) {
	if err := s.check(req); err != nil {
		return nil, err
	}
	if err := merge(req); err != nil {
		return nil, err
	}
	until := s.until(ctx)
	opening, err := s.completeOrder(ctx, until, req)
	if err != nil {
		return nil, err
	}
	return s.place(ctx, until, req, opening)
}

// sellForMoney sells an order of one line. The worker that sells the product does all of it.
func (s *service) sellForMoney(
	ctx context.Context, req *holdfastv1.CreatePurchaseRequest,
) (purchase *holdfastv1.Purchase, err error) {
	defer func() { s.router.metrics.decided(err) }()
	o := &holdfastv1.CreateOrderRequest{
		Lines: []*holdfastv1.OrderLine{{
			ProductId: req.GetProductId(), Amount: req.GetAmount(), UnitPrice: req.GetUnitPrice(),
		}},
		CustomerId: req.GetCustomerId(), Region: req.GetRegion(), PaymentMethod: req.GetPaymentMethod(),
		RequestId: req.GetRequestId(), Hold: req.GetHold(),
	}
	if err := checkTotal(o); err != nil {
		return nil, err
	}
	until := s.until(ctx)
	if _, err := s.completeOrder(ctx, until, o); err != nil {
		return nil, err
	}
	finish := req.GetHold() == nil
	var order *holdfastv1.Order
	err = s.router.call(ctx, until, req.GetProductId(), &way{}, func(p *peer, holdUntil time.Time) (err error) {
		attempt := holdUntil
		if finish {
			attempt = until // the rest of the time is the provider's
		}
		ctx, cancel := p.attempt(ctx, attempt)
		defer cancel()
		order, err = workerv1.NewWorkerServiceClient(p.conn).SellForMoney(ctx, &workerv1.SellForMoneyRequest{
			Order: o, Finish: finish, HoldUntil: timestamppb.New(holdUntil),
		})
		return err
	})
	switch {
	case err != nil:
		return nil, errorOfLine(err)
	case len(order.GetPurchases()) != 1:
		return nil, status.Error(codes.Internal, "internal error") // an order of one line has one
	}
	return order.GetPurchases()[0], nil
}

// errorOfLine is what the only line of an order that has failed was told.
func errorOfLine(err error) error {
	for _, detail := range status.Convert(err).Details() {
		if failure, ok := detail.(*holdfastv1.OrderFailure); ok && len(failure.GetLines()) == 1 {
			return status.ErrorProto(failure.GetLines()[0].GetStatus())
		}
	}
	return err
}

// merge makes one line of those of the same product, and orders them by product.
func merge(req *holdfastv1.CreateOrderRequest) error {
	byProduct := map[string]*holdfastv1.OrderLine{}
	var merged []*holdfastv1.OrderLine
	currency := ""
	for i, line := range req.GetLines() {
		price := line.GetUnitPrice()
		field := fmt.Sprintf("lines[%d].unit_price", i)
		switch code := price.GetCurrencyCode(); {
		case price == nil:
		case currency != "" && code != currency:
			return holdfastv1.FieldError(holdfastv1.ReasonInvalidField, field, "must be of the same currency as the other lines")
		default:
			currency = code
		}
		first := byProduct[line.GetProductId()]
		switch {
		case first == nil:
			byProduct[line.GetProductId()] = line
			merged = append(merged, line)
		case !proto.Equal(first.GetUnitPrice(), price):
			return holdfastv1.FieldError(holdfastv1.ReasonInvalidField, field, "must be that of the other line of the same product")
		case first.GetAmount()+line.GetAmount() > maxAmount:
			return holdfastv1.FieldError(holdfastv1.ReasonInvalidField, fmt.Sprintf("lines[%d].amount", i), "is too much with that of the other line")
		default:
			first.Amount += line.GetAmount()
		}
	}
	slices.SortFunc(merged, func(a, b *holdfastv1.OrderLine) int { return cmp.Compare(a.GetProductId(), b.GetProductId()) })
	req.Lines = merged
	return checkTotal(req)
}

// maxTotal is what an order may cost at most, in the smallest unit of its currency.
const maxTotal = 1 << 53

func checkTotal(req *holdfastv1.CreateOrderRequest) error {
	total := 0.0
	for _, line := range req.GetLines() {
		total += float64(line.GetAmount()) * float64(line.GetUnitPrice().GetMinorUnits())
	}
	switch {
	case total > maxTotal:
		return holdfastv1.FieldError(holdfastv1.ReasonInvalidField, "lines", "cost more than an order may")
	case total > 0 && req.GetPaymentMethod() == "":
		return holdfastv1.FieldError(holdfastv1.ReasonInvalidField, "payment_method", "is required for lines with a price")
	}
	return nil
}

func isPaid(req *holdfastv1.CreateOrderRequest) bool {
	return slices.ContainsFunc(req.GetLines(), func(line *holdfastv1.OrderLine) bool {
		return line.GetUnitPrice().GetMinorUnits() > 0
	})
}

// completeOrder fills in what the caller left out, before the order is sent for the first
// time: all of it is held first. It returns the order as it was asked for.
func (s *service) completeOrder(
	ctx context.Context, until time.Time, req *holdfastv1.CreateOrderRequest,
) (asked *holdfastv1.CreateOrderRequest, err error) {
	p := &holdfastv1.CreatePurchaseRequest{Region: req.GetRegion(), CustomerId: req.GetCustomerId(), RequestId: req.GetRequestId()}
	if err := s.complete(ctx, until, p, ""); err != nil {
		return nil, err
	}
	req.Region, req.RequestId = p.GetRegion(), p.GetRequestId()
	asked = proto.CloneOf(req)
	if req.GetHold() == nil {
		req.Hold = &holdfastv1.Hold{}
	}
	return asked, s.fillHold(req.GetHold(), "")
}

// place stores the order, holds its lines, and has it finished unless it is only to be held.
// What opens it is the order as it was asked for. Whoever closes it says what became of it:
// a repetition is told no other outcome than the first call.
func (s *service) place(
	ctx context.Context, until time.Time, req, opening *holdfastv1.CreateOrderRequest,
) (*holdfastv1.Order, error) {
	opened, err := ofWorker(ctx, s, until, req.GetCustomerId(),
		&workerv1.OpenOrderRequest{Order: opening}, workerv1.WorkerServiceClient.OpenOrder)
	if err != nil {
		return nil, err
	}
	closing := &workerv1.CloseOrderRequest{
		OrderId: opened.GetOrderId(), Failure: &holdfastv1.OrderFailure{}, Finish: opening.GetHold() == nil,
	}
	for _, line := range req.GetLines() {
		if !opened.GetOpen() {
			break
		}
		err := s.holdLine(ctx, until, opened.GetOrderId(), req, line)
		if holdfastv1.IsTransient(err) {
			return nil, err // the order stays open, and a repetition goes on here
		}
		if err != nil {
			closing.Failure.Lines = append(closing.Failure.Lines, &holdfastv1.LineFailure{
				ProductId: line.GetProductId(), Status: status.Convert(err).Proto(),
			})
		}
	}
	if isPaid(req) && closing.GetFinish() {
		return ofProvider(ctx, s, until, opened.GetOrderId(), closing, workerv1.NewWorkerServiceClient, workerv1.WorkerServiceClient.CloseOrder)
	}
	return ofWorker(ctx, s, until, req.GetCustomerId(), closing, workerv1.WorkerServiceClient.CloseOrder)
}

// holdLine holds one line. A line that was held before and is not any more cannot be had.
func (s *service) holdLine(
	ctx context.Context, until time.Time, orderID string, req *holdfastv1.CreateOrderRequest, line *holdfastv1.OrderLine,
) error {
	held, err := ofWorker(ctx, s, until, line.GetProductId(), &workerv1.HoldLineRequest{
		OrderId: orderID, UnitPrice: line.GetUnitPrice(), Line: &holdfastv1.CreatePurchaseRequest{
			ProductId: line.GetProductId(), Amount: line.GetAmount(), CustomerId: req.GetCustomerId(), Region: req.GetRegion(),
			PaymentMethod: req.GetPaymentMethod(), RequestId: req.GetRequestId(), Hold: req.GetHold(),
		},
	}, workerv1.WorkerServiceClient.HoldLine)
	if err == nil && held.GetState() != holdfastv1.PurchaseState_PURCHASE_STATE_HELD {
		err = holdfastv1.Error(codes.FailedPrecondition, holdfastv1.ReasonHoldExpired,
			"the line is not held any more", map[string]string{"purchase_id": held.GetPurchaseId()})
	}
	s.router.metrics.decided(err)
	return err
}

func (s *service) GetOrder(ctx context.Context, req *holdfastv1.GetOrderRequest) (*holdfastv1.Order, error) {
	return ask(ctx, s, req.GetOrderId(), req, holdfastv1.NewOrderServiceClient, holdfastv1.OrderServiceClient.GetOrder)
}

func (s *service) PayOrder(ctx context.Context, req *holdfastv1.PayOrderRequest) (*holdfastv1.Order, error) {
	if err := s.check(req); err != nil {
		return nil, err
	}
	until := s.until(ctx)
	if err := s.router.findID(ctx, until, req); err != nil {
		return nil, err
	}
	return ofProvider(ctx, s, until, req.GetOrderId(), req, holdfastv1.NewOrderServiceClient, holdfastv1.OrderServiceClient.PayOrder)
}

// ofProvider has a worker answer what a provider of payments is asked for. No attempt is
// shorter than the caller's patience: the time is the provider's.
func ofProvider[Client, Req any](
	ctx context.Context, s *service, until time.Time, key string, req Req, client func(grpc.ClientConnInterface) Client,
	method func(Client, context.Context, Req, ...grpc.CallOption) (*holdfastv1.Order, error),
) (order *holdfastv1.Order, err error) {
	err = s.router.call(ctx, until, key, &way{}, func(p *peer, _ time.Time) (err error) {
		ctx, cancel := p.attempt(ctx, until)
		defer cancel()
		order, err = method(client(p.conn), ctx, req)
		return err
	})
	return order, err
}

func (s *service) ConfirmOrder(ctx context.Context, req *holdfastv1.ConfirmOrderRequest) (*holdfastv1.Order, error) {
	fillRequestID(&req.RequestId)
	return ask(ctx, s, req.GetOrderId(), req, holdfastv1.NewOrderServiceClient, holdfastv1.OrderServiceClient.ConfirmOrder)
}

func (s *service) CancelOrder(ctx context.Context, req *holdfastv1.CancelOrderRequest) (*holdfastv1.Order, error) {
	fillRequestID(&req.RequestId)
	return ask(ctx, s, req.GetOrderId(), req, holdfastv1.NewOrderServiceClient, holdfastv1.OrderServiceClient.CancelOrder)
}

// ofWorker has a worker answer what is not of the public contract.
func ofWorker[Req proto.Message, Resp any](
	ctx context.Context, s *service, until time.Time, key string, req Req,
	method func(workerv1.WorkerServiceClient, context.Context, Req, ...grpc.CallOption) (Resp, error),
) (resp Resp, err error) {
	err = s.router.call(ctx, until, key, &way{}, func(p *peer, until time.Time) (err error) {
		ctx, cancel := p.attempt(ctx, until)
		defer cancel()
		resp, err = method(workerv1.NewWorkerServiceClient(p.conn), ctx, req)
		return err
	})
	return resp, err
}
