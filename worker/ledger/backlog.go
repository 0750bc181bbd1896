package ledger

import (
	"context"
)

// Backlog is what a shard owes to others: to providers of payments, and to whoever is told
// of events.
type Backlog struct {
	// OrphanedPayments are those that no repetition mends: a provider has refused to capture,
	// let go or refund; or it was asked for money whose units nobody holds or has, and nothing
	// says that it is to be let go; or units are confirmed and nothing says that their money
	// is to be taken.
	OrphanedPayments int64
	// OverduePayments are those that a provider was to be asked about a minute ago.
	OverduePayments int64
	// UndeliveredEvents are those that a webhook did not take at once, dead letters as well.
	UndeliveredEvents int64
}

const selectBacklog = `
SELECT (SELECT count(*) FROM payment_tasks WHERE state = 'dead')
     + (SELECT count(*) FROM payments p
         WHERE p.state IN ('authorizing', 'authorized') AND p.create_time < now() - interval '1 minute'
           AND NOT EXISTS (SELECT FROM purchases u WHERE u.order_id = p.order_id AND u.state = 'held')
           AND NOT EXISTS (SELECT FROM payment_tasks t WHERE t.order_id = p.order_id)),
       (SELECT count(*) FROM payment_tasks WHERE state = 'pending' AND create_time < now() - interval '1 minute'),
       (SELECT count(*) FROM webhook_deliveries)`

// Backlog counts what the shard owes.
func (s *Shard) Backlog(ctx context.Context) (b Backlog, err error) {
	err = s.list.QueryRow(ctx, selectBacklog).Scan(&b.OrphanedPayments, &b.OverduePayments, &b.UndeliveredEvents)
	return b, s.readError("count backlog", err)
}
