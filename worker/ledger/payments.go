package ledger

import (
	"bytes"
	"context"
	"maps"
	"slices"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
)

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
    SELECT p.amount * p.unit_price AS price, p.state = 'held' AND p.expire_time > clock_timestamp() AS held
      FROM purchases p WHERE p.order_id = @order_id
     ORDER BY p.purchase_id FOR UPDATE
)
INSERT INTO payments (order_id, payment_method, currency, minor_units)
SELECT o.order_id, o.payment_method, o.currency, lines.price
  FROM orders o, (SELECT sum(price)::bigint AS price FROM lines HAVING bool_and(held)) AS lines
 WHERE o.order_id = @order_id AND o.state = 'placed' AND lines.price > 0
    ON CONFLICT (order_id) DO NOTHING`

	selectPayment = `SELECT` + paymentColumns + ` FROM payments WHERE order_id = @order_id`

	settlePayments = `
UPDATE payments p SET state = s.state, reference = s.reference, decline = s.decline
  FROM unnest(@order_ids::uuid[], @states::text[], @references::text[], @declines::text[])
       AS s (order_id, state, reference, decline)
 WHERE p.order_id = ANY (ARRAY[s.order_id]) AND p.state = 'authorizing'`
)

// BeginPayment stores the payment of a placed order that has a price and whose purchases are
// all held, before its provider is asked. From then on whatever ends the holds has the
// payment let go. It returns the order, with the payment that is stored; there is none when
// the order is another one, because a hold has ended, say. It may be repeated.
func (s *Shard) BeginPayment(ctx context.Context, orderID uuid.UUID) (*WholeOrder, error) {
	batch := &pgx.Batch{}
	batch.Queue(insertPayment, pgx.NamedArgs{"order_id": orderID})
	stored, err := s.sendForWhole(ctx, batch, orderID)
	return stored, s.readError("begin payment", err)
}

// Settlement is what a provider has said of a payment that was authorizing.
type Settlement struct {
	State     PaymentState // Authorized or Declined
	Reference string       // the provider's
	Decline   string       // why it was declined
}

func settlementColumns(settlements map[uuid.UUID]*Settlement) pgx.NamedArgs {
	var (
		orders                       uuids
		states, references, declines []string
	)
	// In one order, in which whoever stores several of them locks the payments.
	for _, id := range slices.SortedFunc(maps.Keys(settlements), func(a, b uuid.UUID) int { return bytes.Compare(a[:], b[:]) }) {
		s := settlements[id]
		orders, states = append(orders, id), append(states, string(s.State))
		references, declines = append(references, s.Reference), append(declines, s.Decline)
	}
	return pgx.NamedArgs{"order_ids": orders, "states": states, "references": references, "declines": declines}
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
 WHERE t.state = 'pending' AND t.next_time <= now() AND t.task_id <> ALL (@under_way)
   AND NOT EXISTS (SELECT FROM payment_tasks e
                    WHERE e.order_id = ANY (ARRAY[t.order_id]) AND e.state = 'pending' AND e.task_id < t.task_id)
 ORDER BY t.next_time LIMIT @limit`

	// Of a payment one task at most is ended at a time, since the next one is not due before.
	endTasks = `
WITH ended AS (
    UPDATE payment_tasks SET state = 'done', end_time = now(), attempts = attempts + 1
     WHERE task_id = ANY (@task_ids) AND state = 'pending' RETURNING order_id, action, minor_units
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

// DueTasks reads tasks that are to be done now and are not under way, of each payment the
// oldest only.
func (s *Shard) DueTasks(ctx context.Context, limit int, underWay []int64) ([]Task, error) {
	rows, _ := s.pool.Query(ctx, selectDueTasks, pgx.NamedArgs{"limit": limit, "under_way": underWay})
	tasks, err := pgx.CollectRows(rows, func(row pgx.CollectableRow) (t Task, err error) {
		p := &t.Payment
		err = row.Scan(&t.TaskID, &t.Action, &t.Key, &t.MinorUnits, &t.Attempts, &p.OrderID, &p.PaymentMethod, &p.Currency,
			&p.MinorUnits, &p.State, &p.Reference, &p.Decline, &p.Captured, &p.Refunded, &p.CreateTime)
		return t, err
	})
	return tasks, s.readError("read payment tasks", err)
}

// EndTasks stores that tasks are done, which were due at the same time. All are, or none: it
// returns a *RefusedError when the end of one does not fit its payment. It may be repeated.
func (s *Shard) EndTasks(ctx context.Context, ids []int64) error {
	_, err := s.pool.Exec(ctx, endTasks, pgx.NamedArgs{"task_ids": ids})
	if err != nil {
		err = commitError(err)
	}
	return s.readError("end payment tasks", err)
}

// FailTask stores that a task was not done and is to be tried again after a pause, or, when
// it is dead, only after an operator has looked.
func (s *Shard) FailTask(ctx context.Context, id int64, why string, pause time.Duration, dead bool) error {
	_, err := s.pool.Exec(ctx, failTask, pgx.NamedArgs{"task_id": id, "error": why, "pause": pause, "dead": dead})
	return s.readError("fail payment task", err)
}
