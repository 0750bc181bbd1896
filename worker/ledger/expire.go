package ledger

import (
	"context"
	"fmt"

	"github.com/jackc/pgx/v5"
)

// maxExpired bounds the holds that one transaction expires.
const maxExpired = 1000

// A hold is expired by the shard's clock. Those that are due are found by the time they
// are due, and then locked in the order of their ids, as by those who change purchases; one
// that somebody else has changed meanwhile is passed over.
//
// Each part has one index that it can use. Where the tables are small the planner thinks
// all of them equal, and takes the one that has the order asked for: purchases_held for a
// product, purchases_due (which needs the amount mentioned) for all. IS NOT DISTINCT FROM
// is an equality that fits no index, so the rows are locked by their ids.
const (
	dueOfProducts = `
WITH found AS MATERIALIZED (
    SELECT due.purchase_id
      FROM unnest(@product_ids::text[]) AS c (product_id),
           LATERAL (SELECT p.purchase_id FROM purchases p
                     WHERE p.product_id = c.product_id AND p.state = 'held' AND p.expire_time <= now()
                     ORDER BY p.expire_time LIMIT @limit) AS due
     LIMIT @limit
)`
	dueOfAll = `
WITH found AS MATERIALIZED (
    SELECT p.purchase_id FROM purchases p
     WHERE p.state = 'held' AND p.amount > 0 AND p.expire_time <= now()
     ORDER BY p.expire_time LIMIT @limit
)`
	expireFound = `, due AS (
    SELECT p.purchase_id
      FROM found f JOIN purchases p ON p.purchase_id = ANY (ARRAY[f.purchase_id])
     WHERE p.state IS NOT DISTINCT FROM 'held' AND p.expire_time <= now()
     ORDER BY p.purchase_id FOR UPDATE OF p
), expired AS (
    UPDATE purchases p SET state = 'expired', released = p.amount
      FROM due WHERE p.purchase_id = ANY (ARRAY[due.purchase_id])
    RETURNING p.purchase_id, p.product_id, p.amount, p.expire_time
), changed AS (
    INSERT INTO changes (change_id, purchase_id, product_id, action, amount, state, units, expire_time)
    SELECT gen_random_uuid(), purchase_id, product_id, 'expire', 0, 'expired', -amount, expire_time FROM expired
    RETURNING 1
)
SELECT (SELECT count(*) FROM found), (SELECT count(*) FROM changed)`

	expireDueOfProducts = dueOfProducts + expireFound
	expireDueOfAll      = dueOfAll + expireFound
)

// expireDue expires the holds of these products whose time is up.
func (s *Shard) expireDue(ctx context.Context, productIDs []string) error {
	for {
		found, _, err := s.expireSome(ctx, expireDueOfProducts, pgx.NamedArgs{"product_ids": productIDs})
		if err != nil || found < maxExpired {
			return err
		}
	}
}

// ExpireDue expires some holds whose time is up, of whatever product, and returns how many;
// 0 when there are none. Whoever would be refused for want of units has those of his
// product expired anyway (Verify); this is for those that nobody asks for.
func (s *Shard) ExpireDue(ctx context.Context) (int64, error) {
	for {
		found, expired, err := s.expireSome(ctx, expireDueOfAll, pgx.NamedArgs{})
		if err != nil {
			return 0, fmt.Errorf("shard %s: expire holds: %w", s.name, commitError(err))
		}
		if expired > 0 || found < maxExpired {
			return expired, nil
		}
	}
}

// expireSome tells how many holds were due, and how many of them nobody else has changed.
func (s *Shard) expireSome(ctx context.Context, sql string, args pgx.NamedArgs) (found, expired int64, err error) {
	args["limit"] = maxExpired
	err = s.pool.QueryRow(ctx, sql, args).Scan(&found, &expired)
	return found, expired, err
}
