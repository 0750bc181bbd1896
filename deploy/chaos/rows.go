package chaos

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	holdfastv1 "github.com/holdfast-io/holdfast/api/holdfast/v1"
	"github.com/holdfast-io/holdfast/worker/ledger"
)

// Rows are what the shards hold. They are read without the worker's own code.
type Rows struct {
	Purchases  []Row
	Changes    []ChangeRow
	Deliveries []DeliveryRow
}

// Row is a purchase.
type Row struct {
	PurchaseID, Product, RequestID string
	Amount                         int64
	State                          ledger.State
	Released, Readmitted           int64
	Expires                        time.Duration // of the hold; 0 when there never was one
}

// has is what the customer has of a purchase.
func (r *Row) has() int64 { return r.Amount + r.Readmitted - r.Released }

// ChangeRow is what became of a purchase.
type ChangeRow struct {
	PurchaseID, RequestID string // no request id: nobody asked for it
	Action                ledger.Action
	Amount                int64        // asked for
	State                 ledger.State // that it led to
	Units                 int64        // by which it changed what the customer has
	Expires               time.Duration
	Created               time.Duration // when its transaction began
}

// DeliveryRow is a delivery.
type DeliveryRow struct {
	DeliveryID, Product, RequestID string
	Amount                         int64
}

// sold is what customers have of each product, less what was delivered of it.
func (r *Rows) sold() map[string]int64 {
	sold := map[string]int64{}
	for _, p := range r.Purchases {
		sold[p.Product] += p.has()
	}
	for _, d := range r.Deliveries {
		sold[d.Product] -= d.Amount
	}
	return sold
}

// overdue counts the holds that nobody has expired, of those whose time was up at a moment.
func (r *Rows) overdue(at time.Duration) (holds int) {
	for _, p := range r.Purchases {
		if p.State == ledger.Held && p.Expires <= at {
			holds++
		}
	}
	return holds
}

// rows reads all shards of the topology, without a proxy.
func (w *World) rows(ctx context.Context, h *History) (*Rows, error) {
	names, err := w.readTopology(ctx)
	if err != nil {
		return nil, err
	}
	rows := &Rows{}
	for _, name := range names {
		if err := rows.read(ctx, h, name, w.stack.DSNs()[name]); err != nil {
			return nil, fmt.Errorf("read shard %s: %w", name, err)
		}
	}
	return rows, nil
}

const (
	selectPurchases = `
SELECT purchase_id, product_id, request_id, amount, state::text, released, readmitted, expire_time FROM purchases`
	selectChanges = `
SELECT purchase_id, coalesce(request_id, ''), action, amount, state::text, units, expire_time, create_time FROM changes`
	selectDeliveries = `SELECT delivery_id::text, product_id, request_id, amount FROM deliveries`
)

// read adds the rows of one shard, as they are at one moment.
func (r *Rows) read(ctx context.Context, h *History, shard, dsn string) error {
	conn, err := pgx.Connect(ctx, dsn)
	if err != nil {
		return err
	}
	defer func() { _ = conn.Close(context.WithoutCancel(ctx)) }()
	tx, err := conn.BeginTx(ctx, pgx.TxOptions{IsoLevel: pgx.RepeatableRead, AccessMode: pgx.ReadOnly})
	if err != nil {
		return err
	}
	defer tx.Rollback(context.WithoutCancel(ctx)) //nolint:errcheck // the transaction only reads
	return errors.Join(r.readPurchases(ctx, h, shard, tx), r.readChanges(ctx, h, shard, tx), r.readDeliveries(ctx, tx))
}

func (r *Rows) readPurchases(ctx context.Context, h *History, shard string, tx pgx.Tx) error {
	var (
		p       Row
		id      uuid.UUID
		expires *time.Time
	)
	rows, _ := tx.Query(ctx, selectPurchases)
	_, err := pgx.ForEachRow(rows, []any{
		&id, &p.Product, &p.RequestID, &p.Amount, &p.State, &p.Released, &p.Readmitted, &expires,
	}, func() error {
		p.PurchaseID, p.Expires = holdfastv1.PurchaseID(shard, id), h.maybe(expires)
		r.Purchases = append(r.Purchases, p)
		return nil
	})
	return err
}

func (r *Rows) readChanges(ctx context.Context, h *History, shard string, tx pgx.Tx) error {
	var (
		c       ChangeRow
		id      uuid.UUID
		expires *time.Time
		created time.Time
	)
	rows, _ := tx.Query(ctx, selectChanges)
	_, err := pgx.ForEachRow(rows, []any{
		&id, &c.RequestID, &c.Action, &c.Amount, &c.State, &c.Units, &expires, &created,
	}, func() error {
		c.PurchaseID, c.Expires, c.Created = holdfastv1.PurchaseID(shard, id), h.maybe(expires), h.at(created)
		r.Changes = append(r.Changes, c)
		return nil
	})
	return err
}

func (r *Rows) readDeliveries(ctx context.Context, tx pgx.Tx) error {
	var d DeliveryRow
	rows, _ := tx.Query(ctx, selectDeliveries)
	_, err := pgx.ForEachRow(rows, []any{&d.DeliveryID, &d.Product, &d.RequestID, &d.Amount}, func() error {
		r.Deliveries = append(r.Deliveries, d)
		return nil
	})
	return err
}

// save writes the rows of purchases that were changed to a file, beside the history.
func (r *Rows) save(path string) error {
	var text strings.Builder
	for _, p := range r.Purchases {
		fmt.Fprintf(&text, "purchase %+v\n", p)
	}
	for _, c := range r.Changes {
		fmt.Fprintf(&text, "change %s %+v\n", cmp.Or(c.RequestID, "-"), c)
	}
	for _, d := range r.Deliveries {
		fmt.Fprintf(&text, "delivery %+v\n", d)
	}
	return os.WriteFile(path, []byte(text.String()), 0o600)
}
