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

// Product is an id and an amount that never changes.
type Product struct {
	ProductID       string
	AmountInStorage int64
	CreateTime      time.Time
}

// Raised is what a shard answers to a tenure that it accepts.
type Raised struct {
	Purchased int64    // units sold by this shard up to now
	Product   *Product // nil when the shard does not know the product yet
}

// The comparison is strict: an equal token of another tenure is refused. The
// second alternative admits the same tenure again, whose first answer was lost.
const raiseFence = `
INSERT INTO fences AS f (product_id, topology, token, tenure_id)
VALUES (@product_id, @topology, @token, @tenure_id)
ON CONFLICT (product_id) DO UPDATE
   SET topology = EXCLUDED.topology, token = EXCLUDED.token, tenure_id = EXCLUDED.tenure_id
 WHERE (f.topology, f.token) < (EXCLUDED.topology, EXCLUDED.token)
    OR (f.topology, f.token, f.tenure_id) = (EXCLUDED.topology, EXCLUDED.token, EXCLUDED.tenure_id)
RETURNING purchased`

const selectProduct = `
SELECT product_id, amount_in_storage, create_time FROM products WHERE product_id = @product_id`

// Raise makes the tenure the product's newest in this shard. Once it returns
// nil, no older tenure can change anything of the product here. It returns
// ErrFenced when the shard knows a newer tenure. It may be repeated after any
// other error.
//
// The product is read by a statement of its own after the fence: read in the
// same statement, it would be as old as the statement's start, and a product
// created while the fence waited for its row would be missed.
func (s *Shard) Raise(ctx context.Context, f Fence) (Raised, error) {
	args := pgx.NamedArgs{
		"product_id": f.ProductID, "topology": f.Topology, "token": f.Token, "tenure_id": f.TenureID,
	}
	var raised Raised
	batch := &pgx.Batch{}
	batch.Queue(raiseFence, args).QueryRow(func(row pgx.Row) error {
		return row.Scan(&raised.Purchased)
	})
	batch.Queue(selectProduct, pgx.NamedArgs{"product_id": f.ProductID}).Query(func(rows pgx.Rows) error {
		products, err := pgx.CollectRows(rows, pgx.RowToAddrOfStructByPos[Product])
		if len(products) == 1 {
			raised.Product = products[0]
		}
		return err
	})
	err := s.pool.SendBatch(ctx, batch).Close()
	if isNoRows(err) {
		return Raised{}, fmt.Errorf("shard %s: raise fence: %w", s.name, ErrFenced)
	}
	return raised, s.readError("raise fence", err)
}

// The row lock on the fence orders this against a newer tenure's Raise.
const insertProduct = `
WITH fence AS (
    SELECT product_id FROM fences WHERE product_id = @product_id AND tenure_id = @tenure_id FOR UPDATE
), inserted AS (
    INSERT INTO products (product_id, amount_in_storage, create_time)
    SELECT product_id, @amount_in_storage::bigint, @create_time::timestamptz FROM fence
    ON CONFLICT (product_id) DO NOTHING
)
SELECT count(*) FROM fence`

// PutProduct stores the product under the tenure's fence, unless the shard has
// it. It returns ErrFenced when a newer tenure is known. It may be repeated.
func (s *Shard) PutProduct(ctx context.Context, f Fence, p Product) error {
	var fences int
	err := s.pool.QueryRow(ctx, insertProduct, pgx.NamedArgs{
		"product_id": p.ProductID, "tenure_id": f.TenureID,
		"amount_in_storage": p.AmountInStorage, "create_time": p.CreateTime,
	}).Scan(&fences)
	if err == nil && fences == 0 {
		err = ErrFenced
	}
	return s.readError("put product", err)
}
