package ledger

import (
	"context"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
)

// Cursor is a place in the order of a shard's events: after the event with this transaction
// and id. The zero Cursor is before all events.
//
// The order is that of (transaction, id). Transactions do not commit in the order of their
// numbers, so events are read only below the oldest one that is under way
// (pg_snapshot_xmin): nothing appears later before what was read. What a transaction left
// open holds back is all events of the server that came after it, not those before.
type Cursor struct {
	XID uint64
	ID  uuid.UUID
}

// Less tells whether a cursor is before another one.
func (c Cursor) Less(other Cursor) bool {
	if c.XID != other.XID {
		return c.XID < other.XID
	}
	return string(c.ID[:]) < string(other.ID[:])
}

// EventKind is what has happened.
type EventKind string

// The kinds of events. The first two are the creation of a purchase, the last two are
// deliveries.
const (
	EventPurchased EventKind = "purchased"
	EventHeld      EventKind = "held"
	EventExtended  EventKind = "extended"
	EventConfirmed EventKind = "confirmed"
	EventCancelled EventKind = "cancelled"
	EventExpired   EventKind = "expired"
	EventReturned  EventKind = "returned"
	EventDelivered EventKind = "delivered"
	EventMissing   EventKind = "missing"
)

// Event is something that has happened in a shard. A purchase's own row is the event of its
// creation, so that events cost a sale nothing; the others are rows of their own, written
// by the transaction that did what they tell.
type Event struct {
	Cursor     Cursor // of the event, after which the next one is read
	Kind       EventKind
	PurchaseID uuid.UUID // of a delivery: none
	ProductID  string
	CustomerID string
	Amount     int64      // of the purchase; of a delivery its own, below 0 when units were missing
	Units      int64      // by which what the customer has of the purchase has changed
	State      State      // of the purchase after it
	ExpireTime *time.Time // of the hold; of EventHeld as it is when the event is read
	RequestID  string     // of whoever asked for it; none asks for an expiry
	CreateTime time.Time
}

// Moves tells whether the event moved units of the product.
func (e *Event) Moves() bool {
	return e.Units != 0 || e.Kind == EventDelivered || e.Kind == EventMissing
}

// Page is some events, in order.
type Page struct {
	Events []Event
	Next   Cursor // where the next page begins
	End    bool   // there was nothing more to be read
}

// atEnd is the kind of the row that ends what can be read.
const atEnd = "end"

// Three ranges of three indexes in the same order, merged. What a change does not know of its
// purchase is looked up for the rows that are answered.
const selectEvents = `
SELECT e.xid, e.id, e.kind, e.purchase_id, e.product_id, coalesce(e.customer_id, p.customer_id, ''),
       coalesce(e.amount, p.amount, 0), e.units, e.state, e.expire_time, e.request_id, e.create_time,
       e.last, @product_id::text IN ('', e.product_id)
  FROM (
    SELECT *, lead(1) OVER (ORDER BY xid, id) IS NULL AS last FROM (SELECT * FROM (
        (SELECT xid, purchase_id AS id, CASE WHEN expire_time IS NULL THEN 'purchased' ELSE 'held' END AS kind,
                purchase_id, product_id, customer_id, amount, amount AS units,
                CASE WHEN expire_time IS NULL THEN 'confirmed' ELSE 'held' END AS state,
                expire_time, request_id, create_time, NULL::uuid AS of_purchase
           FROM purchases
          WHERE (xid, purchase_id) > (@xid::xid8, @id::uuid) AND xid < pg_snapshot_xmin(pg_current_snapshot())
          ORDER BY xid, purchase_id LIMIT @limit)
        UNION ALL
        (SELECT xid, change_id, action, purchase_id, product_id, NULL, NULL, units, state::text,
                expire_time, coalesce(request_id, ''), create_time, purchase_id
           FROM changes
          WHERE (xid, change_id) > (@xid::xid8, @id::uuid) AND xid < pg_snapshot_xmin(pg_current_snapshot())
          ORDER BY xid, change_id LIMIT @limit)
        UNION ALL
        (SELECT xid, delivery_id, CASE WHEN amount > 0 THEN 'delivered' ELSE 'missing' END, NULL, product_id, '', amount, 0, '',
                NULL, request_id, create_time, NULL
           FROM deliveries
          WHERE (xid, delivery_id) > (@xid::xid8, @id::uuid) AND xid < pg_snapshot_xmin(pg_current_snapshot())
          ORDER BY xid, delivery_id LIMIT @limit)
        UNION ALL
        SELECT pg_snapshot_xmin(pg_current_snapshot()), '00000000-0000-0000-0000-000000000000', 'end', NULL, '', '', 0, 0, '',
               NULL, '', NULL, NULL
    ) AS merged ORDER BY xid, id LIMIT @limit) AS first
  ) AS e
  LEFT JOIN purchases p ON p.purchase_id = ANY (ARRAY[e.of_purchase])
 WHERE e.last OR @product_id::text IN ('', e.product_id)
 ORDER BY e.xid, e.id`

// ofAction is the kind of event that a change is.
var ofAction = map[EventKind]EventKind{
	EventKind(Extend): EventExtended, EventKind(Confirm): EventConfirmed, EventKind(Cancel): EventCancelled,
	EventKind(Expire): EventExpired, EventKind(Return): EventReturned,
}

// Events looks at the next events after a place, at most so many, and returns those of a
// product, or all of them when it is "". A page may be empty before the end is reached, but
// always gets further.
func (s *Shard) Events(ctx context.Context, after Cursor, productID string, limit int) (*Page, error) {
	rows, err := s.list.Query(ctx, selectEvents, pgx.NamedArgs{
		"xid": after.XID, "id": after.ID, "product_id": productID, "limit": limit,
	})
	if err != nil {
		return nil, s.readError("read events", err)
	}
	page := &Page{Next: after}
	var (
		e            Event
		purchase     *uuid.UUID
		created      *time.Time
		last, wanted bool
	)
	_, err = pgx.ForEachRow(rows, []any{
		&e.Cursor.XID, &e.Cursor.ID, &e.Kind, &purchase, &e.ProductID, &e.CustomerID,
		&e.Amount, &e.Units, &e.State, &e.ExpireTime, &e.RequestID, &created, &last, &wanted,
	}, func() error {
		page.add(e, purchase, created, last, wanted)
		return nil
	})
	return page, s.readError("read events", err)
}

func (p *Page) add(e Event, purchase *uuid.UUID, created *time.Time, last, wanted bool) {
	if e.Kind == atEnd {
		p.End = true
	} else if wanted {
		if kind, ok := ofAction[e.Kind]; ok {
			e.Kind = kind
		}
		if purchase != nil {
			e.PurchaseID = *purchase
		}
		e.CreateTime = *created
		p.Events = append(p.Events, e)
	}
	// A server that was restored begins its transactions anew: the end may be before the
	// place from where was read.
	if last && p.Next.Less(e.Cursor) {
		p.Next = e.Cursor
	}
}

const selectEnd = `SELECT pg_snapshot_xmin(pg_current_snapshot())`

// EventsEnd is a place after all events that can be read at present. What commits after the
// call is after it, and perhaps some that committed a moment before.
func (s *Shard) EventsEnd(ctx context.Context) (Cursor, error) {
	var end Cursor
	err := s.list.QueryRow(ctx, selectEnd).Scan(&end.XID)
	return end, s.readError("read end of events", err)
}
