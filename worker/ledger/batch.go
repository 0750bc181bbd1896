package ledger

import (
	"bytes"
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

	"github.com/holdfast-io/holdfast/api/traces"
)

// Purchase is a row of a shard. Fence is set on the way in only: it is that of the
// tenure that admitted the purchase.
type Purchase struct {
	PurchaseID    uuid.UUID
	ProductID     string
	RequestID     string
	Amount        int64
	CustomerID    string
	PaymentMethod string
	State         State
	CreateTime    time.Time
	ExpireTime    *time.Time // of the hold; nil when there never was one
	Released      int64      // units given back
	Readmitted    int64      // units taken again by a confirmation after the expiry
	OrderID       *uuid.UUID // of the order that it is a line of; nil when it stands alone
	UnitPrice     *int64     // in the smallest unit of the order's currency; nil when nothing is paid here
	Fence         *Fence     `db:"-"`
}

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

// A batch is one statement, and so one transaction: a COPY, which costs Postgres the least.
// The rows claim to be under the fences of their tenures. Whether they are, the table's
// trigger finds out, which moves the running totals and refuses a batch with a fence that
// is not its tenure's, whole.
//
// Inserting before the fences are locked keeps the locks short: batches of one product
// would otherwise wait for each other's rows, and not only for each other's sync. And
// whoever holds a fence never waits for a row that somebody else inserts who waits for
// that fence.
//
// COPY knows no exceptions. When a purchase is stored already, or a fence was raised, the
// batch is sent again by a statement that leaves such purchases out, and so are the next
// ones when it was a repetition: then buyers repeat themselves. The statement costs
// half as much again, and hardly any batch needs it.
const (
	copyPurchases   = `COPY purchases (` + insertedColumns + `) FROM STDIN BINARY`
	insertedColumns = `purchase_id, product_id, request_id, amount, customer_id, payment_method, state, create_time,
       expire_time, order_id, unit_price, topology, token, tenure_id`
	insertUnstored = `
WITH inserted AS (
    INSERT INTO purchases (` + insertedColumns + `)
    SELECT p.purchase_id, p.product_id, p.request_id, p.amount, p.customer_id, p.payment_method,
           (CASE WHEN p.expire_time IS NULL THEN 'confirmed' ELSE 'held' END)::purchase_state,
           @create_time::timestamptz, p.expire_time, p.order_id, p.unit_price, f.topology, f.token, f.tenure_id
      FROM unnest(@purchase_ids::uuid[], @product_ids::text[], @tenure_ids::uuid[], @request_ids::text[],
                  @amounts::bigint[], @customer_ids::text[], @payment_methods::text[], @expire_times::timestamptz[],
                  @order_ids::uuid[], @unit_prices::bigint[])
           AS p (purchase_id, product_id, tenure_id, request_id, amount, customer_id, payment_method, expire_time,
                 order_id, unit_price)
      JOIN fences f ON f.product_id = ANY (ARRAY[p.product_id]) AND f.tenure_id = p.tenure_id
    ON CONFLICT ON CONSTRAINT ` + oneOutcome + ` DO NOTHING
    RETURNING purchase_id
)
SELECT (SELECT array_agg(f.tenure_id)
          FROM unnest(@tenure_products::text[], @tenures::uuid[]) AS mine (product_id, tenure_id)
          JOIN fences f ON f.product_id = ANY (ARRAY[mine.product_id]) AND f.tenure_id = mine.tenure_id),
       (SELECT array_agg(purchase_id) FROM inserted)`

	oneOutcome  = "purchases_one_outcome_per_request"
	underFences = "purchases_under_fences"

	changesUnderFences    = "changes_under_fences"
	deliveriesUnderFences = "deliveries_under_fences"
	onlyGoOn              = "purchases_only_go_on"
	authorizedFirst       = "payments_are_authorized_first"
)

// Commit stores a batch of up to MaxBatch in one transaction and one round trip, or in more when it holds
// what is stored already or has lost its fence, and sets CreateTime, State and ExpireTime of the
// purchases that were inserted. It answers an outcome for each purchase, in their order.
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

	batch := newBatch(purchases)
	plain := !s.isWary()
	for attempt := 1; ; attempt++ {
		if plain {
			err = batch.copy(ctx, conn.Conn())
		} else {
			err = batch.insertUnstored(ctx, conn.Conn())
		}
		switch {
		case err == nil:
			return batch.outcomes(purchases), nil
		case violates(err, oneOutcome):
			s.wary.Store(waryFor)
		case !violates(err, underFences):
			return nil, fmt.Errorf("shard %s: commit: %w", s.name, commitError(err))
		}
		if attempt == maxAttempts {
			return nil, fmt.Errorf("shard %s: commit: %w", s.name, commitError(err))
		}
		plain = false
	}
}

// MaxBatch bounds the purchases of one Commit. Postgres stores rows of a COPY by the
// thousand, and waits for the end of the COPY with them stored: of fewer, a client that
// stalls in the middle leaves none that others would have to wait for
// (MAX_BUFFERED_TUPLES in Postgres' copyfrom.c).
const MaxBatch = 999

// maxAttempts is how often a batch is sent whose fences are raised at that moment.
const maxAttempts = 4

// waryFor is for how many batches a shard looks out for what is stored.
const waryFor = 100

// isWary reports whether a batch looks out for what is stored, and counts it.
func (s *Shard) isWary() bool {
	for {
		left := s.wary.Load()
		if left == 0 {
			return false
		}
		if s.wary.CompareAndSwap(left, left-1) {
			return true
		}
	}
}

// violates reports whether the database refused a statement for one of its constraints.
func violates(err error, constraint string) bool {
	var pgErr *pgconn.PgError
	return errors.As(err, &pgErr) && pgErr.ConstraintName == constraint && pgErr.SeverityUnlocalized == "ERROR"
}

// batch is what is to be stored, and what the shard said of it.
type batch struct {
	rows []*Purchase // in the order in which they are sent
	at   time.Time   // of what is inserted

	partly   bool  // what follows tells which rows are inserted; otherwise all are
	tenures  uuids // that hold their fence
	inserted uuids // purchases
}

// newBatch has the rows in the order of their requests: when a batch holds the same
// requests as another one that has not ended, of a holder that died, neither waits for the
// other in a circle.
func newBatch(purchases []*Purchase) *batch {
	rows := slices.Clone(purchases)
	slices.SortFunc(rows, func(a, b *Purchase) int {
		return cmp.Or(strings.Compare(a.ProductID, b.ProductID), strings.Compare(a.RequestID, b.RequestID))
	})
	now := time.Now().UTC()
	return &batch{rows: rows, at: *asKept(&now)}
}

// asKept is a time as Postgres keeps it.
func asKept(t *time.Time) *time.Time {
	if t == nil {
		return nil
	}
	kept := t.Truncate(time.Microsecond)
	return &kept
}

// copy stores all rows, or none.
func (b *batch) copy(ctx context.Context, conn *pgx.Conn) error {
	ctx, span := traced(ctx, copyPurchases)
	_, err := conn.PgConn().CopyFrom(ctx, bytes.NewReader(b.encode()), copyPurchases)
	traces.End(span, err)
	return err
}

// insertUnstored stores the rows that are not stored yet and whose tenure holds its fence.
func (b *batch) insertUnstored(ctx context.Context, conn *pgx.Conn) error {
	b.partly = true
	return conn.QueryRow(ctx, insertUnstored, b.columns()).Scan(&b.tenures, &b.inserted)
}

// outcomes tells what became of each purchase, and completes those that are stored.
func (b *batch) outcomes(purchases []*Purchase) []Outcome {
	outcomes := make([]Outcome, len(purchases))
	mine, inserted := b.tenures.set(), b.inserted.set()
	for i, p := range purchases {
		switch {
		case b.partly && !mine[p.Fence.TenureID]:
		case b.partly && !inserted[p.PurchaseID]:
			outcomes[i] = Replayed
		default:
			outcomes[i], p.CreateTime, p.State, p.ExpireTime = Inserted, b.at, p.firstState(), asKept(p.ExpireTime)
		}
	}
	return outcomes
}

// columns turns the rows into array parameters, with their tenures.
func (b *batch) columns() pgx.NamedArgs {
	n := len(b.rows)
	ids, products, owners := make(uuids, n), make([]string, n), make(uuids, n)
	requests, amounts := make([]string, n), make([]int64, n)
	customers, payments, expiries := make([]string, n), make([]string, n), make([]*time.Time, n)
	orders, prices := make([]*uuid.UUID, n), make([]*int64, n)
	for i, p := range b.rows {
		ids[i], products[i], owners[i] = p.PurchaseID, p.ProductID, p.Fence.TenureID
		requests[i], amounts[i] = p.RequestID, p.Amount
		customers[i], payments[i], expiries[i] = p.CustomerID, p.PaymentMethod, p.ExpireTime
		orders[i], prices[i] = p.OrderID, p.UnitPrice
	}
	tenureProducts, tenures := tenuresOf(b.rows)
	return pgx.NamedArgs{
		"purchase_ids": ids, "product_ids": products, "tenure_ids": owners, "request_ids": requests,
		"amounts": amounts, "customer_ids": customers, "payment_methods": payments, "expire_times": expiries,
		"order_ids": orders, "unit_prices": prices,
		"create_time": b.at, "tenure_products": tenureProducts, "tenures": tenures,
	}
}

// tenuresOf lists each tenure once, with its product.
func tenuresOf(purchases []*Purchase) (products []string, tenures uuids) {
	seen := make(map[uuid.UUID]bool, len(purchases))
	for _, p := range purchases {
		if !seen[p.Fence.TenureID] {
			seen[p.Fence.TenureID] = true
			products, tenures = append(products, p.ProductID), append(tenures, p.Fence.TenureID)
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
