package demo

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"golang.org/x/sync/errgroup"
)

// Strategy is how a shop without holdfast guards its check.
type Strategy int

const (
	// NoLock checks and inserts, and hopes.
	NoLock Strategy = iota
	// ForUpdate locks the product's row in the buyer's own database first: what
	// is right in one database, and can lock nothing in the other one.
	ForUpdate
)

func (s Strategy) String() string {
	switch s {
	case NoLock:
		return "check, then insert"
	case ForUpdate:
		return "SELECT … FOR UPDATE"
	}
	return fmt.Sprintf("Strategy(%d)", int(s))
}

// RaceConfig says who races for what. All fields are required but Strategy.
type RaceConfig struct {
	DSNs     map[string]string // one database for each region; the same one may serve several
	Products int               // sold one after the other, to a crowd
	Stock    int64             // units of each product
	Buyers   int               // half of them in each of two regions
	Payment  time.Duration     // between check and insert, at the payment provider
	Strategy Strategy
}

func (c RaceConfig) check() error {
	if len(c.DSNs) == 0 || c.Products <= 0 || c.Stock <= 0 || c.Buyers <= 0 || c.Payment <= 0 {
		return errors.New("race: databases, products, stock, buyers and payment are required")
	}
	if c.Strategy != NoLock && c.Strategy != ForUpdate {
		return fmt.Errorf("race: unknown strategy: %v", c.Strategy)
	}
	return nil
}

// Result is what a race came to, counted from the rows of all databases.
type Result struct {
	Sold               int64   // units; each purchase is of one
	Oversold           int64   // units beyond the stock, over all products
	PurchasesPerSecond float64 // the oversold ones included
}

// Race sells products whose purchases live in several databases the way a shop
// does it without holdfast: in one READ COMMITTED transaction add up the
// purchases of all databases, compare with the amount in storage, let the buyer
// pay, insert the purchase into the database of his region. Every buyer buys
// units of one product until he is told that it is sold out, then of the next.
//
// Nothing in it is slowed down or left out to make it fail: in one database
// ForUpdate never oversells. The tables live in a schema named question, which
// must not exist before and does not exist afterwards.
func Race(ctx context.Context, config RaceConfig) (result Result, err error) {
	if err := config.check(); err != nil {
		return Result{}, err
	}
	r := &race{RaceConfig: config, pools: make(map[string]*pgxpool.Pool)}
	defer r.closePools()
	for _, dsn := range config.DSNs {
		if err := r.openPool(ctx, dsn); err != nil {
			return Result{}, fmt.Errorf("race: open database: %w", err)
		}
	}
	for _, pool := range r.pools {
		if err := r.createQuestion(ctx, pool); err != nil {
			return Result{}, fmt.Errorf("race: create schema question: %w", err)
		}
		defer func() { err = errors.Join(err, dropQuestion(ctx, pool)) }()
	}
	began := time.Now()
	if err := r.runBuyers(ctx); err != nil {
		return Result{}, fmt.Errorf("race: %w", err)
	}
	elapsed := time.Since(began)
	if result, err = r.count(ctx); err != nil {
		return Result{}, fmt.Errorf("race: count purchases: %w", err)
	}
	result.PurchasesPerSecond = float64(result.Sold) / elapsed.Seconds()
	return result, nil
}

type race struct {
	RaceConfig
	pools map[string]*pgxpool.Pool // by DSN: one for each database
}

// openPool gives every buyer a connection to each database. With fewer, buyers
// who hold their own transaction could wait for each other's second connection
// for ever.
func (r *race) openPool(ctx context.Context, dsn string) error {
	if r.pools[dsn] != nil {
		return nil
	}
	config, err := pgxpool.ParseConfig(dsn)
	if err != nil {
		return err
	}
	config.MaxConns = int32(r.Buyers)
	pool, err := pgxpool.NewWithConfig(ctx, config)
	if err != nil {
		return err
	}
	r.pools[dsn] = pool
	return pool.Ping(ctx)
}

func (r *race) closePools() {
	for _, pool := range r.pools {
		pool.Close()
	}
}

const createTables = `
CREATE SCHEMA question;
CREATE TABLE question.products (
	id                bigint PRIMARY KEY,
	amount_in_storage bigint NOT NULL
);
CREATE TABLE question.purchases (
	id          bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
	product_id  bigint NOT NULL REFERENCES question.products,
	customer_id bigint NOT NULL,
	amount      bigint NOT NULL
);
CREATE INDEX ON question.purchases (product_id);`

const createProducts = `
INSERT INTO question.products (id, amount_in_storage)
SELECT id, $2 FROM generate_series(1, $1::bigint) AS id`

// createQuestion makes the tables, and every product in them.
func (r *race) createQuestion(ctx context.Context, pool *pgxpool.Pool) error {
	return pgx.BeginFunc(ctx, pool, func(tx pgx.Tx) error {
		if _, err := tx.Exec(ctx, createTables); err != nil {
			return err
		}
		_, err := tx.Exec(ctx, createProducts, r.Products, r.Stock)
		return err
	})
}

// dropQuestion cleans up after an interrupted race too.
func dropQuestion(ctx context.Context, pool *pgxpool.Pool) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 10*time.Second)
	defer cancel()
	if _, err := pool.Exec(ctx, `DROP SCHEMA question CASCADE`); err != nil {
		return fmt.Errorf("race: drop schema question: %w", err)
	}
	return nil
}

func (r *race) runBuyers(ctx context.Context) error {
	regions := slices.Sorted(maps.Keys(r.DSNs))
	group, ctx := errgroup.WithContext(ctx)
	for buyer := range r.Buyers {
		dsn := r.DSNs[regions[buyer%len(regions)]]
		group.Go(func() error { return r.buyAll(ctx, dsn, buyer) })
	}
	return group.Wait()
}

func (r *race) buyAll(ctx context.Context, dsn string, buyer int) error {
	for product := 1; product <= r.Products; product++ {
		for sold := true; sold; {
			var err error
			if sold, err = r.buy(ctx, dsn, buyer, product); err != nil {
				return fmt.Errorf("buyer %d, product %d: %w", buyer, product, err)
			}
		}
	}
	return nil
}

const (
	lockProduct = `SELECT 1 FROM question.products WHERE id = $1 FOR UPDATE`

	readStorage = `SELECT amount_in_storage FROM question.products WHERE id = $1`

	sumPurchases = `SELECT coalesce(sum(amount), 0)::bigint FROM question.purchases WHERE product_id = $1`

	insertPurchase = `INSERT INTO question.purchases (product_id, customer_id, amount) VALUES ($1, $2, 1)`
)

// buy is the question: one unit, if there is one left over all databases.
func (r *race) buy(ctx context.Context, dsn string, buyer, product int) (sold bool, err error) {
	inReadCommitted := pgx.TxOptions{IsoLevel: pgx.ReadCommitted}
	err = pgx.BeginTxFunc(ctx, r.pools[dsn], inReadCommitted, func(tx pgx.Tx) error {
		if r.Strategy == ForUpdate {
			if _, err := tx.Exec(ctx, lockProduct, product); err != nil {
				return err
			}
		}
		available, err := r.available(ctx, dsn, tx, product)
		if err != nil || available < 1 {
			return err
		}
		if err := r.pay(ctx); err != nil {
			return err
		}
		sold = true
		_, err = tx.Exec(ctx, insertPurchase, product, buyer)
		return err
	})
	return sold, err
}

type querier interface {
	QueryRow(ctx context.Context, sql string, args ...any) pgx.Row
}

// available asks the buyer's own database in his transaction, the others
// beside it.
func (r *race) available(ctx context.Context, dsn string, tx pgx.Tx, product int) (int64, error) {
	var available int64
	if err := tx.QueryRow(ctx, readStorage, product).Scan(&available); err != nil {
		return 0, err
	}
	for each, pool := range r.pools {
		var source querier = pool
		if each == dsn {
			source = tx
		}
		var purchased int64
		if err := source.QueryRow(ctx, sumPurchases, product).Scan(&purchased); err != nil {
			return 0, err
		}
		available -= purchased
	}
	return available, nil
}

func (r *race) pay(ctx context.Context) error {
	select {
	case <-time.After(r.Payment):
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

const purchasedByProduct = `SELECT product_id, sum(amount)::bigint FROM question.purchases GROUP BY product_id`

// count adds up what was sold over all databases.
func (r *race) count(ctx context.Context) (Result, error) {
	purchased := make(map[int64]int64)
	for _, pool := range r.pools {
		rows, err := pool.Query(ctx, purchasedByProduct)
		if err != nil {
			return Result{}, err
		}
		var product, amount int64
		if _, err := pgx.ForEachRow(rows, []any{&product, &amount}, func() error {
			purchased[product] += amount
			return nil
		}); err != nil {
			return Result{}, err
		}
	}
	var result Result
	for _, amount := range purchased {
		result.Sold += amount
		result.Oversold += max(0, amount-r.Stock)
	}
	return result, nil
}
