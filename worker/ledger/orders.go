package ledger

import (
	"bytes"
	"context"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
)

// Order is what a customer asked for in one go.
type Order struct {
	OrderID       uuid.UUID
	RequestID     string
	CustomerID    string
	PaymentMethod string
	Currency      string // of the prices; empty when there are none
	Content       []byte // what was asked for
	State         OrderState
	Failure       []byte // what callers are told of one that has failed
	CreateTime    time.Time
}

// WholeOrder is an order with its purchases, by product, and its payment, nil when none has
// begun.
type WholeOrder struct {
	*Order
	Purchases []*Purchase
	Payment   *Payment
}

// OrderState is how far an order is. How far its purchases are, they tell themselves.
type OrderState string

// The states of an order. The last two are for good.
const (
	OrderOpen   OrderState = "open"   // its lines are being held
	OrderPlaced OrderState = "placed" // all of them were
	OrderFailed OrderState = "failed" // not all could be; those that were are given back
)

const (
	orderColumns = ` order_id, request_id, customer_id, payment_method, currency, content, state, failure, create_time`

	insertOrder = `
INSERT INTO orders (order_id, request_id, customer_id, payment_method, currency, content, state, failure)
VALUES (@order_id, @request_id, @customer_id, @payment_method, @currency, @content, @state, @failure)
    ON CONFLICT (order_id) DO UPDATE SET state = EXCLUDED.state, failure = EXCLUDED.failure
 WHERE orders.state = 'open' AND EXCLUDED.state <> 'open' AND orders.content = EXCLUDED.content`

	// The order is stored before its line is locked, since the line is looked for only when
	// it was. The line is locked for the reason that insertPayment has.
	placeNewOrder = `
WITH placed AS (
    INSERT INTO orders (order_id, request_id, customer_id, payment_method, currency, content, state)
    VALUES (@order_id, @request_id, @customer_id, @payment_method, @currency, @content, 'placed')
        ON CONFLICT (order_id) DO NOTHING RETURNING create_time
), line AS (
    SELECT` + purchaseColumns + `
      FROM purchases p WHERE p.order_id = @order_id AND EXISTS (SELECT FROM placed) FOR UPDATE
), begun AS (
    INSERT INTO payments (order_id, payment_method, currency, minor_units)
    SELECT @order_id, @payment_method, @currency, line.amount * line.unit_price
      FROM line
     WHERE @to_be_paid AND line.state = 'held' AND line.expire_time > clock_timestamp() AND line.unit_price > 0
    RETURNING create_time
)
SELECT placed.create_time, begun.create_time, line.* FROM placed CROSS JOIN line LEFT JOIN begun ON true`

	selectOrder = `SELECT` + orderColumns + ` FROM orders WHERE order_id = @order_id`

	closeOrder = `
UPDATE orders SET state = @state, failure = @failure WHERE order_id = @order_id AND state = 'open'`

	selectPurchasesOfOrder = `SELECT` + purchaseColumns + `
  FROM purchases p WHERE p.order_id = @order_id ORDER BY p.product_id`
)

// OpenOrder stores an order, unless one with its id is stored, and returns the one that is.
// It returns ErrRequestIDReused when that one is of another content. It may be repeated.
func (s *Shard) OpenOrder(ctx context.Context, o Order) (*Order, error) {
	batch := &pgx.Batch{}
	o.State = OrderOpen
	batch.Queue(insertOrder, o.columns())
	stored, err := s.sendForOrder(ctx, batch, o.OrderID)
	return stored, s.readError("open order", o.check(stored, err))
}

// PlaceOrder stores an order of one line that is closed from the start, placed or failed as
// it says, because its line is never another one. Otherwise it is OpenOrder and CloseOrder
// in one.
func (s *Shard) PlaceOrder(ctx context.Context, o Order, toBePaid bool) (*WholeOrder, error) {
	if o.State == OrderPlaced {
		if whole, err := s.placeNew(ctx, o, toBePaid); whole != nil || err != nil {
			return whole, s.readError("place order", err)
		}
	}
	batch := &pgx.Batch{}
	batch.Queue(insertOrder, o.columns())
	if toBePaid {
		batch.Queue(insertPayment, pgx.NamedArgs{"order_id": o.OrderID})
	}
	stored, err := s.sendForWhole(ctx, batch, o.OrderID)
	return stored, s.readError("place order", o.check(stored.Order, err))
}

// placeNew stores a placed order of one line in one statement. It returns nil when one with
// its id was stored before, as what the caller has to read.
func (s *Shard) placeNew(ctx context.Context, o Order, toBePaid bool) (*WholeOrder, error) {
	args := o.columns()
	args["to_be_paid"] = toBePaid
	rows, _ := s.pool.Query(ctx, placeNewOrder, args) // its error is that of the rows
	placed, err := pgx.CollectRows(rows, pgx.RowToAddrOfStructByPos[struct {
		PlaceTime time.Time
		BeginTime *time.Time // of the payment, if that has begun
		Purchase
	}])
	if err != nil || len(placed) == 0 {
		return nil, err
	}
	line := placed[0].Purchase
	o.CreateTime = placed[0].PlaceTime
	whole := &WholeOrder{Order: &o, Purchases: []*Purchase{&line}}
	if begun := placed[0].BeginTime; begun != nil {
		whole.Payment = &Payment{
			OrderID: o.OrderID, PaymentMethod: o.PaymentMethod, Currency: o.Currency, MinorUnits: line.Amount * *line.UnitPrice,
			State: Authorizing, CreateTime: *begun,
		}
	}
	return whole, nil
}

func (o *Order) columns() pgx.NamedArgs {
	return pgx.NamedArgs{
		"order_id": o.OrderID, "request_id": o.RequestID, "customer_id": o.CustomerID, "payment_method": o.PaymentMethod,
		"currency": o.Currency, "content": o.Content, "state": o.State, "failure": o.Failure,
	}
}

// check tells that the order which is stored is another one.
func (o *Order) check(stored *Order, err error) error {
	if err == nil && !bytes.Equal(stored.Content, o.Content) {
		return ErrRequestIDReused
	}
	return err
}

// CloseOrder says what became of an open order. It returns the order as it is then: somebody
// else may have closed it otherwise before. When it is to be paid, its payment begins with
// it, as BeginPayment says. It may be repeated.
func (s *Shard) CloseOrder(
	ctx context.Context, id uuid.UUID, state OrderState, failure []byte, toBePaid bool,
) (*WholeOrder, error) {
	batch := &pgx.Batch{}
	batch.Queue(closeOrder, pgx.NamedArgs{"order_id": id, "state": state, "failure": failure})
	if toBePaid {
		batch.Queue(insertPayment, pgx.NamedArgs{"order_id": id})
	}
	stored, err := s.sendForWhole(ctx, batch, id)
	return stored, s.readError("close order", err)
}

// WholeOrder reads an order. It returns ErrNotFound when there is none.
func (s *Shard) WholeOrder(ctx context.Context, id uuid.UUID) (*WholeOrder, error) {
	stored, err := s.sendForWhole(ctx, &pgx.Batch{}, id)
	return stored, s.readError("read order", err)
}

// sendForOrder sends a batch and reads an order after it.
func (s *Shard) sendForOrder(ctx context.Context, batch *pgx.Batch, id uuid.UUID) (stored *Order, err error) {
	batch.Queue(selectOrder, pgx.NamedArgs{"order_id": id}).Query(func(rows pgx.Rows) (err error) {
		stored, err = pgx.CollectExactlyOneRow(rows, pgx.RowToAddrOfStructByPos[Order])
		return err
	})
	err = s.pool.SendBatch(ctx, batch).Close()
	return stored, err
}

// sendForWhole sends a batch, and reads an order and all that belongs to it after it.
func (s *Shard) sendForWhole(ctx context.Context, batch *pgx.Batch, id uuid.UUID) (*WholeOrder, error) {
	whole, args := &WholeOrder{}, pgx.NamedArgs{"order_id": id}
	batch.Queue(selectPurchasesOfOrder, args).Query(func(rows pgx.Rows) (err error) {
		whole.Purchases, err = pgx.CollectRows(rows, pgx.RowToAddrOfStructByPos[Purchase])
		return err
	})
	batch.Queue(selectPayment, args).Query(func(rows pgx.Rows) error {
		payments, err := pgx.CollectRows(rows, pgx.RowToAddrOfStructByPos[Payment])
		if len(payments) > 0 {
			whole.Payment = payments[0]
		}
		return err
	})
	stored, err := s.sendForOrder(ctx, batch, id)
	whole.Order = stored
	return whole, err
}
