package ledger

import (
	"context"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
)

// Webhook is where events are sent.
type Webhook struct {
	WebhookID  uuid.UUID
	URL        string
	Secret     string
	ProductID  string // "" for all
	Began      string // the worker's word for the place in all shards after which it begins
	CreateTime time.Time
}

const (
	insertWebhook = `
INSERT INTO webhooks (webhook_id, url, secret, product_id, began, create_time)
VALUES (@webhook_id, @url, @secret, @product_id, @began, @create_time) ON CONFLICT DO NOTHING`

	insertWebhookCursor = `
INSERT INTO webhook_cursors (webhook_id, xid, event_id) VALUES (@webhook_id, @xid::xid8, @event_id) ON CONFLICT DO NOTHING`

	webhookColumns = `SELECT webhook_id, url, secret, product_id, began, create_time FROM webhooks`
)

// PutWebhook stores a webhook that begins after a place in this shard's events, unless it is
// stored, and returns the one that is. It may be repeated after any error.
func (s *Shard) PutWebhook(ctx context.Context, w Webhook, after Cursor) (*Webhook, error) {
	args := pgx.NamedArgs{
		"webhook_id": w.WebhookID, "url": w.URL, "secret": w.Secret, "product_id": w.ProductID, "began": w.Began,
		"create_time": w.CreateTime, "xid": after.XID, "event_id": after.ID,
	}
	var stored *Webhook
	batch := &pgx.Batch{} // is one transaction
	batch.Queue(insertWebhook, args)
	batch.Queue(insertWebhookCursor, args)
	batch.Queue(webhookColumns+` WHERE webhook_id = @webhook_id`, args).Query(func(rows pgx.Rows) (err error) {
		stored, err = pgx.CollectExactlyOneRow(rows, pgx.RowToAddrOfStructByPos[Webhook])
		return err
	})
	err := s.list.SendBatch(ctx, batch).Close()
	return stored, s.readError("put webhook", err)
}

// Webhooks reads all webhooks, oldest first.
func (s *Shard) Webhooks(ctx context.Context) ([]Webhook, error) {
	rows, _ := s.list.Query(ctx, webhookColumns+` ORDER BY create_time, webhook_id`)
	webhooks, err := pgx.CollectRows(rows, pgx.RowToStructByPos[Webhook])
	return webhooks, s.readError("list webhooks", err)
}

// DeleteWebhook deletes a webhook, if there is one, with all that waits for it.
func (s *Shard) DeleteWebhook(ctx context.Context, id uuid.UUID) error {
	_, err := s.list.Exec(ctx, `DELETE FROM webhooks WHERE webhook_id = $1`, id)
	return s.readError("delete webhook", err)
}

// Waiting is an event that could not be delivered yet, or that comes after one of the same
// product that could not.
type Waiting struct {
	Cursor    Cursor
	ProductID string
	Body      []byte
	Attempts  int
	Resent    bool
	LastError string
	DeadTime  *time.Time // since when nobody tries any more
}

const selectWebhookPlace = `SELECT xid, event_id FROM webhook_cursors WHERE webhook_id = $1`

const selectWaiting = `
SELECT product_id, count(*) FROM webhook_deliveries
 WHERE webhook_id = $1 AND dead_time IS NULL AND NOT resent GROUP BY product_id`

// WebhookPlace reads how far a webhook is, and how many events of each product wait.
func (s *Shard) WebhookPlace(ctx context.Context, id uuid.UUID) (at Cursor, waiting map[string]int64, err error) {
	waiting = map[string]int64{}
	batch := &pgx.Batch{}
	batch.Queue(selectWebhookPlace, id).QueryRow(func(row pgx.Row) error { return row.Scan(&at.XID, &at.ID) })
	batch.Queue(selectWaiting, id).Query(intoMap(waiting))
	err = s.list.SendBatch(ctx, batch).Close()
	return at, waiting, s.readError("read place of webhook", err)
}

const (
	insertWaiting = `
INSERT INTO webhook_deliveries (webhook_id, xid, event_id, product_id, body, attempts, next_time, last_error)
VALUES (@webhook_id, @xid::xid8, @event_id, @product_id, @body, @attempts, now() + @wait::interval, @last_error)
ON CONFLICT DO NOTHING`

	advanceWebhook = `
UPDATE webhook_cursors SET xid = @xid::xid8, event_id = @event_id
 WHERE webhook_id = @webhook_id AND (xid, event_id) < (@xid::xid8, @event_id::uuid)`
)

// AdvanceWebhook stores that all events up to a place were delivered, but for those that
// wait, which are tried again after the time given.
func (s *Shard) AdvanceWebhook(ctx context.Context, id uuid.UUID, to Cursor, waiting []Waiting, wait time.Duration) error {
	batch := &pgx.Batch{}
	for _, w := range waiting {
		args := pgx.NamedArgs{
			"webhook_id": id, "xid": w.Cursor.XID, "event_id": w.Cursor.ID, "product_id": w.ProductID, "body": w.Body,
			"attempts": w.Attempts, "last_error": w.LastError, "wait": time.Duration(0),
		}
		if w.Attempts > 0 {
			args["wait"] = wait
		}
		batch.Queue(insertWaiting, args)
	}
	batch.Queue(advanceWebhook, pgx.NamedArgs{"webhook_id": id, "xid": to.XID, "event_id": to.ID})
	return s.readError("advance webhook", s.list.SendBatch(ctx, batch).Close())
}

// The first of each product that waits, when its time has come.
const selectDue = `
SELECT xid, event_id, product_id, body, attempts, resent FROM (
    SELECT DISTINCT ON (product_id) xid, event_id, product_id, body, attempts, resent, next_time
      FROM webhook_deliveries WHERE webhook_id = @webhook_id AND dead_time IS NULL
     ORDER BY product_id, xid, event_id) AS first
 WHERE next_time <= now() LIMIT @limit`

// DueForWebhook reads what is to be tried again now: of each product the first that waits.
func (s *Shard) DueForWebhook(ctx context.Context, id uuid.UUID, limit int) (due []Waiting, err error) {
	rows, _ := s.list.Query(ctx, selectDue, pgx.NamedArgs{"webhook_id": id, "limit": limit})
	var w Waiting
	_, err = pgx.ForEachRow(rows, []any{&w.Cursor.XID, &w.Cursor.ID, &w.ProductID, &w.Body, &w.Attempts, &w.Resent}, func() error {
		due = append(due, w)
		return nil
	})
	return due, s.readError("read what is due", err)
}

const oneDelivery = ` WHERE webhook_id = @webhook_id AND xid = @xid::xid8 AND event_id = @event_id`

// WebhookDelivered forgets an event that was delivered at last.
func (s *Shard) WebhookDelivered(ctx context.Context, id uuid.UUID, w Waiting) error {
	_, err := s.list.Exec(ctx, `DELETE FROM webhook_deliveries`+oneDelivery,
		pgx.NamedArgs{"webhook_id": id, "xid": w.Cursor.XID, "event_id": w.Cursor.ID})
	return s.readError("forget delivery", err)
}

const updateFailed = `
UPDATE webhook_deliveries SET attempts = @attempts, last_error = @last_error, next_time = now() + @wait::interval,
       dead_time = CASE WHEN @dead::boolean THEN now() END` + oneDelivery

// WebhookFailed stores that an attempt failed, and when the next one is, or that there is
// none.
func (s *Shard) WebhookFailed(ctx context.Context, id uuid.UUID, w Waiting, wait time.Duration, dead bool) error {
	_, err := s.list.Exec(ctx, updateFailed, pgx.NamedArgs{
		"webhook_id": id, "xid": w.Cursor.XID, "event_id": w.Cursor.ID, "attempts": w.Attempts, "last_error": w.LastError,
		"wait": wait, "dead": dead,
	})
	return s.readError("put off delivery", err)
}

const selectDead = `
SELECT xid, event_id, product_id, body, attempts, last_error, dead_time FROM webhook_deliveries
 WHERE webhook_id = @webhook_id AND dead_time IS NOT NULL AND (xid, event_id) > (@xid::xid8, @event_id::uuid)
 ORDER BY xid, event_id LIMIT @limit`

// DeadLetters reads the next dead letters after a place.
func (s *Shard) DeadLetters(ctx context.Context, id uuid.UUID, after Cursor, limit int) (dead []Waiting, err error) {
	rows, _ := s.list.Query(ctx, selectDead, pgx.NamedArgs{
		"webhook_id": id, "xid": after.XID, "event_id": after.ID, "limit": limit,
	})
	var w Waiting
	_, err = pgx.ForEachRow(rows,
		[]any{&w.Cursor.XID, &w.Cursor.ID, &w.ProductID, &w.Body, &w.Attempts, &w.LastError, &w.DeadTime}, func() error {
			dead = append(dead, w)
			return nil
		})
	return dead, s.readError("list dead letters", err)
}

const resendDead = `
UPDATE webhook_deliveries SET dead_time = NULL, attempts = 0, next_time = now(), resent = true
 WHERE webhook_id = $1 AND dead_time IS NOT NULL`

// ResendDeadLetters has all dead letters tried again, and returns how many there were.
func (s *Shard) ResendDeadLetters(ctx context.Context, id uuid.UUID) (int64, error) {
	tag, err := s.list.Exec(ctx, resendDead, id)
	return tag.RowsAffected(), s.readError("resend dead letters", err)
}
