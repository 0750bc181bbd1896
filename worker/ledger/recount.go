package ledger

import (
	"context"

	"github.com/jackc/pgx/v5"
)

// account is what one shard says of one product.
type account struct {
	ProductID       string
	AmountInStorage *int64 // nil: the shard has no such product
	Purchased       *int64 // nil: the shard has no such fence
	Released        int64
	Taken           int64 // units recounted from rows: all that were ever admitted
	GivenBack       int64 // and all that were given back
	Delivered       int64 // added to the storage
	Missing         int64 // found missing there
	Rows            int64 // purchases
	AboveFence      int64 // purchases whose (topology, token) is above the fence's
	Overdue         int64 // holds whose time was up a minute ago
}

// units are those that customers have.
func (a *account) units() int64 { return a.Taken - a.GivenBack }

// One statement is one snapshot: the running totals and the rows agree in it also while
// sales go on. It is read as it is made, so that neither side has all of it at once; the
// database sorts on its disk.
const selectAccounts = `
SELECT product_id, p.amount_in_storage, f.purchased, coalesce(r.released, 0),
       coalesce(s.taken, 0)::bigint, coalesce(s.given_back, 0)::bigint,
       coalesce(d.delivered, 0)::bigint, coalesce(d.missing, 0)::bigint,
       coalesce(s.rows, 0), coalesce(s.above_fence, 0), coalesce(s.overdue, 0)
  FROM products p
  FULL JOIN fences f USING (product_id)
  FULL JOIN releases r USING (product_id)
  FULL JOIN (SELECT product_id, sum(amount) FILTER (WHERE amount > 0) AS delivered,
                    -sum(amount) FILTER (WHERE amount < 0) AS missing
               FROM deliveries GROUP BY product_id) d USING (product_id)
  FULL JOIN (SELECT u.product_id, sum(u.amount + u.readmitted) AS taken, sum(u.released) AS given_back, count(*) AS rows,
                    count(*) FILTER (WHERE (u.topology, u.token) > (f.topology, f.token)) AS above_fence,
                    count(*) FILTER (WHERE u.state = 'held' AND u.expire_time < now() - interval '1 minute') AS overdue
               FROM purchases u LEFT JOIN fences f USING (product_id)
              GROUP BY u.product_id) s USING (product_id)
 ORDER BY product_id`

const selectTaken = `
SELECT product_id, sum(units)::bigint
  FROM (SELECT product_id, amount + readmitted AS units FROM purchases WHERE product_id = ANY (@product_ids)
        UNION ALL
        SELECT product_id, -amount FROM deliveries WHERE product_id = ANY (@product_ids) AND amount < 0) AS taken
 GROUP BY product_id`

const selectGiven = `
SELECT product_id, sum(units)::bigint
  FROM (SELECT product_id, released AS units FROM purchases WHERE product_id = ANY (@product_ids)
        UNION ALL
        SELECT product_id, amount FROM deliveries WHERE product_id = ANY (@product_ids) AND amount > 0) AS given
 GROUP BY product_id`

const selectEstimates = `
SELECT coalesce(sum(greatest(reltuples, 0)) FILTER (WHERE oid = to_regclass('products')), 0)::bigint,
       coalesce(sum(greatest(reltuples, 0)) FILTER (WHERE oid = to_regclass('purchases')), 0)::bigint
  FROM pg_class WHERE oid IN (to_regclass('products'), to_regclass('purchases'))`

// A recount of many rows takes longer than any sale may, waits for other shards, and reads
// whole tables, which Open keeps the planner from.
const wholeTables = `
SET LOCAL statement_timeout = 0;
SET LOCAL idle_in_transaction_session_timeout = 0;
SET LOCAL enable_seqscan = on;
SET LOCAL enable_hashjoin = on;
SET LOCAL enable_mergejoin = on`

// readAll reads what a statement answers about whole tables.
func (s *Shard) readAll(ctx context.Context, sql string, args pgx.NamedArgs, read func(pgx.Rows) error) error {
	err := pgx.BeginTxFunc(ctx, s.list, pgx.TxOptions{AccessMode: pgx.ReadOnly}, func(tx pgx.Tx) error {
		if _, err := tx.Exec(ctx, wholeTables); err != nil {
			return err
		}
		rows, err := tx.Query(ctx, sql, args)
		if err != nil {
			return err
		}
		return read(rows)
	})
	return s.readError("audit", err)
}

// sums reads units of products, by product.
func (s *Shard) sums(ctx context.Context, sql string, ids []string) (map[string]int64, error) {
	units := map[string]int64{}
	return units, s.readAll(ctx, sql, pgx.NamedArgs{"product_ids": ids}, intoMap(units))
}

// source is a shard that is read product by product.
type source struct {
	shard *Shard
	pages chan []account

	page     []account // what the merge has of it
	progress Progress
}

// pageSize is how many products go from a shard to the merge at once.
const pageSize = 500

// estimate reads how much there is to be read.
func (src *source) estimate(ctx context.Context) error {
	err := src.shard.list.QueryRow(ctx, selectEstimates).Scan(&src.progress.OfProducts, &src.progress.OfPurchases)
	return src.shard.readError("audit", err)
}

// read sends the accounts in the order of their products, and closes the channel.
func (src *source) read(ctx context.Context) error {
	defer close(src.pages)
	return src.shard.readAll(ctx, selectAccounts, pgx.NamedArgs{}, func(rows pgx.Rows) error {
		var page []account
		for rows.Next() {
			a, err := pgx.RowToStructByPos[account](rows)
			if err != nil {
				return err
			}
			if page = append(page, a); len(page) < pageSize {
				continue
			}
			if err := src.send(ctx, page); err != nil {
				return err
			}
			page = nil
		}
		if err := rows.Err(); err != nil {
			return err
		}
		return src.send(ctx, page)
	})
}

func (src *source) send(ctx context.Context, page []account) error {
	select {
	case src.pages <- page:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// head is the shard's next account, nil after the last one. It waits for a page and shows
// how far the shard is when there is none.
func (src *source) head(show func(Progress)) *account {
	for len(src.page) == 0 {
		page, more := <-src.pages
		if !more {
			return nil
		}
		src.page = page
		src.progress.Products += int64(len(page))
		for _, a := range page {
			src.progress.Purchases += a.Rows
		}
		show(src.progress)
	}
	return &src.page[0]
}

// next takes the account that head has shown.
func (src *source) next() account {
	a := src.page[0]
	src.page = src.page[1:]
	return a
}
