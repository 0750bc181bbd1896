package ledger

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgtype"
)

// Purchase is a row of a shard. TenureID is set on the way in only: it names
// the tenure that admitted the purchase.
type Purchase struct {
	PurchaseID    uuid.UUID
	ProductID     string
	RequestID     string
	Amount        int64
	CustomerID    string
	PaymentMethod string
	State         State
	CreateTime    time.Time
	TenureID      uuid.UUID `db:"-"`
}

// State is where a purchase is in its life.
type State string

// Confirmed is the state of a purchase that is sold.
const Confirmed State = "confirmed"

// Outcome is what became of one purchase of a batch that was committed.
type Outcome int

const (
	// Fenced: the product has a newer tenure; nothing was stored.
	Fenced Outcome = iota
	// Inserted: the purchase is stored and its units are counted.
	Inserted
	// Replayed: an earlier purchase has this product and request id; nothing
	// was stored now. Verify tells the earlier one.
	Replayed
)

// Locks the fences of a batch, those that are still their tenure's, in product
// order, so that two batches never wait for each other in a circle.
const lockFences = `
SELECT f.tenure_id
  FROM fences f JOIN unnest(@product_ids::text[], @tenure_ids::uuid[]) AS mine (product_id, tenure_id)
       USING (product_id, tenure_id)
 ORDER BY f.product_id
   FOR UPDATE OF f`

// Both run after lockFences in the same transaction, so the fences that they join
// are the locked ones: a row can be inserted only under a fence that cannot be
// raised before the commit. The running totals move by what was inserted, not
// by what was asked for.
//
// Hardly any batch holds a purchase that is stored already, and to look out for them
// costs the database a third more. So a batch is tried without that first, unless
// one of the last batches would have failed so: then buyers repeat themselves.
//
// Without repetitions every row whose fence was locked is inserted, and a number tells as
// much as a list; the list would cost the database and the worker another tenth.
const (
	insertNew      = insertRows + moveTotals + "SELECT count(*), now() FROM inserted"
	insertUnstored = insertRows + "ON CONFLICT ON CONSTRAINT " + oneOutcome + " DO NOTHING" + moveTotals +
		"SELECT purchase_id, create_time FROM inserted"
	oneOutcome = "purchases_one_outcome_per_request"
)

const insertRows = `
WITH inserted AS (
    INSERT INTO purchases
           (purchase_id, product_id, request_id, amount, customer_id, payment_method, state, topology, token)
    SELECT p.purchase_id, p.product_id, p.request_id, p.amount, p.customer_id, p.payment_method,
           'confirmed', f.topology, f.token
      FROM unnest(@purchase_ids::uuid[], @product_ids::text[], @tenure_ids::uuid[], @request_ids::text[],
                  @amounts::bigint[], @customer_ids::text[], @payment_methods::text[])
           AS p (purchase_id, product_id, tenure_id, request_id, amount, customer_id, payment_method)
      JOIN fences f USING (product_id, tenure_id)
`

const moveTotals = `
    RETURNING purchase_id, product_id, amount, create_time
), moved AS (
    UPDATE fences f SET purchased = f.purchased + sold.amount
      FROM (SELECT product_id, sum(amount)::bigint AS amount FROM inserted GROUP BY product_id) sold
     WHERE f.product_id = sold.product_id
)
`

// Commit stores a batch in one transaction and one round trip, or in two when it holds
// what is stored already, and sets CreateTime and State of the purchases that were
// inserted. It answers an outcome for each purchase, in their order.
//
// On an error nothing is known to be stored: *RefusedError and ErrNotSent say
// that nothing is, ErrAmbiguous that all of it may be. After ErrAmbiguous the
// tenures of the batch must end: the lost transaction may still commit, and
// only a raised fence settles whether it did.
func (s *Shard) Commit(ctx context.Context, purchases []*Purchase) ([]Outcome, error) {
	conn, err := s.pool.Acquire(ctx)
	if err != nil {
		return nil, fmt.Errorf("shard %s: commit: %w: %w", s.name, ErrNotSent, err)
	}
	defer conn.Release()

	c := commit{purchases: purchases, repeated: s.wary.Load() > 0}
	if c.repeated {
		s.wary.Add(-1)
	}
	err = conn.SendBatch(ctx, c.batch()).Close()
	if isStored(err) {
		s.wary.Store(waryFor)
		c.repeated = true
		err = conn.SendBatch(ctx, c.batch()).Close()
	}
	if err != nil {
		return nil, fmt.Errorf("shard %s: commit: %w", s.name, commitError(err))
	}
	outcomes, err := c.outcomes()
	if err != nil {
		return nil, fmt.Errorf("shard %s: commit: %w", s.name, err)
	}
	return outcomes, nil
}

// waryFor is for how many batches a shard looks out for what is stored.
const waryFor = 100

// isStored reports whether a batch failed because one of its purchases is stored.
func isStored(err error) bool {
	var pgErr *pgconn.PgError
	return errors.As(err, &pgErr) && pgErr.ConstraintName == oneOutcome && pgErr.SeverityUnlocalized == "ERROR"
}

// commit is one attempt to store a batch, and what the shard answers.
type commit struct {
	purchases []*Purchase
	repeated  bool // some may be stored already

	mine   map[uuid.UUID]bool      // tenures that hold their fence
	at     time.Time               // of what is inserted, unless some may be stored
	number int                     // of them
	listed map[uuid.UUID]time.Time // each, when some may be stored
}

// batch is the transaction: statements that are sent together are one without BEGIN and
// COMMIT, which would cost the shard another two (PostgreSQL documentation, "Frontend/Backend
// Protocol", "Pipelining").
func (c *commit) batch() *pgx.Batch {
	tenures, rows := columns(c.purchases)
	c.mine, c.listed = make(map[uuid.UUID]bool, len(tenures)), nil
	batch := &pgx.Batch{}
	batch.Queue(lockFences, tenures).Query(func(r pgx.Rows) error {
		var tenure pgtype.UUID
		_, err := pgx.ForEachRow(r, []any{&tenure}, func() error { c.mine[tenure.Bytes] = true; return nil })
		return err
	})
	if c.repeated {
		c.listed = make(map[uuid.UUID]time.Time, len(c.purchases))
		batch.Queue(insertUnstored, rows).Query(func(r pgx.Rows) error {
			var (
				id pgtype.UUID
				at time.Time
			)
			_, err := pgx.ForEachRow(r, []any{&id, &at}, func() error { c.listed[id.Bytes] = at; return nil })
			return err
		})
	} else {
		batch.Queue(insertNew, rows).QueryRow(func(r pgx.Row) error { return r.Scan(&c.number, &c.at) })
	}
	return batch
}

// outcomes tells what became of each purchase, and completes those that are stored.
func (c *commit) outcomes() ([]Outcome, error) {
	outcomes := make([]Outcome, len(c.purchases))
	number := 0
	for i, p := range c.purchases {
		if !c.mine[p.TenureID] {
			continue
		}
		at, inserted := c.at, !c.repeated
		if c.repeated {
			at, inserted = c.listed[p.PurchaseID]
		}
		if !inserted {
			outcomes[i] = Replayed
			continue
		}
		outcomes[i], p.CreateTime, p.State = Inserted, at, Confirmed
		number++
	}
	if !c.repeated && number != c.number {
		return nil, fmt.Errorf("%w: %d of %d rows inserted", ErrAmbiguous, c.number, number)
	}
	return outcomes, nil
}

// columns turns purchases into the array parameters of the two statements.
func columns(purchases []*Purchase) (tenures, rows pgx.NamedArgs) {
	n := len(purchases)
	ids, products, owners := make(uuids, n), make([]string, n), make(uuids, n)
	requests, amounts := make([]string, n), make([]int64, n)
	customers, payments := make([]string, n), make([]string, n)
	locked := make(map[uuid.UUID]bool, n)
	var lockProducts []string
	var lockTenures uuids
	for i, p := range purchases {
		ids[i], products[i], owners[i] = p.PurchaseID, p.ProductID, p.TenureID
		requests[i], amounts[i] = p.RequestID, p.Amount
		customers[i], payments[i] = p.CustomerID, p.PaymentMethod
		if !locked[p.TenureID] {
			locked[p.TenureID] = true
			lockProducts, lockTenures = append(lockProducts, p.ProductID), append(lockTenures, p.TenureID)
		}
	}
	tenures = pgx.NamedArgs{"product_ids": lockProducts, "tenure_ids": lockTenures}
	rows = pgx.NamedArgs{
		"purchase_ids": ids, "product_ids": products, "tenure_ids": owners, "request_ids": requests,
		"amounts": amounts, "customer_ids": customers, "payment_methods": payments,
	}
	return tenures, rows
}

// commitError says how much is known after a failed commit. Only an ERROR means
// that the transaction was rolled back: a FATAL, such as a shutdown, can come
// after the commit was done and before it was answered.
func commitError(err error) error {
	var pgErr *pgconn.PgError
	if errors.As(err, &pgErr) && pgErr.SeverityUnlocalized == "ERROR" {
		return &RefusedError{PgError: pgErr}
	}
	if pgconn.SafeToRetry(err) {
		return fmt.Errorf("%w: %w", ErrNotSent, err)
	}
	return fmt.Errorf("%w: %w", ErrAmbiguous, err)
}
