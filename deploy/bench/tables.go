package bench

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
)

// tables are those of one usual strategy: a schema of its own in each shard's
// database, with the columns and indexes that holdfast's tables have.
type tables struct {
	servers *servers
	schema  string
}

func (s *servers) tablesOf(strategy string) tables {
	return tables{servers: s, schema: "bench_" + strings.ReplaceAll(strategy, "-", "_")}
}

// What a conditional update keeps in the product's row is moved by every
// purchase, so the row gets the room that holdfast gives its running totals.
const createTables = `
DROP SCHEMA IF EXISTS %[1]s CASCADE;
CREATE SCHEMA %[1]s;
CREATE TABLE %[1]s.products (LIKE products INCLUDING ALL, sold bigint NOT NULL DEFAULT 0) WITH (fillfactor = 50);
CREATE TABLE %[1]s.purchases (LIKE purchases INCLUDING ALL);
ALTER TABLE %[1]s.purchases ALTER tenure_id SET DEFAULT '` + noTenure + `'`

// noTenure is stored where holdfast stores its tenure: the rows are the same size.
const noTenure = "00000000-0000-0000-0000-000000000000"

// create makes the tables anew on every shard.
func (t tables) create(ctx context.Context) error {
	return t.onEveryShard(ctx, "create tables", createTables)
}

func (t tables) drop(ctx context.Context) error {
	return t.onEveryShard(ctx, "drop tables", "DROP SCHEMA IF EXISTS %[1]s CASCADE")
}

func (t tables) onEveryShard(ctx context.Context, action, sql string) error {
	for _, shard := range t.servers.shards {
		if err := t.servers.exec(ctx, shard, fmt.Sprintf(sql, t.schema)); err != nil {
			return fmt.Errorf("%s %s on %s: %w", action, t.schema, shard, err)
		}
	}
	return nil
}

// open connects to a shard's database with room for so many buyers, each of whom
// gets a connection, made before anything is measured.
func (t tables) open(ctx context.Context, shard string, buyers int) (*pgxpool.Pool, error) {
	return openPool(ctx, t.servers.dsns[shard], t.schema, buyers)
}

func openPool(ctx context.Context, dsn, schema string, conns int) (*pgxpool.Pool, error) {
	config, err := pgxpool.ParseConfig(dsn)
	if err != nil {
		return nil, err
	}
	config.MaxConns, config.MinConns = int32(conns), int32(conns)
	if schema != "" {
		config.ConnConfig.RuntimeParams["search_path"] = schema + ", public"
	}
	pool, err := pgxpool.NewWithConfig(ctx, config)
	if err != nil {
		return nil, err
	}
	if err := fill(ctx, pool, conns); err != nil {
		pool.Close()
		return nil, err
	}
	return pool, nil
}

// fill makes all connections of a pool.
func fill(ctx context.Context, pool *pgxpool.Pool, conns int) error {
	held := make([]*pgxpool.Conn, 0, conns)
	defer func() {
		for _, conn := range held {
			conn.Release()
		}
	}()
	for range conns {
		conn, err := pool.Acquire(ctx)
		if err != nil {
			return err
		}
		held = append(held, conn)
	}
	return nil
}

// product is what is sold.
type product struct {
	id      string
	storage int64
}

const insertProducts = `
INSERT INTO products (product_id, amount_in_storage)
SELECT * FROM unnest(@ids::text[], @storages::bigint[]) ON CONFLICT (product_id) DO NOTHING`

// stock stores products on every shard.
func (t tables) stock(ctx context.Context, products []product) error {
	return t.servers.eachShard(ctx, t.schema, func(conn *pgx.Conn, _ string) error {
		_, err := conn.Exec(ctx, insertProducts, productColumns(products))
		return err
	})
}

func productColumns(products []product) pgx.NamedArgs {
	ids, storages := make([]string, len(products)), make([]int64, len(products))
	for i, p := range products {
		ids[i], storages[i] = p.id, p.storage
	}
	return pgx.NamedArgs{"ids": ids, "storages": storages}
}

// past is what a product has sold before.
type past struct {
	product   string
	purchases int
	run       int64 // seconds since 1970: no two runs store the same ids
}

func (h past) args() pgx.NamedArgs {
	return pgx.NamedArgs{"id": h.product, "purchases": h.purchases, "run": h.run}
}

// The ids of earlier purchases are in the order of their time, as those of
// holdfast are.
const insertHistory = `
INSERT INTO purchases (purchase_id, product_id, request_id, amount, customer_id, state, topology, token, tenure_id)
SELECT (lpad(to_hex(@run::bigint), 8, '0') || '-0000-7000-8000-' || lpad(to_hex(n), 12, '0'))::uuid,
       @id, 'history-' || n, 1, 'customer-' || n % 10000, 'confirmed', 0, 0, '` + noTenure + `'
  FROM generate_series(1, @purchases::bigint) AS n`

// remember stores earlier purchases of a product on the first shard.
func (t tables) remember(ctx context.Context, h past) error {
	return t.servers.withConn(ctx, t.servers.shards[0], t.schema, func(conn *pgx.Conn) error {
		_, historyErr := conn.Exec(ctx, insertHistory, h.args())
		_, soldErr := conn.Exec(ctx, `UPDATE products SET sold = @purchases WHERE product_id = @id`, h.args())
		_, vacuumErr := conn.Exec(ctx, `VACUUM (ANALYZE) purchases`)
		return errors.Join(historyErr, soldErr, vacuumErr)
	})
}

const selectSold = `
SELECT product_id, p.amount_in_storage, coalesce(s.units, 0)::bigint
  FROM products p
  LEFT JOIN (SELECT product_id, sum(amount) AS units FROM purchases GROUP BY product_id) s USING (product_id)`

// oversold recounts the rows of all shards: the units sold beyond the storage.
func (t tables) oversold(ctx context.Context) (oversold int64, err error) {
	left := map[string]int64{}
	for i, shard := range t.servers.shards {
		err := t.servers.withConn(ctx, shard, t.schema, func(conn *pgx.Conn) error {
			var (
				id             string
				storage, units int64
			)
			rows, _ := conn.Query(ctx, selectSold)
			_, err := pgx.ForEachRow(rows, []any{&id, &storage, &units}, func() error {
				if i == 0 {
					left[id] = storage
				}
				left[id] -= units
				return nil
			})
			return err
		})
		if err != nil {
			return 0, fmt.Errorf("recount %s on %s: %w", t.schema, shard, err)
		}
	}
	for _, units := range left {
		oversold += max(0, -units)
	}
	return oversold, nil
}

// newID makes the id of a purchase as a worker does, in the order of time.
func newID() uuid.UUID { return uuid.Must(uuid.NewV7()) }
