package ledger

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
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

// A batch is one statement, and so one transaction. It inserts under the fences as it
// finds them, and then moves their running totals by what was inserted, not by what was
// asked for. The move is what makes it safe: it locks each fence until the commit, and it
// finds none that was raised since the insert looked. Then the batch divides by zero, and
// nothing of it happens.
//
// Inserting first keeps the lock short: batches of one product would otherwise wait for
// each other's rows, and not only for each other's sync. And whoever holds a fence never
// waits for a row that somebody else inserts who waits for that fence.
//
// The fences are locked in product order, so that two batches never wait for each other
// in a circle.
//
// Hardly any batch holds a purchase that is stored already, and to look out for them
// costs the database a third more. So a batch is tried without that first, unless
// one of the last batches would have failed so: then buyers repeat themselves.
const (
	insertNew = insertRows + moveTotals + `
SELECT now(), (SELECT array_agg(tenure_id) FROM moved), NULL::uuid[],
       ` + noneRaised
	insertUnstored = insertRows + `
    ON CONFLICT ON CONSTRAINT ` + oneOutcome + ` DO NOTHING` + moveTotals + `
SELECT now(), (SELECT array_agg(f.tenure_id)
                 FROM unnest(@tenure_products::text[], @tenures::uuid[]) AS mine (product_id, tenure_id)
                 JOIN fences f USING (product_id, tenure_id)),
       (SELECT array_agg(purchase_id) FROM inserted),
       ` + noneRaised
	noneRaised = `1 / ((SELECT count(*) FROM moved) = (SELECT count(*) FROM sold))::int`
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
      JOIN fences f USING (product_id, tenure_id)`

const moveTotals = `
    RETURNING purchase_id, product_id, topology, token, amount
), sold AS (
    SELECT product_id, topology, token, sum(amount)::bigint AS amount
      FROM inserted GROUP BY product_id, topology, token ORDER BY product_id
), moved AS (
    UPDATE fences f SET purchased = f.purchased + sold.amount
      FROM sold
     WHERE (f.product_id, f.topology, f.token) = (sold.product_id, sold.topology, sold.token)
    RETURNING f.tenure_id
)`

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
	for attempt := 1; ; attempt++ {
		err = conn.SendBatch(ctx, c.batch()).Close()
		switch {
		case isStored(err):
			s.wary.Store(waryFor)
			c.repeated = true
		case !wasRaised(err):
			if err != nil {
				return nil, fmt.Errorf("shard %s: commit: %w", s.name, commitError(err))
			}
			return c.outcomes(), nil
		}
		if attempt == maxAttempts {
			return nil, fmt.Errorf("shard %s: commit: %w", s.name, commitError(err))
		}
	}
}

// maxAttempts is how often a batch is sent that the database refuses for what others do
// at that moment.
const maxAttempts = 4

// wasRaised reports whether a batch failed because one of its fences was raised meanwhile.
func wasRaised(err error) bool {
	var pgErr *pgconn.PgError
	return errors.As(err, &pgErr) && pgErr.Code == divisionByZero && pgErr.SeverityUnlocalized == "ERROR"
}

const divisionByZero = "22012"

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

	at       time.Time // of what is inserted
	tenures  uuids     // of which purchases are inserted; when some may be stored, that hold their fence
	inserted uuids     // purchases, when some may be stored
}

// batch is the transaction. It is answered when it is committed.
func (c *commit) batch() *pgx.Batch {
	insert, batch := insertNew, &pgx.Batch{}
	if c.repeated {
		insert = insertUnstored
	}
	batch.Queue(insert, columns(c.purchases, c.repeated)).QueryRow(func(r pgx.Row) error {
		var one int
		return r.Scan(&c.at, &c.tenures, &c.inserted, &one)
	})
	return batch
}

// outcomes tells what became of each purchase, and completes those that are stored.
func (c *commit) outcomes() []Outcome {
	outcomes := make([]Outcome, len(c.purchases))
	mine, inserted := c.tenures.set(), c.inserted.set()
	for i, p := range c.purchases {
		switch {
		case !mine[p.TenureID]:
		case c.repeated && !inserted[p.PurchaseID]:
			outcomes[i] = Replayed
		default:
			outcomes[i], p.CreateTime, p.State = Inserted, c.at, Confirmed
		}
	}
	return outcomes
}

// columns turns purchases into array parameters, with those of their tenures if need be.
// They are in the order of their requests: when a batch holds the same requests as another
// one that has not ended, of a holder that died, neither waits for the other in a circle.
func columns(purchases []*Purchase, tenures bool) pgx.NamedArgs {
	purchases = slices.Clone(purchases)
	slices.SortFunc(purchases, func(a, b *Purchase) int {
		return cmp.Or(strings.Compare(a.ProductID, b.ProductID), strings.Compare(a.RequestID, b.RequestID))
	})
	n := len(purchases)
	ids, products, owners := make(uuids, n), make([]string, n), make(uuids, n)
	requests, amounts := make([]string, n), make([]int64, n)
	customers, payments := make([]string, n), make([]string, n)
	for i, p := range purchases {
		ids[i], products[i], owners[i] = p.PurchaseID, p.ProductID, p.TenureID
		requests[i], amounts[i] = p.RequestID, p.Amount
		customers[i], payments[i] = p.CustomerID, p.PaymentMethod
	}
	args := pgx.NamedArgs{
		"purchase_ids": ids, "product_ids": products, "tenure_ids": owners, "request_ids": requests,
		"amounts": amounts, "customer_ids": customers, "payment_methods": payments,
	}
	if tenures {
		args["tenure_products"], args["tenures"] = tenuresOf(purchases)
	}
	return args
}

// tenuresOf lists each tenure once, with its product.
func tenuresOf(purchases []*Purchase) (products []string, tenures uuids) {
	seen := make(map[uuid.UUID]bool, len(purchases))
	for _, p := range purchases {
		if !seen[p.TenureID] {
			seen[p.TenureID] = true
			products, tenures = append(products, p.ProductID), append(tenures, p.TenureID)
		}
	}
	return products, tenures
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
