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
	Content       []byte // what was asked for
	State         OrderState
	Failure       []byte // what callers are told of one that has failed
	CreateTime    time.Time
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
	orderColumns = ` order_id, request_id, customer_id, payment_method, content, state, failure, create_time`

	insertOrder = `
INSERT INTO orders (order_id, request_id, customer_id, payment_method, content)
VALUES (@order_id, @request_id, @customer_id, @payment_method, @content) ON CONFLICT (order_id) DO NOTHING`

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
	args := pgx.NamedArgs{
		"order_id": o.OrderID, "request_id": o.RequestID, "customer_id": o.CustomerID,
		"payment_method": o.PaymentMethod, "content": o.Content,
	}
	batch.Queue(insertOrder, args)
	stored, err := s.sendForOrder(ctx, batch, o.OrderID)
	if err == nil && !bytes.Equal(stored.Content, o.Content) {
		err = ErrRequestIDReused
	}
	return stored, s.readError("open order", err)
}

// CloseOrder says what became of an open order. It returns the order as it is then: somebody
// else may have closed it otherwise before. It may be repeated.
func (s *Shard) CloseOrder(ctx context.Context, id uuid.UUID, state OrderState, failure []byte) (*Order, error) {
	batch := &pgx.Batch{}
	batch.Queue(closeOrder, pgx.NamedArgs{"order_id": id, "state": state, "failure": failure})
	stored, err := s.sendForOrder(ctx, batch, id)
	return stored, s.readError("close order", err)
}

// Order reads an order. It returns ErrNotFound when there is none.
func (s *Shard) Order(ctx context.Context, id uuid.UUID) (*Order, error) {
	stored, err := s.sendForOrder(ctx, &pgx.Batch{}, id)
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

// PurchasesOfOrder reads the purchases of an order, by product.
func (s *Shard) PurchasesOfOrder(ctx context.Context, id uuid.UUID) ([]*Purchase, error) {
	rows, _ := s.pool.Query(ctx, selectPurchasesOfOrder, pgx.NamedArgs{"order_id": id})
	purchases, err := pgx.CollectRows(rows, pgx.RowToAddrOfStructByPos[Purchase])
	return purchases, s.readError("read purchases of order", err)
}

// Payment is the payment of an order.
type Payment struct {
	OrderID       uuid.UUID
	PaymentMethod string
	Currency      string
	MinorUnits    int64
	State         PaymentState
	Reference     string // the provider's
	Decline       string // why it was declined
	Captured      int64
	Refunded      int64
	CreateTime    time.Time
}

// PaymentState is how far a payment is.
type PaymentState string

// The states of a payment.
const (
	Authorizing PaymentState = "authorizing" // the provider is being asked, or was
	Authorized  PaymentState = "authorized"
	Declined    PaymentState = "declined"
	Voided      PaymentState = "voided"
	Captured    PaymentState = "captured" // refunded or not
)

const (
	paymentColumns = ` order_id, payment_method, currency, minor_units, state, reference, decline, captured, refunded, create_time`

	// The purchases are locked: none of them expires before the payment is there, which is
	// what has the trigger let it go.
	insertPayment = `
WITH lines AS (
    SELECT p.amount * p.unit_price AS price FROM purchases p
     WHERE p.order_id = @order_id AND p.state = 'held' AND p.expire_time > clock_timestamp()
     ORDER BY p.purchase_id FOR UPDATE
)
INSERT INTO payments (order_id, payment_method, currency, minor_units)
SELECT @order_id, @payment_method, @currency, sum(price)::bigint FROM lines HAVING count(*) = @lines
    ON CONFLICT (order_id) DO NOTHING`

	selectPayment = `SELECT` + paymentColumns + ` FROM payments WHERE order_id = @order_id`

	settlePayment = `
UPDATE payments SET state = @state, reference = @reference, decline = @decline
 WHERE order_id = @order_id AND state = 'authorizing'`
)

// BeginPayment stores the payment of an order whose purchases, so many, are all held, before
// its provider is asked. From then on whatever ends the holds has the payment let go. It
// returns the payment that is stored; ErrNotFound when there is none, because a hold has
// ended. It may be repeated.
func (s *Shard) BeginPayment(ctx context.Context, orderID uuid.UUID, lines int, method, currency string) (*Payment, error) {
	batch := &pgx.Batch{}
	batch.Queue(insertPayment, pgx.NamedArgs{
		"order_id": orderID, "lines": lines, "payment_method": method, "currency": currency,
	})
	p, err := s.sendForPayment(ctx, batch, orderID)
	return p, s.readError("begin payment", err)
}

// SettlePayment stores what the provider said of a payment. It returns the payment as it is
// then: it may have been let go meanwhile.
func (s *Shard) SettlePayment(
	ctx context.Context, orderID uuid.UUID, state PaymentState, reference, decline string,
) (*Payment, error) {
	batch := &pgx.Batch{}
	batch.Queue(settlePayment, pgx.NamedArgs{
		"order_id": orderID, "state": state, "reference": reference, "decline": decline,
	})
	p, err := s.sendForPayment(ctx, batch, orderID)
	return p, s.readError("settle payment", err)
}

// Payment reads the payment of an order. It returns ErrNotFound when there is none.
func (s *Shard) Payment(ctx context.Context, orderID uuid.UUID) (*Payment, error) {
	p, err := s.sendForPayment(ctx, &pgx.Batch{}, orderID)
	return p, s.readError("read payment", err)
}

func (s *Shard) sendForPayment(ctx context.Context, batch *pgx.Batch, orderID uuid.UUID) (stored *Payment, err error) {
	batch.Queue(selectPayment, pgx.NamedArgs{"order_id": orderID}).Query(func(rows pgx.Rows) (err error) {
		stored, err = pgx.CollectExactlyOneRow(rows, pgx.RowToAddrOfStructByPos[Payment])
		return err
	})
	err = s.pool.SendBatch(ctx, batch).Close()
	return stored, err
}

// Task is what a provider has to be asked for because of what was committed.
type Task struct {
	TaskID     int64
	Action     string // TaskCapture, TaskVoid or TaskRefund
	Key        string // names it within the payment
	MinorUnits int64
	Attempts   int
	Payment    Payment `db:"-"`
}

// What a provider may have to be asked for.
const (
	TaskCapture = "capture"
	TaskVoid    = "void"
	TaskRefund  = "refund"
)

const (
	selectDueTasks = `
SELECT t.task_id, t.action, t.key, t.minor_units, t.attempts,
       p.order_id, p.payment_method, p.currency, p.minor_units, p.state, p.reference, p.decline, p.captured, p.refunded, p.create_time
  FROM payment_tasks t JOIN payments p ON p.order_id = ANY (ARRAY[t.order_id])
 WHERE t.state = 'pending' AND t.next_time <= now()
   AND NOT EXISTS (SELECT FROM payment_tasks e
                    WHERE e.order_id = ANY (ARRAY[t.order_id]) AND e.state = 'pending' AND e.task_id < t.task_id)
 ORDER BY t.next_time LIMIT @limit`

	endTask = `
WITH ended AS (
    UPDATE payment_tasks SET state = 'done', end_time = now(), attempts = attempts + 1
     WHERE task_id = @task_id AND state = 'pending' RETURNING order_id, action, minor_units
)
UPDATE payments p
   SET state    = CASE ended.action WHEN 'void' THEN (CASE p.state WHEN 'declined' THEN 'declined' ELSE 'voided' END)
                                    ELSE 'captured' END,
       captured = p.captured + CASE ended.action WHEN 'capture' THEN ended.minor_units ELSE 0 END,
       refunded = p.refunded + CASE ended.action WHEN 'refund' THEN ended.minor_units ELSE 0 END
  FROM ended WHERE p.order_id = ANY (ARRAY[ended.order_id])`

	failTask = `
UPDATE payment_tasks
   SET attempts = attempts + 1, last_error = @error, next_time = now() + @pause::interval,
       state = CASE WHEN @dead THEN 'dead' ELSE state END, end_time = CASE WHEN @dead THEN now() END
 WHERE task_id = @task_id AND state = 'pending'`
)

// DueTasks reads tasks that are to be done now, of each payment the oldest only.
func (s *Shard) DueTasks(ctx context.Context, limit int) ([]Task, error) {
	rows, _ := s.pool.Query(ctx, selectDueTasks, pgx.NamedArgs{"limit": limit})
	tasks, err := pgx.CollectRows(rows, func(row pgx.CollectableRow) (t Task, err error) {
		p := &t.Payment
		err = row.Scan(&t.TaskID, &t.Action, &t.Key, &t.MinorUnits, &t.Attempts, &p.OrderID, &p.PaymentMethod, &p.Currency,
			&p.MinorUnits, &p.State, &p.Reference, &p.Decline, &p.Captured, &p.Refunded, &p.CreateTime)
		return t, err
	})
	return tasks, s.readError("read payment tasks", err)
}

// EndTask stores that a task is done. It may be repeated.
func (s *Shard) EndTask(ctx context.Context, id int64) error {
	_, err := s.pool.Exec(ctx, endTask, pgx.NamedArgs{"task_id": id})
	return s.readError("end payment task", err)
}

// FailTask stores that a task was not done and is to be tried again after a pause, or, when
// it is dead, only after an operator has looked.
func (s *Shard) FailTask(ctx context.Context, id int64, why string, pause time.Duration, dead bool) error {
	_, err := s.pool.Exec(ctx, failTask, pgx.NamedArgs{"task_id": id, "error": why, "pause": pause, "dead": dead})
	return s.readError("fail payment task", err)
}
