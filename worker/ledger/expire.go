package ledger

import (
	"context"
	"fmt"

	"github.com/jackc/pgx/v5"
)

// maxExpired bounds the holds that one transaction expires.
const maxExpired = 1000

// A hold is expired by the shard's clock. Rows are locked in the order of their ids, as by
// those who change purchases; one that somebody else has changed meanwhile is passed over.
const (
	expireThese = `, expired AS (
    UPDATE purchases p SET state = 'expired', released = p.amount FROM due WHERE p.purchase_id = due.purchase_id
    RETURNING p.purchase_id, p.product_id, p.amount, p.expire_time
)
INSERT INTO changes (change_id, purchase_id, product_id, action, amount, state, units, expire_time)
SELECT gen_random_uuid(), purchase_id, product_id, 'expire', 0, 'expired', -amount, expire_time FROM expired`

	expireDueOfProducts = `
WITH due AS (
    SELECT p.purchase_id FROM purchases p
     WHERE p.product_id = ANY (@product_ids) AND p.state = 'held' AND p.expire_time <= now()
     ORDER BY p.purchase_id LIMIT @limit FOR UPDATE
)` + expireThese

	expireDueOfAll = `
WITH due AS (
    SELECT p.purchase_id FROM purchases p
     WHERE p.state = 'held' AND p.expire_time <= now()
     ORDER BY p.purchase_id LIMIT @limit FOR UPDATE
)` + expireThese
)

// expireDue expires the holds of these products whose time is up.
func (s *Shard) expireDue(ctx context.Context, productIDs []string) error {
	for {
		tag, err := s.pool.Exec(ctx, expireDueOfProducts, pgx.NamedArgs{"product_ids": productIDs, "limit": maxExpired})
		if err != nil || tag.RowsAffected() < maxExpired {
			return err
		}
	}
}

// ExpireDue expires some holds whose time is up, of whatever product, and returns how many;
// 0 when there are none. Whoever would be refused for want of units has those of his
// product expired anyway (Verify); this is for those that nobody asks for.
func (s *Shard) ExpireDue(ctx context.Context) (int64, error) {
	tag, err := s.pool.Exec(ctx, expireDueOfAll, pgx.NamedArgs{"limit": maxExpired})
	if err != nil {
		return 0, fmt.Errorf("shard %s: expire holds: %w", s.name, commitError(err))
	}
	return tag.RowsAffected(), nil
}
