package ledger

import (
	"context"
	"fmt"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
)

const readmitPurchase = `
WITH readmitted AS (
    UPDATE purchases p
       SET state = 'confirmed', readmitted = @amount,
           topology = f.topology, token = f.token, tenure_id = f.tenure_id
      FROM fences f
     WHERE p.purchase_id = @purchase_id AND p.state = 'expired' AND p.product_id = @product_id
       AND f.product_id = p.product_id AND f.tenure_id = @tenure_id
    RETURNING p.purchase_id, p.product_id
)
INSERT INTO changes (change_id, purchase_id, product_id, request_id, action, amount, state, units)
SELECT @change_id, purchase_id, product_id, @request_id, 'confirm', @asked, 'confirmed', @amount FROM readmitted`

const selectTenure = `SELECT tenure_id FROM fences WHERE product_id = @product_id`

// Readmission confirms a purchase that has expired: its tenure has found the units again.
type Readmission struct {
	Fence      Fence
	PurchaseID uuid.UUID
	RequestID  string // of the confirmation
	Asked      int64  // units that were to be confirmed; 0 for all
	Amount     int64  // the same in units
}

// Readmit confirms an expired purchase under the tenure's fence. The outcome is Replayed
// when the purchase is not expired (any more). Errors are those of Commit.
func (s *Shard) Readmit(ctx context.Context, r Readmission) (Outcome, error) {
	return s.underFence(ctx, "readmit", readmitPurchase, r.Fence, pgx.NamedArgs{
		"amount": r.Amount, "asked": r.Asked, "purchase_id": r.PurchaseID, "request_id": r.RequestID,
		"change_id": uuid.Must(uuid.NewV7()),
	})
}

// Delivery is units that were added to a product's storage, or, when Amount is negative,
// found missing there.
type Delivery struct {
	DeliveryID uuid.UUID
	ProductID  string
	RequestID  string
	Amount     int64
	CreateTime time.Time
}

const insertMissing = `
INSERT INTO deliveries (delivery_id, product_id, request_id, amount, topology, token, tenure_id, create_time)
SELECT @delivery_id, @product_id, @request_id, @amount, f.topology, f.token, f.tenure_id, @create_time
  FROM fences f WHERE f.product_id = @product_id AND f.tenure_id = @tenure_id
ON CONFLICT ON CONSTRAINT deliveries_one_outcome_per_request DO NOTHING`

// TakeAway stores a delivery of less than nothing under the fence of the tenure that has
// found the units unsold, and sets its CreateTime. The outcome is Replayed when one with its
// request id is stored.
// Errors are those of Commit.
func (s *Shard) TakeAway(ctx context.Context, f Fence, d *Delivery) (Outcome, error) {
	now := time.Now().UTC()
	at := *asKept(&now)
	outcome, err := s.underFence(ctx, "take away", insertMissing, f, pgx.NamedArgs{
		"delivery_id": d.DeliveryID, "request_id": d.RequestID, "amount": d.Amount, "create_time": at,
	})
	if outcome == Inserted {
		d.CreateTime = at
	}
	return outcome, err
}

// underFence changes one row under a tenure's fence. When it changes none, the fence, read
// afterwards, tells why: it only ever goes from a tenure to a newer one.
func (s *Shard) underFence(ctx context.Context, action, sql string, f Fence, args pgx.NamedArgs) (Outcome, error) {
	args["product_id"], args["tenure_id"] = f.ProductID, f.TenureID
	conn, err := s.pool.Acquire(ctx)
	if err != nil {
		return Fenced, fmt.Errorf("shard %s: %s: %w: %w", s.name, action, ErrNotSent, err)
	}
	defer conn.Release()
	tag, err := conn.Exec(ctx, sql, args)
	switch {
	case violates(err, changesUnderFences), violates(err, deliveriesUnderFences):
		return Fenced, nil
	case err != nil:
		return Fenced, fmt.Errorf("shard %s: %s: %w", s.name, action, commitError(err))
	case tag.RowsAffected() > 0:
		return Inserted, nil
	}
	var holder uuid.UUID
	err = conn.QueryRow(ctx, selectTenure, args).Scan(&holder)
	switch {
	case err != nil && !isNoRows(err):
		return Fenced, fmt.Errorf("shard %s: %s: %w", s.name, action, commitError(err))
	case holder != f.TenureID:
		return Fenced, nil
	}
	return Replayed, nil
}

const insertDelivery = `
INSERT INTO deliveries (delivery_id, product_id, request_id, amount)
SELECT @delivery_id, product_id, @request_id, @amount FROM products WHERE product_id = @product_id
ON CONFLICT ON CONSTRAINT deliveries_one_outcome_per_request DO NOTHING`

const selectDelivery = `
SELECT delivery_id, product_id, request_id, amount, create_time
  FROM deliveries WHERE product_id = @product_id AND request_id = @request_id`

// Deliver stores a delivery of more than nothing, unless one with its request id is
// stored, and returns the one that is. It needs no fence, since it takes nothing away. It
// returns ErrNotFound when there is no such product, and may be repeated after any error.
func (s *Shard) Deliver(ctx context.Context, d Delivery) (*Delivery, error) {
	args := pgx.NamedArgs{
		"delivery_id": d.DeliveryID, "product_id": d.ProductID, "request_id": d.RequestID, "amount": d.Amount,
	}
	if _, err := s.pool.Exec(ctx, insertDelivery, args); err != nil {
		return nil, fmt.Errorf("shard %s: deliver: %w", s.name, commitError(err))
	}
	return s.Delivery(ctx, d.ProductID, d.RequestID)
}

// Delivery reads the delivery with a request id. It returns ErrNotFound when there is none.
func (s *Shard) Delivery(ctx context.Context, productID, requestID string) (*Delivery, error) {
	rows, _ := s.pool.Query(ctx, selectDelivery, pgx.NamedArgs{"product_id": productID, "request_id": requestID})
	d, err := pgx.CollectExactlyOneRow(rows, pgx.RowToAddrOfStructByPos[Delivery])
	return d, s.readError("read delivery", err)
}

const selectDelivered = `
SELECT product_id, sum(amount)::bigint FROM deliveries WHERE product_id = ANY (@product_ids) GROUP BY product_id`

// Delivered sums up the deliveries of products, by product.
func (s *Shard) Delivered(ctx context.Context, productIDs []string) (map[string]int64, error) {
	delivered := make(map[string]int64, len(productIDs))
	rows, err := s.pool.Query(ctx, selectDelivered, pgx.NamedArgs{"product_ids": productIDs})
	if err == nil {
		err = intoMap(delivered)(rows)
	}
	return delivered, s.readError("read deliveries", err)
}
