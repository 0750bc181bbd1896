package bench

import (
	"context"
	"errors"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"
)

// oneDatabase is how a purchase is guarded where all purchases of a product live
// in one database: the first shard's, for customers of every region.
type oneDatabase struct {
	tables
	pool *pgxpool.Pool
	buy  func(ctx context.Context, pool *pgxpool.Pool, o *Order) error
}

func inOneDatabase(name string, buy func(context.Context, *pgxpool.Pool, *Order) error) func(*servers) Strategy {
	return func(s *servers) Strategy { return &oneDatabase{tables: s.tablesOf(name), buy: buy} }
}

func (d *oneDatabase) Prepare(ctx context.Context, buyers int) (err error) {
	d.pool, err = d.open(ctx, d.servers.shards[0], buyers)
	return err
}

func (d *oneDatabase) Buy(ctx context.Context, _ int, orders []Order, outcomes []error) {
	for i := range orders {
		outcomes[i] = d.buy(ctx, d.pool, &orders[i])
	}
}

func (d *oneDatabase) Close() {
	if d.pool != nil {
		d.pool.Close()
	}
}

var (
	newForUpdate         = inOneDatabase("select-for-update", buyForUpdate)
	newConditionalUpdate = inOneDatabase("conditional-update", buyConditionally)
	newConditionalCTE    = inOneDatabase("conditional-cte", buyInOneStatement)
	newSerializable      = inOneDatabase("serializable", buySerializable)
	newAdvisoryLock      = inOneDatabase("advisory-lock", buyUnderAdvisoryLock)
)

const (
	lockStorage = `SELECT amount_in_storage FROM products WHERE product_id = $1 FOR UPDATE`

	readStorage = `SELECT amount_in_storage FROM products WHERE product_id = $1`

	sumPurchases = `SELECT coalesce(sum(amount), 0)::bigint FROM purchases WHERE product_id = $1`

	insertPurchase = `
INSERT INTO purchases (purchase_id, product_id, request_id, amount, customer_id, state, topology, token)
VALUES ($1, $2, $3, $4, $5, 'confirmed', 0, 0)`
)

func insert(ctx context.Context, tx pgx.Tx, o *Order) error {
	_, err := tx.Exec(ctx, insertPurchase, newID(), o.Product, o.Request, o.Amount, o.Customer)
	return err
}

// checkAndInsert is the question: read what there is, add up what was sold, and
// insert when it fits. What keeps others from doing the same is the caller's.
func checkAndInsert(ctx context.Context, tx pgx.Tx, storageQuery string, o *Order) error {
	var storage, sold int64
	if err := tx.QueryRow(ctx, storageQuery, o.Product).Scan(&storage); err != nil {
		return err
	}
	if err := tx.QueryRow(ctx, sumPurchases, o.Product).Scan(&sold); err != nil {
		return err
	}
	if o.Amount > storage-sold {
		return ErrSoldOut
	}
	return insert(ctx, tx, o)
}

func buyForUpdate(ctx context.Context, pool *pgxpool.Pool, o *Order) error {
	return pgx.BeginFunc(ctx, pool, func(tx pgx.Tx) error { return checkAndInsert(ctx, tx, lockStorage, o) })
}

const moveSold = `
UPDATE products SET sold = sold + $2 WHERE product_id = $1 AND sold + $2 <= amount_in_storage`

func buyConditionally(ctx context.Context, pool *pgxpool.Pool, o *Order) error {
	return pgx.BeginFunc(ctx, pool, func(tx pgx.Tx) error {
		tag, err := tx.Exec(ctx, moveSold, o.Product, o.Amount)
		if err != nil {
			return err
		}
		if tag.RowsAffected() == 0 {
			return ErrSoldOut
		}
		return insert(ctx, tx, o)
	})
}

const moveSoldAndInsert = `
WITH moved AS (
    UPDATE products SET sold = sold + $4 WHERE product_id = $2 AND sold + $4 <= amount_in_storage
    RETURNING product_id
)
INSERT INTO purchases (purchase_id, product_id, request_id, amount, customer_id, state, topology, token)
SELECT $1, product_id, $3, $4, $5, 'confirmed', 0, 0 FROM moved`

// buyInOneStatement is the conditional update in a single round trip.
func buyInOneStatement(ctx context.Context, pool *pgxpool.Pool, o *Order) error {
	tag, err := pool.Exec(ctx, moveSoldAndInsert, newID(), o.Product, o.Request, o.Amount, o.Customer)
	if err == nil && tag.RowsAffected() == 0 {
		return ErrSoldOut
	}
	return err
}

// buySerializable repeats what the database could not put in order, at once, as
// its manual asks for.
func buySerializable(ctx context.Context, pool *pgxpool.Pool, o *Order) error {
	options := pgx.TxOptions{IsoLevel: pgx.Serializable}
	for {
		err := pgx.BeginTxFunc(ctx, pool, options, func(tx pgx.Tx) error {
			return checkAndInsert(ctx, tx, readStorage, o)
		})
		if !isConflict(err) {
			return err
		}
	}
}

func isConflict(err error) bool {
	const serializationFailure, deadlockDetected = "40001", "40P01"
	var refused *pgconn.PgError
	return errors.As(err, &refused) && (refused.Code == serializationFailure || refused.Code == deadlockDetected)
}

const lockAdvisory = `SELECT pg_advisory_xact_lock(hashtextextended($1, 0))`

func buyUnderAdvisoryLock(ctx context.Context, pool *pgxpool.Pool, o *Order) error {
	return pgx.BeginFunc(ctx, pool, func(tx pgx.Tx) error {
		if _, err := tx.Exec(ctx, lockAdvisory, o.Product); err != nil {
			return err
		}
		return checkAndInsert(ctx, tx, readStorage, o)
	})
}
