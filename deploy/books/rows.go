package books

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	holdfastv1 "github.com/holdfast-io/holdfast/api/holdfast/v1"
)

// Order is one order, as its shard has it.
type Order struct {
	ID        string // as callers know it
	RequestID string
	State     string // open, placed or failed; or not stored
	Payment   *Payment
	Lines     []Line
	Unsettled int // tasks for the provider that are pending or were given up
}

// Line is one purchase of an order. Has is what the row says that the customer has; the
// others are counted from the history of the purchase.
type Line struct {
	ProductID string
	State     string
	UnitPrice int64
	Amount    int64
	Has       int64
	Confirmed int64
	Returned  int64
	Counted   int64 // what the customer has by the history
}

// Payment is the row of an order's payment.
type Payment struct {
	Currency   string
	MinorUnits int64
	State      string
	Captured   int64
	Refunded   int64
}

// Due is what should have been captured, and Back what should have been refunded.
func (o *Order) Due() (minorUnits int64) {
	for _, l := range o.Lines {
		minorUnits += l.Confirmed * l.UnitPrice
	}
	return minorUnits
}

// Back is what should have been refunded.
func (o *Order) Back() (minorUnits int64) {
	for _, l := range o.Lines {
		minorUnits += l.Returned * l.UnitPrice
	}
	return minorUnits
}

// IsConfirmed tells whether the customer ever bought a line.
func (o *Order) IsConfirmed() bool {
	return slices.ContainsFunc(o.Lines, func(l Line) bool { return l.Confirmed > 0 })
}

const (
	selectOrders = `
SELECT o.order_id, o.request_id, o.state, p.currency, p.minor_units, p.state, p.captured, p.refunded,
       (SELECT count(*) FROM payment_tasks t WHERE t.order_id = o.order_id AND t.state <> 'done')
  FROM orders o LEFT JOIN payments p USING (order_id)`

	// A hold is confirmed at most once, and nothing else is written between.
	selectLines = `
SELECT u.order_id, u.product_id, u.state::text, coalesce(u.unit_price, 0), u.amount, u.amount + u.readmitted - u.released,
       coalesce(sum(u.amount + c.units) FILTER (WHERE c.action = 'confirm'), 0)::bigint,
       coalesce(-sum(c.units) FILTER (WHERE c.action = 'return'), 0)::bigint,
       (u.amount + coalesce(sum(c.units), 0))::bigint
  FROM purchases u LEFT JOIN changes c USING (purchase_id)
 WHERE u.order_id IS NOT NULL
 GROUP BY u.purchase_id, u.product_id, u.order_id, u.state, u.unit_price, u.amount, u.readmitted, u.released`

	countUnsettled = `
SELECT (SELECT count(*) FROM purchases WHERE state = 'held'),
       (SELECT count(*) FROM payment_tasks WHERE state = 'pending')`
)

// Shards are connections to all shards, past every worker.
type Shards map[string]*pgxpool.Pool

// Open connects. The caller closes.
func Open(ctx context.Context, dsns map[string]string) (Shards, error) {
	s := Shards{}
	for name, dsn := range dsns {
		pool, err := pgxpool.New(ctx, dsn)
		if err != nil {
			s.Close()
			return nil, fmt.Errorf("open shard %s: %w", name, err)
		}
		s[name] = pool
	}
	return s, nil
}

// Close closes all connections.
func (s Shards) Close() {
	for _, pool := range s {
		pool.Close()
	}
}

// Orders reads all orders of all shards, each shard as of one moment.
func (s Shards) Orders(ctx context.Context) ([]*Order, error) {
	var all []*Order
	for name, pool := range s {
		orders, err := readOrders(ctx, name, pool)
		if err != nil {
			return nil, fmt.Errorf("read orders of shard %s: %w", name, err)
		}
		all = append(all, orders...)
	}
	return all, nil
}

func readOrders(ctx context.Context, shard string, pool *pgxpool.Pool) (orders []*Order, err error) {
	err = pgx.BeginTxFunc(ctx, pool, pgx.TxOptions{IsoLevel: pgx.RepeatableRead, AccessMode: pgx.ReadOnly}, func(tx pgx.Tx) error {
		byID := map[uuid.UUID]*Order{}
		if orders, err = collectOrders(ctx, tx, shard, byID); err != nil {
			return err
		}
		never, err := collectLines(ctx, tx, shard, byID)
		orders = append(orders, never...)
		return err
	})
	return orders, err
}

func collectOrders(ctx context.Context, tx pgx.Tx, shard string, byID map[uuid.UUID]*Order) (orders []*Order, err error) {
	rows, _ := tx.Query(ctx, selectOrders) // its error comes with the rows
	var (
		id                        uuid.UUID
		o                         Order
		currency, state           *string
		minor, captured, refunded *int64
	)
	_, err = pgx.ForEachRow(rows, []any{&id, &o.RequestID, &o.State, &currency, &minor, &state, &captured, &refunded, &o.Unsettled}, func() error {
		stored := o
		stored.ID = holdfastv1.PurchaseID(shard, id)
		if state != nil {
			stored.Payment = &Payment{*currency, *minor, *state, *captured, *refunded}
		}
		byID[id] = &stored
		orders = append(orders, &stored)
		return nil
	})
	return orders, err
}

// collectLines returns the orders of which only a line is there: a purchase with a price is
// held before its order is stored, and its worker may have been killed in between.
func collectLines(ctx context.Context, tx pgx.Tx, shard string, byID map[uuid.UUID]*Order) (never []*Order, err error) {
	rows, _ := tx.Query(ctx, selectLines) // its error comes with the rows
	var id uuid.UUID
	var l Line
	_, err = pgx.ForEachRow(rows, []any{
		&id, &l.ProductID, &l.State, &l.UnitPrice, &l.Amount, &l.Has, &l.Confirmed, &l.Returned, &l.Counted,
	}, func() error {
		o := byID[id]
		if o == nil {
			o = &Order{ID: holdfastv1.PurchaseID(shard, id), State: "not stored"}
			byID[id] = o
			never = append(never, o)
		}
		o.Lines = append(o.Lines, l)
		return nil
	})
	return never, err
}

// AwaitSettled returns when nothing is held any more and no provider has to be asked for
// anything. Tasks that were given up count as settled, and as a difference later on.
func (s Shards) AwaitSettled(ctx context.Context) error {
	for {
		held, tasks, err := s.unsettled(ctx)
		if err == nil && held+tasks == 0 {
			return nil
		}
		select {
		case <-ctx.Done():
			return errors.Join(fmt.Errorf("not settled: %d purchases are held, %d payment tasks are pending", held, tasks),
				err, context.Cause(ctx))
		case <-time.After(100 * time.Millisecond):
		}
	}
}

func (s Shards) unsettled(ctx context.Context) (held, tasks int, err error) {
	for name, pool := range s {
		var h, t int
		if err := pool.QueryRow(ctx, countUnsettled).Scan(&h, &t); err != nil {
			return held, tasks, fmt.Errorf("shard %s: %w", name, err)
		}
		held, tasks = held+h, tasks+t
	}
	return held, tasks, nil
}
