package ledger

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
)

var (
	// ErrToReadmit is returned for the confirmation of a purchase that has expired: its
	// units are free, so its product's tenure has to admit them anew (Readmit).
	ErrToReadmit = errors.New("the hold has expired")
	// ErrRequestIDReused is returned when a request id was used before with other content.
	ErrRequestIDReused = errors.New("request id was used with other content")
	// ErrPastHold is returned when a hold is to end in the past.
	ErrPastHold = errors.New("must be in the future")
	// ErrOfOrder is returned when something is to be done to one line of an order that can
	// only be done to the whole.
	ErrOfOrder = errors.New("the purchase is a line of an order")
	// ErrNotAuthorized is returned when purchases are to be confirmed whose payment has
	// begun and is not authorized.
	ErrNotAuthorized = errors.New("the payment is not authorized")
)

// Change asks for something to be done to a purchase. It needs no fence: it never takes
// units, and what it gives back is counted apart from what tenures sell.
type Change struct {
	PurchaseID uuid.UUID
	Action     Action
	RequestID  string        // the same one again is a repetition
	Amount     int64         // to be confirmed or returned; 0 is all there is
	ExpireTime time.Time     // of Extend; a repetition may have another one, counted from a later now
	MaxHold    time.Duration // of Extend: from the purchase's creation
	OrderID    *uuid.UUID    // when it is done to a whole order

	// Settlement is what the order's provider has said, when that is not stored yet. It is
	// stored before the change is looked at, and whatever becomes of that.
	Settlement *Settlement
}

// Changed is what became of a Change: the purchase as it is now, nil when there is none, and
// why nothing happened, if so: ErrNotFound, ErrRequestIDReused, ErrToReadmit, ErrOfOrder,
// ErrPastHold, *StateError, *AmountError, *HoldError.
type Changed struct {
	Purchase *Purchase
	Err      error
}

const (
	lockPurchases = `SELECT` + purchaseColumns + `
  FROM purchases p WHERE p.purchase_id = ANY (@purchase_ids) ORDER BY p.purchase_id FOR UPDATE`

	earlierChanges = `
SELECT c.purchase_id, c.request_id, c.action, c.amount
  FROM unnest(@purchase_ids::uuid[], @request_ids::text[]) AS asked (purchase_id, request_id)
  JOIN changes c ON c.purchase_id = ANY (ARRAY[asked.purchase_id]) AND c.request_id = asked.request_id`

	// A transaction has its number from its first lock on, and may wait for the others. Who
	// began after it can change a purchase before it does then, and have a higher number.
	// Read after the locks: what has happened since the call began counts.
	nowAndOvertaken = `
SELECT clock_timestamp(), EXISTS (SELECT FROM unnest(@purchase_ids::uuid[]) AS asked (purchase_id)
  JOIN changes c ON c.purchase_id = ANY (ARRAY[asked.purchase_id])
 WHERE c.xid > pg_current_xact_id_if_assigned())`

	// The history and what it leads to, in one statement, as they cost less together.
	storeChanges = `
WITH history AS (
    INSERT INTO changes (change_id, purchase_id, product_id, request_id, action, amount, state, units, expire_time)
    SELECT * FROM unnest(@change_ids::uuid[], @changed_ids::uuid[], @product_ids::text[], @request_ids::text[],
           @actions::text[], @amounts::bigint[], @new_states::purchase_state[], @units::bigint[], @new_expire_times::timestamptz[])
)
UPDATE purchases p SET state = c.state, released = c.released, expire_time = c.expire_time
  FROM unnest(@purchase_ids::uuid[], @states::purchase_state[], @released::bigint[], @expire_times::timestamptz[])
       AS c (purchase_id, state, released, expire_time)
 WHERE p.purchase_id = ANY (ARRAY[c.purchase_id])`
)

// Change does what is asked for, set by set, in one transaction: of a set, which is of
// different purchases, everything happens or nothing. It answers for each change, in their
// order; when a set failed, those without an error of their own have the purchase as it
// was. The purchases are locked while it looks at them, in the order of their ids.
//
// It may be repeated after any error: what has happened is found by its request id. The
// transaction that was not answered cannot happen later, since it holds the locks that the
// repetition waits for.
func (s *Shard) Change(ctx context.Context, sets [][]Change) ([][]Changed, error) {
	conn, err := s.pool.Acquire(ctx)
	if err != nil {
		return nil, fmt.Errorf("shard %s: change: %w: %w", s.name, ErrNotSent, err)
	}
	defer conn.Release() // which closes a connection whose transaction has not ended
	t, err := readToChange(ctx, conn, sets)
	if err != nil {
		return nil, fmt.Errorf("shard %s: change: %w", s.name, commitError(err))
	}
	answers := make([][]Changed, len(sets))
	for i, set := range sets {
		answers[i] = t.applyAll(set)
	}
	err = t.write(ctx, conn)
	switch {
	case violates(err, authorizedFirst):
		return nil, fmt.Errorf("shard %s: change: %w", s.name, errors.Join(ErrNotAuthorized, commitError(err)))
	case err != nil:
		return nil, fmt.Errorf("shard %s: change: %w", s.name, commitError(err))
	}
	return answers, nil
}

type changeKey struct {
	purchase  uuid.UUID
	requestID string
}

func (c *Change) key() changeKey { return changeKey{c.PurchaseID, c.RequestID} }

// changing is one transaction that changes purchases.
type changing struct {
	now       time.Time // the shard's
	purchases map[uuid.UUID]*Purchase
	earlier   map[changeKey]Change
	overtaken bool // a purchase was changed by a transaction with a higher number
	made      []made
}

// made is a change that was made, and the purchase after it.
type made struct {
	Change
	after Purchase
	units int64
}

// readToChange begins a transaction that may change the purchases. Its number is above
// those of all that changed them before, so that a purchase's events are in the order in
// which they happened.
func readToChange(ctx context.Context, conn *pgxpool.Conn, sets [][]Change) (*changing, error) {
	for {
		t := &changing{purchases: map[uuid.UUID]*Purchase{}, earlier: map[changeKey]Change{}}
		if err := t.read(ctx, conn, sets); err != nil || !t.overtaken {
			return t, err
		}
		if _, err := conn.Exec(ctx, "ROLLBACK"); err != nil {
			return nil, err
		}
	}
}

// read locks the purchases, and reads what was done to them by the same requests before.
func (t *changing) read(ctx context.Context, conn *pgxpool.Conn, sets [][]Change) error {
	var ids uuids
	var requests []string
	settlements := map[uuid.UUID]*Settlement{}
	for _, set := range sets {
		for _, c := range set {
			ids, requests = append(ids, c.PurchaseID), append(requests, c.RequestID)
			if c.Settlement != nil {
				settlements[*c.OrderID] = c.Settlement
			}
		}
	}
	args := pgx.NamedArgs{"purchase_ids": ids, "request_ids": requests}
	batch := &pgx.Batch{}
	batch.Queue("BEGIN")
	batch.Queue(lockPurchases, args).Query(func(rows pgx.Rows) error {
		found, err := pgx.CollectRows(rows, pgx.RowToAddrOfStructByPos[Purchase])
		for _, p := range found {
			t.purchases[p.PurchaseID] = p
		}
		return err
	})
	if len(settlements) > 0 {
		batch.Queue(settlePayments, settlementColumns(settlements))
	}
	batch.Queue(earlierChanges, args).Query(func(rows pgx.Rows) error {
		var c Change
		_, err := pgx.ForEachRow(rows, []any{&c.PurchaseID, &c.RequestID, &c.Action, &c.Amount}, func() error {
			t.earlier[c.key()] = c
			return nil
		})
		return err
	})
	batch.Queue(nowAndOvertaken, args).QueryRow(func(row pgx.Row) error { return row.Scan(&t.now, &t.overtaken) })
	return conn.SendBatch(ctx, batch).Close()
}

// applyAll makes all changes of a set, or none.
func (t *changing) applyAll(set []Change) []Changed {
	answers := make([]Changed, len(set))
	var done []made
	failed := false
	for i := range set {
		c := &set[i]
		after, repeated, err := t.apply(c)
		answers[i] = Changed{Purchase: after, Err: err}
		switch {
		case err != nil:
			failed = true
		case !repeated:
			done = append(done, made{Change: *c, after: *after, units: after.Has() - t.purchases[c.PurchaseID].Has()})
		}
	}
	if failed {
		for i, c := range set {
			answers[i].Purchase = t.purchases[c.PurchaseID]
		}
		return answers
	}
	for _, m := range done {
		t.earlier[m.key()] = m.Change
		after := m.after
		t.purchases[m.PurchaseID] = &after
	}
	t.made = append(t.made, done...)
	return answers
}

// apply returns the purchase as the change leaves it, or as it is when it is a repetition.
func (t *changing) apply(c *Change) (after *Purchase, repeated bool, err error) {
	p := t.purchases[c.PurchaseID]
	if p == nil {
		return nil, false, ErrNotFound
	}
	if first, repeated := t.earlier[c.key()]; repeated {
		if first.Action != c.Action || first.Amount != c.Amount {
			return nil, false, ErrRequestIDReused
		}
		return p, true, nil
	}
	changed := *p
	if err := changed.apply(c, t.now); err != nil {
		return nil, false, err
	}
	return &changed, false, nil
}

// write stores what was made and ends the transaction. A purchase that was changed more
// than once is stored as it is in the end.
func (t *changing) write(ctx context.Context, conn *pgxpool.Conn) error {
	batch := &pgx.Batch{}
	if len(t.made) > 0 {
		batch.Queue(storeChanges, t.columns())
	}
	batch.Queue("COMMIT")
	return conn.SendBatch(ctx, batch).Close()
}

func (t *changing) columns() pgx.NamedArgs {
	columns := t.history()
	maps.Copy(columns, t.rows())
	return columns
}

func (t *changing) rows() pgx.NamedArgs {
	var (
		ids      uuids
		states   []string
		released []int64
		expiries []*time.Time
	)
	last := make(map[uuid.UUID]*made, len(t.made))
	for i := range t.made {
		last[t.made[i].PurchaseID] = &t.made[i]
	}
	for i := range t.made {
		m := &t.made[i]
		if last[m.PurchaseID] != m {
			continue
		}
		ids, states = append(ids, m.PurchaseID), append(states, string(m.after.State))
		released, expiries = append(released, m.after.Released), append(expiries, m.after.ExpireTime)
	}
	return pgx.NamedArgs{"purchase_ids": ids, "states": states, "released": released, "expire_times": expiries}
}

func (t *changing) history() pgx.NamedArgs {
	n := len(t.made)
	ids, purchases := make(uuids, n), make(uuids, n)
	products, requests, actions := make([]string, n), make([]string, n), make([]string, n)
	amounts, units := make([]int64, n), make([]int64, n)
	states, expiries := make([]string, n), make([]*time.Time, n)
	for i, m := range t.made {
		ids[i], purchases[i] = uuid.Must(uuid.NewV7()), m.PurchaseID
		products[i], requests[i], actions[i] = m.after.ProductID, m.RequestID, string(m.Action)
		amounts[i], units[i] = m.Amount, m.units
		states[i], expiries[i] = string(m.after.State), m.after.ExpireTime
	}
	return pgx.NamedArgs{
		"change_ids": ids, "changed_ids": purchases, "product_ids": products, "request_ids": requests, "actions": actions,
		"amounts": amounts, "units": units, "new_states": states, "new_expire_times": expiries,
	}
}
