package ledger

import (
	"context"
	"fmt"
	"iter"
	"maps"
	"slices"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
)

// Check asks whether a tenure is current and, when RequestID is set, what
// became of an earlier request of its product, and when CustomerID is set, what that
// customer has of it.
type Check struct {
	ProductID  string
	TenureID   uuid.UUID
	RequestID  string
	CustomerID string
}

// Customer is what the shard has stored of one product for one customer.
type Customer struct {
	Taken    int64 // units ever admitted
	Released int64 // units given back
}

// Checked answers a Check.
type Checked struct {
	Current  bool  // the fence is still the tenure's
	Released int64 // units that the shard has given back to the product's stock
	Customer Customer
	First    *Purchase // the earlier purchase with that request id, or nil
}

const purchaseColumns = `
p.purchase_id, p.product_id, p.request_id, p.amount, p.customer_id, p.payment_method, p.state, p.create_time,
p.expire_time, p.released, p.readmitted, p.order_id, p.unit_price`

const selectCustomers = `
SELECT c.product_id, c.customer_id, sum(p.amount + p.readmitted)::bigint, sum(p.released)::bigint
  FROM unnest(@customer_products::text[], @customer_ids::text[]) AS c (product_id, customer_id)
  JOIN purchases p ON p.customer_id = ANY (ARRAY[c.customer_id]) AND p.product_id = c.product_id
 GROUP BY c.product_id, c.customer_id`

const selectReleased = `
SELECT r.product_id, r.released
  FROM unnest(@distinct_ids::text[]) AS c (product_id) JOIN releases r ON r.product_id = ANY (ARRAY[c.product_id])`

const verifyFences = `
SELECT f.tenure_id IS NOT DISTINCT FROM c.tenure_id
  FROM unnest(@product_ids::text[], @tenure_ids::uuid[]) WITH ORDINALITY AS c (product_id, tenure_id, n)
  LEFT JOIN fences f ON f.product_id = ANY (ARRAY[c.product_id])
 ORDER BY c.n`

const firstOutcomes = `
SELECT` + purchaseColumns + `
  FROM unnest(@product_ids::text[], @request_ids::text[]) AS c (product_id, request_id)
  JOIN purchases p ON p.product_id = ANY (ARRAY[c.product_id]) AND p.request_id = c.request_id`

// Verify answers the checks, in their order. A tenure that is current here was
// current when the read began: a newer one fences every shard before it does
// anything, so one shard is enough to ask. This is the ReadIndex of Raft
// (Ongaro, "Consensus: Bridging Theory and Practice", 6.4) with a fence for a
// quorum.
//
// First outcomes are read after the fences, by a newer snapshot: what an older
// tenure committed before it was fenced is seen.
//
// Holds of these products whose time is up are expired first, so that nobody is told that
// the units are not there which they have.
func (s *Shard) Verify(ctx context.Context, checks []Check) ([]Checked, error) {
	n := len(checks)
	products, tenures, requests := make([]string, n), make(uuids, n), make([]string, n)
	distinct := make(map[string]int64, n) // products, with what was given back
	for i, c := range checks {
		products[i], tenures[i], requests[i] = c.ProductID, c.TenureID, c.RequestID
		distinct[c.ProductID] = 0
	}
	if err := s.expireDue(ctx, slices.Sorted(maps.Keys(distinct))); err != nil {
		return nil, s.readError("verify", err)
	}
	args := pgx.NamedArgs{
		"product_ids": products, "tenure_ids": tenures, "request_ids": requests,
		"distinct_ids": slices.Sorted(maps.Keys(distinct)),
	}
	answers := make([]Checked, 0, n)
	first := map[[2]string]*Purchase{}
	batch := &pgx.Batch{}
	batch.Queue(verifyFences, args).Query(func(rows pgx.Rows) error {
		var current bool
		_, err := pgx.ForEachRow(rows, []any{&current}, func() error {
			answers = append(answers, Checked{Current: current})
			return nil
		})
		return err
	})
	batch.Queue(firstOutcomes, args).Query(func(rows pgx.Rows) error {
		found, err := pgx.CollectRows(rows, pgx.RowToAddrOfStructByPos[Purchase])
		for _, p := range found {
			first[[2]string{p.ProductID, p.RequestID}] = p
		}
		return err
	})
	batch.Queue(selectReleased, args).Query(intoMap(distinct))
	customers := queueCustomers(batch, checks)
	if err := s.pool.SendBatch(ctx, batch).Close(); err != nil {
		return nil, s.readError("verify", err)
	}
	for i, c := range checks {
		answers[i].First = first[[2]string{c.ProductID, c.RequestID}]
		answers[i].Released = distinct[c.ProductID]
		answers[i].Customer = customers[[2]string{c.ProductID, c.CustomerID}]
	}
	return answers, nil
}

// queueCustomers has a batch read what the customers of the checks have, each once. The
// answer is there when the batch has ended.
func queueCustomers(batch *pgx.Batch, checks []Check) map[[2]string]Customer {
	customers := map[[2]string]Customer{}
	var products, ids []string
	for _, c := range checks {
		key := [2]string{c.ProductID, c.CustomerID}
		if _, queued := customers[key]; c.CustomerID != "" && !queued {
			customers[key] = Customer{}
			products, ids = append(products, c.ProductID), append(ids, c.CustomerID)
		}
	}
	if len(ids) == 0 {
		return customers
	}
	args := pgx.NamedArgs{"customer_products": products, "customer_ids": ids}
	batch.Queue(selectCustomers, args).Query(func(rows pgx.Rows) error {
		var product, id string
		var c Customer
		_, err := pgx.ForEachRow(rows, []any{&product, &id, &c.Taken, &c.Released}, func() error {
			customers[[2]string{product, id}] = c
			return nil
		})
		return err
	})
	return customers
}

// Product reads one product. It returns ErrNotFound when this shard has none.
func (s *Shard) Product(ctx context.Context, productID string) (*Product, error) {
	products, err := s.TheseProducts(ctx, []string{productID})
	if err == nil && products[0] == nil {
		err = s.readError("read product", pgx.ErrNoRows)
	}
	if err != nil {
		return nil, err
	}
	return products[0], nil
}

// TheseProducts reads products, in the order of the ids; nil for those that the shard
// does not know.
func (s *Shard) TheseProducts(ctx context.Context, ids []string) ([]*Product, error) {
	rows, _ := s.pool.Query(ctx, selectTheseProducts, pgx.NamedArgs{"product_ids": ids})
	found, err := pgx.CollectRows(rows, pgx.RowToAddrOfStructByPos[Product])
	if err != nil {
		return nil, s.readError("read products", err)
	}
	byID := make(map[string]*Product, len(found))
	for _, p := range found {
		byID[p.ProductID] = p
	}
	products := make([]*Product, len(ids))
	for i, id := range ids {
		products[i] = byID[id]
	}
	return products, nil
}

const selectProducts = `
SELECT product_id, amount_in_storage, create_time, max_per_customer, max_per_purchase FROM products
 WHERE product_id > @after ORDER BY product_id LIMIT @limit`

// Products reads the next products after an id, in order of id.
func (s *Shard) Products(ctx context.Context, after string, limit int) ([]Product, error) {
	rows, _ := s.list.Query(ctx, selectProducts, pgx.NamedArgs{"after": after, "limit": limit})
	products, err := pgx.CollectRows(rows, pgx.RowToStructByPos[Product])
	return products, s.readError("list products", err)
}

const selectTotals = `
SELECT f.product_id, f.purchased - coalesce(r.released, 0)
  FROM fences f LEFT JOIN releases r ON r.product_id = f.product_id
 WHERE f.product_id = ANY(@product_ids)`

// Totals reads the units that this shard has sold of each product, less those that it has
// given back.
func (s *Shard) Totals(ctx context.Context, productIDs []string) (map[string]int64, error) {
	totals := make(map[string]int64, len(productIDs))
	rows, err := s.pool.Query(ctx, selectTotals, pgx.NamedArgs{"product_ids": productIDs})
	if err == nil {
		err = intoMap(totals)(rows)
	}
	return totals, s.readError("read totals", err)
}

// intoMap reads rows of an id and an amount.
func intoMap(amounts map[string]int64) func(pgx.Rows) error {
	return func(rows pgx.Rows) error {
		var (
			id     string
			amount int64
		)
		_, err := pgx.ForEachRow(rows, []any{&id, &amount}, func() error { amounts[id] = amount; return nil })
		return err
	}
}

const selectPurchase = `SELECT` + purchaseColumns + ` FROM purchases p WHERE p.purchase_id = @purchase_id`

// Purchase reads one purchase. It returns ErrNotFound when there is none.
func (s *Shard) Purchase(ctx context.Context, id uuid.UUID) (*Purchase, error) {
	rows, _ := s.pool.Query(ctx, selectPurchase, pgx.NamedArgs{"purchase_id": id})
	p, err := pgx.CollectExactlyOneRow(rows, pgx.RowToAddrOfStructByPos[Purchase])
	return p, s.readError("read purchase", err)
}

// Filter selects purchases; an empty field selects all.
type Filter struct{ ProductID, CustomerID string }

const selectPurchases = `SELECT` + purchaseColumns + ` FROM purchases p
 WHERE p.purchase_id > @after
   AND (@product_id::text = '' OR p.product_id = @product_id)
   AND (@customer_id::text = '' OR p.customer_id = @customer_id)
 ORDER BY p.purchase_id LIMIT @limit`

// Purchases reads the next purchases after an id, in order of id.
func (s *Shard) Purchases(ctx context.Context, f Filter, after uuid.UUID, limit int) ([]Purchase, error) {
	rows, _ := s.list.Query(ctx, selectPurchases, pgx.NamedArgs{
		"after": after, "limit": limit, "product_id": f.ProductID, "customer_id": f.CustomerID,
	})
	purchases, err := pgx.CollectRows(rows, pgx.RowToStructByPos[Purchase])
	return purchases, s.readError("list purchases", err)
}

// AllPurchases reads every purchase of the shard, a page at a time.
func (s *Shard) AllPurchases(ctx context.Context) iter.Seq2[Purchase, error] {
	const page = 5000
	return func(yield func(Purchase, error) bool) {
		var after uuid.UUID
		for {
			purchases, err := s.Purchases(ctx, Filter{}, after, page)
			if err != nil {
				yield(Purchase{}, fmt.Errorf("read all purchases: %w", err))
				return
			}
			for _, p := range purchases {
				if !yield(p, nil) {
					return
				}
			}
			if len(purchases) < page {
				return
			}
			after = purchases[page-1].PurchaseID
		}
	}
}
