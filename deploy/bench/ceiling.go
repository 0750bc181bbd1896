package bench

import (
	"context"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
)

// bulkRows are the rows of one transaction at the ceiling: as many as holdfast
// puts into one batch at most.
const bulkRows = 1000

// bulk is the ceiling in its two forms. Two connections, so that one makes its
// rows while the other's are synced.
func bulk(int) []candidate {
	return []candidate{
		{buyers: 2, batch: bulkRows, form: "COPY", open: newCeiling(copyRows)},
		{buyers: 2, batch: bulkRows, form: "unnest", open: newCeiling(insertRows)},
	}
}

// unchecked stores rows and checks nothing. Like one database's strategies it
// stores them all in the first shard.
type unchecked struct {
	tables
	pool  *pgxpool.Pool
	rows  []*bulkColumns // by buyer
	store func(ctx context.Context, pool *pgxpool.Pool, rows *bulkColumns) error
}

// bulkColumns are the orders of one call as columns, reused from call to call.
type bulkColumns struct {
	ids                          []uuid.UUID
	products, requests, customer []string
	amounts                      []int64
}

func newCeiling(store func(context.Context, *pgxpool.Pool, *bulkColumns) error) func(*servers) Strategy {
	return func(s *servers) Strategy { return &unchecked{tables: s.tablesOf(ceiling), store: store} }
}

func (u *unchecked) Prepare(ctx context.Context, buyers int) (err error) {
	u.rows = make([]*bulkColumns, buyers)
	for i := range u.rows {
		u.rows[i] = &bulkColumns{}
	}
	u.pool, err = u.open(ctx, u.servers.shards[0], buyers)
	return err
}

func (u *unchecked) Buy(ctx context.Context, buyer int, orders []Order, outcomes []error) {
	err := u.store(ctx, u.pool, u.rows[buyer].fill(orders))
	for i := range outcomes {
		outcomes[i] = err
	}
}

func (u *unchecked) Close() {
	if u.pool != nil {
		u.pool.Close()
	}
}

func (c *bulkColumns) fill(orders []Order) *bulkColumns {
	c.ids, c.products, c.requests = c.ids[:0], c.products[:0], c.requests[:0]
	c.customer, c.amounts = c.customer[:0], c.amounts[:0]
	for i := range orders {
		o := &orders[i]
		c.ids, c.products, c.requests = append(c.ids, newID()), append(c.products, o.Product), append(c.requests, o.Request)
		c.customer, c.amounts = append(c.customer, o.Customer), append(c.amounts, o.Amount)
	}
	return c
}

// Strings for the columns that every row has alike: COPY has no constants.
func copyRows(ctx context.Context, pool *pgxpool.Pool, c *bulkColumns) error {
	columns := []string{"purchase_id", "product_id", "request_id", "amount", "customer_id", "state", "topology", "token"}
	row := make([]any, len(columns))
	_, err := pool.CopyFrom(ctx, pgx.Identifier{"purchases"}, columns,
		pgx.CopyFromSlice(len(c.ids), func(i int) ([]any, error) {
			row[0], row[1], row[2], row[3] = c.ids[i], c.products[i], c.requests[i], c.amounts[i]
			row[4], row[5], row[6], row[7] = c.customer[i], "confirmed", int64(0), int64(0)
			return row, nil
		}))
	return err
}

const insertBulk = `
INSERT INTO purchases (purchase_id, product_id, request_id, amount, customer_id, state, topology, token)
SELECT *, 'confirmed', 0, 0
  FROM unnest($1::uuid[], $2::text[], $3::text[], $4::bigint[], $5::text[])`

func insertRows(ctx context.Context, pool *pgxpool.Pool, c *bulkColumns) error {
	_, err := pool.Exec(ctx, insertBulk, c.ids, c.products, c.requests, c.amounts, c.customer)
	return err
}
