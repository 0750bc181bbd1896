package payments

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"
)

const (
	lockPurchases = `SELECT 1 FROM purchases WHERE order_id = ANY ($1) ORDER BY purchase_id FOR UPDATE`
	lockPayments  = `SELECT 1 FROM payments WHERE order_id = ANY ($1) FOR UPDATE`
	lockOrders    = `LOCK TABLE orders IN SHARE MODE` // of whatever order
	lockTasks     = `SELECT 1 FROM payment_tasks WHERE order_id = ANY ($1) AND state = 'pending' FOR UPDATE`

	// The trigger waits for whoever is inserting the same key.
	insertTasks = `
INSERT INTO payment_tasks (order_id, action, key, minor_units)
SELECT order_id, $2, $2 || key, 1 FROM unnest($1::uuid[], $3::text[]) AS t (order_id, key)`

	countWaiting = `SELECT count(*) FROM pg_stat_activity WHERE $1 = ANY (pg_blocking_pids(pid))`
	endWaiting   = `SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity WHERE $1 = ANY (pg_blocking_pids(pid))`
)

// lockFor is how long the harness may hold a lock: shorter than a worker waits for one.
const lockFor = 1500 * time.Millisecond

// lock is what the harness holds, in a transaction for each shard.
type lock struct {
	world *world
	txs   map[string]pgx.Tx
}

// lock carries out a statement about the rounds of each shard, and holds what it locked.
func (w *world) lock(ctx context.Context, statement string, rounds []*round, more ...func([]*round) any) (*lock, error) {
	l := &lock{world: w, txs: map[string]pgx.Tx{}}
	for shard, of := range byShard(rounds) {
		tx, err := w.shards[shard].Begin(ctx)
		if err != nil {
			return nil, errors.Join(err, l.release(ctx))
		}
		l.txs[shard] = tx
		var args []any
		if statement != lockOrders {
			args = append(args, uuids(of))
		}
		for _, each := range more {
			args = append(args, each(of))
		}
		if _, err := tx.Exec(ctx, statement, args...); err != nil {
			return nil, errors.Join(fmt.Errorf("lock: %w", err), l.release(ctx))
		}
	}
	return l, nil
}

// await waits until somebody waits for the lock in each shard, and then a little for those
// who are about to.
func (l *lock) await(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, lockFor)
	defer cancel()
	for shard, tx := range l.txs {
		for waiting := 0; waiting == 0; sleep(ctx, 5*time.Millisecond) {
			err := l.world.shards[shard].QueryRow(ctx, countWaiting, tx.Conn().PgConn().PID()).Scan(&waiting)
			if err != nil {
				return fmt.Errorf("nobody waits for the lock in shard %s: %w", shard, err)
			}
		}
	}
	sleep(ctx, 50*time.Millisecond)
	return nil
}

// end ends the sessions that wait for the lock.
func (l *lock) end(ctx context.Context) error {
	var failures error
	for shard, tx := range l.txs {
		var ended int
		err := l.world.shards[shard].QueryRow(ctx, endWaiting, tx.Conn().PgConn().PID()).Scan(&ended)
		failures = errors.Join(failures, err)
	}
	return failures
}

func (l *lock) release(ctx context.Context) error {
	var failures error
	for _, tx := range l.txs {
		failures = errors.Join(failures, tx.Rollback(context.WithoutCancel(ctx)))
	}
	return failures
}
