package ledger

import (
	"context"
	"fmt"

	"github.com/jackc/pgx/v5"
	"golang.org/x/sync/errgroup"
)

// Finding is what an audit has against one product.
type Finding struct {
	ProductID string
	Shard     string // empty when it concerns all shards together
	Problem   string
}

// AuditReport is a recount of all shards.
type AuditReport struct {
	Products  int64 // known to any shard
	Purchases int64 // rows on all shards
	Units     int64 // units purchased on all shards
	Oversold  int64 // units sold beyond the storage, over all products
	Findings  []Finding
}

// Clean reports whether nothing was found.
func (r *AuditReport) Clean() bool { return r.Oversold == 0 && len(r.Findings) == 0 }

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
}

// units are those that customers have.
func (a *account) units() int64 { return a.Taken - a.GivenBack }

// One statement is one snapshot: the running totals and the rows agree in it
// also while sales go on.
const selectAccounts = `
SELECT product_id, p.amount_in_storage, f.purchased, coalesce(r.released, 0),
       coalesce(s.taken, 0)::bigint, coalesce(s.given_back, 0)::bigint,
       coalesce(d.delivered, 0)::bigint, coalesce(d.missing, 0)::bigint,
       coalesce(s.rows, 0), coalesce(s.above_fence, 0)
  FROM products p
  FULL JOIN fences f USING (product_id)
  FULL JOIN releases r USING (product_id)
  FULL JOIN (SELECT product_id, sum(amount) FILTER (WHERE amount > 0) AS delivered,
                    -sum(amount) FILTER (WHERE amount < 0) AS missing
               FROM deliveries GROUP BY product_id) d USING (product_id)
  FULL JOIN (SELECT u.product_id, sum(u.amount + u.readmitted) AS taken, sum(u.released) AS given_back, count(*) AS rows,
                    count(*) FILTER (WHERE (u.topology, u.token) > (f.topology, f.token)) AS above_fence
               FROM purchases u LEFT JOIN fences f USING (product_id)
              GROUP BY u.product_id) s USING (product_id)`

// A recount of many rows takes longer than any sale may, and reads whole tables,
// which Open keeps the planner from.
const wholeTables = `
SET LOCAL statement_timeout = 0;
SET LOCAL enable_seqscan = on;
SET LOCAL enable_hashjoin = on;
SET LOCAL enable_mergejoin = on`

func (s *Shard) accounts(ctx context.Context) ([]account, error) {
	tx, err := s.list.Begin(ctx)
	if err != nil {
		return nil, s.readError("audit", err)
	}
	defer tx.Rollback(context.WithoutCancel(ctx)) //nolint:errcheck // the transaction only reads
	if _, err := tx.Exec(ctx, wholeTables); err != nil {
		return nil, s.readError("audit", err)
	}
	rows, _ := tx.Query(ctx, selectAccounts)
	accounts, err := pgx.CollectRows(rows, pgx.RowToStructByPos[account])
	return accounts, s.readError("audit", err)
}

// Audit recounts every shard from its rows and holds the sums against the
// storage, the running totals and the fences. It may run while sales go on, but what it
// calls oversold need not be then: units that one shard has given back while it was read
// may have been sold by another one.
func Audit(ctx context.Context, shards []*Shard) (*AuditReport, error) {
	perShard := make([][]account, len(shards))
	g, gctx := errgroup.WithContext(ctx)
	for i, s := range shards {
		g.Go(func() (err error) {
			perShard[i], err = s.accounts(gctx)
			return err
		})
	}
	if err := g.Wait(); err != nil {
		return nil, err
	}
	report := &AuditReport{}
	union := map[string]*stock{}
	for i, s := range shards {
		for _, a := range perShard[i] {
			report.addAccount(s.name, a, union)
		}
	}
	for id, st := range union {
		report.addStock(id, st)
	}
	return report, nil
}

// stock is what all shards say of one product.
type stock struct{ storage, delivered, units int64 }

func (r *AuditReport) addAccount(shard string, a account, union map[string]*stock) {
	st := union[a.ProductID]
	if st == nil {
		st = &stock{}
		union[a.ProductID] = st
	}
	st.units += a.units()
	st.delivered += a.Delivered - a.Missing
	r.Purchases += a.Rows
	r.Units += a.units()
	found := func(format string, args ...any) {
		r.Findings = append(r.Findings, Finding{a.ProductID, shard, fmt.Sprintf(format, args...)})
	}
	switch {
	case a.AmountInStorage == nil:
	case st.storage == 0:
		st.storage = *a.AmountInStorage
	case st.storage != *a.AmountInStorage:
		found("amount_in_storage is %d here and %d elsewhere", *a.AmountInStorage, st.storage)
	}
	switch {
	case a.Purchased == nil && a.Rows > 0:
		found("%d purchases without a fence", a.Rows)
	case a.Purchased != nil && *a.Purchased != a.Taken+a.Missing:
		found("running total %d, but the rows sum to %d", *a.Purchased, a.Taken+a.Missing)
	}
	if given := a.GivenBack + a.Delivered; a.Released != given {
		found("running total of what was given back %d, but the rows sum to %d", a.Released, given)
	}
	if a.AboveFence > 0 {
		found("%d purchases carry a token above the fence's", a.AboveFence)
	}
}

func (r *AuditReport) addStock(id string, st *stock) {
	if st.storage > 0 {
		r.Products++
	}
	if st.storage == 0 && st.units > 0 {
		r.Findings = append(r.Findings, Finding{id, "", "purchases of a product that no shard knows"})
	}
	if over := st.units - st.storage - st.delivered; over > 0 {
		r.Oversold += over
		r.Findings = append(r.Findings, Finding{id, "", fmt.Sprintf("oversold by %d units", over)})
	}
}
