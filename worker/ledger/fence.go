package ledger

import (
	"context"
	"fmt"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
)

// Fence names one tenure of one product.
type Fence struct {
	ProductID string
	Topology  int64
	Token     int64
	TenureID  uuid.UUID
}

// Product is an id and an amount that never changes, nor do its limits.
type Product struct {
	ProductID       string
	AmountInStorage int64
	CreateTime      time.Time
	MaxPerCustomer  *int64 // units that one customer may have; nil when there is no limit
	MaxPerPurchase  *int64
}

// Raised is what a shard answers to a tenure.
type Raised struct {
	Fenced    bool     // the shard knows a newer tenure; nothing else is set
	Purchased int64    // units sold by this shard up to now
	Released  int64    // units that it has given back, perhaps more by now
	Product   *Product // nil when the shard does not know the product yet
}

// The comparison is strict: an equal token of another tenure is refused. The
// second alternative admits the same tenure again, whose first answer was lost.
//
// Each row is compared and read in its newest version, whatever the statement's
// snapshot says, and locked in product order, as by those who commit.
const raiseFences = `
INSERT INTO fences AS f (product_id, topology, token, tenure_id)
SELECT product_id, topology, token, tenure_id
  FROM unnest(@product_ids::text[], @topologies::bigint[], @tokens::bigint[], @tenure_ids::uuid[])
       AS mine (product_id, topology, token, tenure_id)
 ORDER BY product_id COLLATE "C"
ON CONFLICT (product_id) DO UPDATE
   SET topology = EXCLUDED.topology, token = EXCLUDED.token, tenure_id = EXCLUDED.tenure_id
 WHERE (f.topology, f.token) < (EXCLUDED.topology, EXCLUDED.token)
    OR (f.topology, f.token, f.tenure_id) = (EXCLUDED.topology, EXCLUDED.token, EXCLUDED.tenure_id)
RETURNING product_id, purchased`

const selectTheseProducts = `
SELECT product_id, amount_in_storage, create_time, max_per_customer, max_per_purchase
  FROM products WHERE product_id = ANY(@product_ids)`

// Raise is RaiseAll for one tenure. It returns ErrFenced when the shard knows a newer
// one.
func (s *Shard) Raise(ctx context.Context, f Fence) (Raised, error) {
	raised, err := s.RaiseAll(ctx, []Fence{f})
	switch {
	case err != nil:
		return Raised{}, err
	case raised[0].Fenced:
		return Raised{}, fmt.Errorf("shard %s: raise fence: %w", s.name, ErrFenced)
	}
	return raised[0], nil
}

// RaiseAll makes each tenure its product's newest in this shard, unless the shard
// knows a newer one. Once it returns, no older tenure can change anything of these
// products here. It answers in the order of the fences, whose products must be
// different ones. It may be repeated after an error; a *RefusedError may be the
// fault of one product alone.
//
// The products are read by a statement of their own after the fences: read in the
// same statement, they would be as old as the statement's start, and a product
// created while a fence waited for its row would be missed.
func (s *Shard) RaiseAll(ctx context.Context, fences []Fence) ([]Raised, error) {
	n := len(fences)
	ids, tenures := make([]string, n), make(uuids, n)
	topologies, tokens := make([]int64, n), make([]int64, n)
	raised := make(map[string]*Raised, n)
	for i, f := range fences {
		ids[i], topologies[i], tokens[i], tenures[i] = f.ProductID, f.Topology, f.Token, f.TenureID
		raised[f.ProductID] = &Raised{Fenced: true}
	}
	released := make(map[string]int64, n)
	args := pgx.NamedArgs{
		"product_ids": ids, "topologies": topologies, "tokens": tokens, "tenure_ids": tenures, "distinct_ids": ids,
	}
	batch := &pgx.Batch{}
	batch.Queue(raiseFences, args).Query(func(rows pgx.Rows) error {
		var id string
		var purchased int64
		_, err := pgx.ForEachRow(rows, []any{&id, &purchased}, func() error {
			*raised[id] = Raised{Purchased: purchased}
			return nil
		})
		return err
	})
	batch.Queue(selectTheseProducts, args).Query(func(rows pgx.Rows) error {
		products, err := pgx.CollectRows(rows, pgx.RowToAddrOfStructByPos[Product])
		for _, p := range products {
			raised[p.ProductID].Product = p
		}
		return err
	})
	batch.Queue(selectReleased, args).Query(intoMap(released))
	if err := s.pool.SendBatch(ctx, batch).Close(); err != nil {
		return nil, fmt.Errorf("shard %s: raise fences: %w", s.name, commitError(err))
	}
	answers := make([]Raised, n)
	for i, id := range ids {
		answers[i] = *raised[id]
		if !answers[i].Fenced {
			answers[i].Released = released[id]
		}
	}
	return answers, nil
}

// Put is a product to be stored under a tenure's fence.
type Put struct {
	Fence   Fence
	Product Product
}

// The row locks on the fences order this against a newer tenure's Raise.
const insertProducts = `
WITH mine AS (
    SELECT p.*
      FROM unnest(@product_ids::text[], @tenure_ids::uuid[], @amounts::bigint[], @create_times::timestamptz[],
                  @customer_limits::bigint[], @purchase_limits::bigint[])
           AS p (product_id, tenure_id, amount_in_storage, create_time, max_per_customer, max_per_purchase)
      JOIN fences f ON f.product_id = ANY (ARRAY[p.product_id]) AND f.tenure_id = p.tenure_id
     ORDER BY f.product_id
       FOR UPDATE OF f
), inserted AS (
    INSERT INTO products (product_id, amount_in_storage, create_time, max_per_customer, max_per_purchase)
    SELECT product_id, amount_in_storage, create_time, max_per_customer, max_per_purchase FROM mine
    ON CONFLICT (product_id) DO NOTHING
)
SELECT product_id FROM mine`

// PutProduct is PutProducts for one. It returns ErrFenced when a newer tenure is known.
func (s *Shard) PutProduct(ctx context.Context, f Fence, p Product) error {
	stored, err := s.PutProducts(ctx, []Put{{f, p}})
	if err == nil && !stored[0] {
		err = fmt.Errorf("shard %s: put product: %w", s.name, ErrFenced)
	}
	return err
}

// PutProducts stores each product under its tenure's fence, unless the shard has it. It
// answers, in their order, false for those of which a newer tenure is known; their
// products must be different ones. It may be repeated after an error; a *RefusedError
// may be the fault of one product alone.
func (s *Shard) PutProducts(ctx context.Context, puts []Put) ([]bool, error) {
	n := len(puts)
	ids, tenures := make([]string, n), make(uuids, n)
	amounts, times := make([]int64, n), make([]time.Time, n)
	perCustomer, perPurchase := make([]*int64, n), make([]*int64, n)
	for i, p := range puts {
		ids[i], tenures[i] = p.Fence.ProductID, p.Fence.TenureID
		amounts[i], times[i] = p.Product.AmountInStorage, p.Product.CreateTime
		perCustomer[i], perPurchase[i] = p.Product.MaxPerCustomer, p.Product.MaxPerPurchase
	}
	rows, err := s.pool.Query(ctx, insertProducts, pgx.NamedArgs{
		"product_ids": ids, "tenure_ids": tenures, "amounts": amounts, "create_times": times,
		"customer_limits": perCustomer, "purchase_limits": perPurchase,
	})
	if err != nil {
		return nil, fmt.Errorf("shard %s: put products: %w", s.name, commitError(err))
	}
	mine, err := pgx.CollectRows(rows, pgx.RowTo[string])
	if err != nil {
		return nil, fmt.Errorf("shard %s: put products: %w", s.name, commitError(err))
	}
	stored := make(map[string]bool, len(mine))
	for _, id := range mine {
		stored[id] = true
	}
	answers := make([]bool, n)
	for i, id := range ids {
		answers[i] = stored[id]
	}
	return answers, nil
}
