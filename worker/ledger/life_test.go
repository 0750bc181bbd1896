package ledger_test

import (
	"context"
	"errors"
	"fmt"
	"reflect"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/holdfast-io/holdfast/worker/ledger"
)

const maxHold = 24 * time.Hour

// holdOf is a purchase that is kept until then.
func holdOf(f ledger.Fence, request string, amount int64, until time.Duration) *ledger.Purchase {
	p := purchaseOf(f, request, amount)
	at := time.Now().Add(until).UTC().Truncate(time.Microsecond).Add(time.Nanosecond) // more than Postgres keeps
	p.ExpireTime = &at
	return p
}

// change asks for one set of changes.
func (d *database) change(t *testing.T, set ...ledger.Change) []ledger.Changed {
	t.Helper()
	return d.changeSets(t, set)[0]
}

func (d *database) changeSets(t *testing.T, sets ...[]ledger.Change) [][]ledger.Changed {
	t.Helper()
	answers, err := d.Change(t.Context(), sets)
	if err != nil {
		t.Fatal(err)
	}
	d.checkSums(t)
	return answers
}

// must is a set of changes of which each has to happen.
func (d *database) must(t *testing.T, set ...ledger.Change) []ledger.Changed {
	t.Helper()
	answers := d.change(t, set...)
	for i, a := range answers {
		if a.Err != nil {
			t.Fatalf("%+v: %v", set[i], a.Err)
		}
	}
	return answers
}

// checkSums holds the running totals against the rows, and each purchase against its
// history.
func (d *database) checkSums(t *testing.T) {
	t.Helper()
	for what, sql := range map[string]string{
		"purchased": `SELECT coalesce(string_agg(format('%s: %s, not %s', f.product_id, f.purchased, s.units), ', '), '')
			FROM fences f, LATERAL (SELECT
				coalesce((SELECT sum(amount + readmitted) FROM purchases p WHERE p.product_id = f.product_id), 0)
				- coalesce((SELECT sum(amount) FROM deliveries d WHERE d.product_id = f.product_id AND amount < 0), 0) AS units) s
			WHERE f.purchased <> s.units`,
		"released": `SELECT coalesce(string_agg(format('%s: %s, not %s', f.product_id, r.released, s.units), ', '), '')
			FROM fences f LEFT JOIN releases r USING (product_id), LATERAL (SELECT
				coalesce((SELECT sum(released) FROM purchases p WHERE p.product_id = f.product_id), 0)
				+ coalesce((SELECT sum(amount) FROM deliveries d WHERE d.product_id = f.product_id AND amount > 0), 0) AS units) s
			WHERE coalesce(r.released, 0) <> s.units`,
		"history": `SELECT coalesce(string_agg(format('%s: %s, not %s', p.purchase_id, p.readmitted - p.released, c.units), ', '), '')
			FROM purchases p, LATERAL (SELECT coalesce(sum(units), 0) AS units FROM changes c WHERE c.purchase_id = p.purchase_id) c
			WHERE c.units <> p.readmitted - p.released`,
	} {
		var wrong string
		if err := d.raw.QueryRow(t.Context(), sql).Scan(&wrong); err != nil || wrong != "" {
			t.Fatalf("%s does not add up: %s %v", what, wrong, err)
		}
	}
}

// tester is a test, or one run of a property.
type tester interface {
	Helper()
	Context() context.Context
	Fatal(args ...any)
}

type totals struct{ purchased, released, changes int64 }

func (d *database) totals(t tester, product string) (got totals) {
	t.Helper()
	err := d.raw.QueryRow(t.Context(), `SELECT
		coalesce((SELECT purchased FROM fences WHERE product_id = $1), 0),
		coalesce((SELECT released FROM releases WHERE product_id = $1), 0),
		(SELECT count(*) FROM changes WHERE product_id = $1)`, product).Scan(&got.purchased, &got.released, &got.changes)
	if err != nil {
		t.Fatal(err)
	}
	return got
}

func (d *database) purchase(t *testing.T, id uuid.UUID) *ledger.Purchase {
	t.Helper()
	p, err := d.Purchase(t.Context(), id)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

var (
	states  = []ledger.State{ledger.Held, ledger.Confirmed, ledger.Cancelled, ledger.Expired, ledger.Returned}
	actions = []ledger.Action{ledger.Extend, ledger.Confirm, ledger.Cancel, ledger.Expire, ledger.Return}
)

// inState stores a purchase of some units and takes it to a state.
func (d *database) inState(t *testing.T, f ledger.Fence, state ledger.State, amount int64) *ledger.Purchase {
	t.Helper()
	request := uuid.NewString()
	p := purchaseOf(f, request, amount)
	switch state {
	case ledger.Held, ledger.Cancelled:
		p = holdOf(f, request, amount, time.Hour)
	case ledger.Expired:
		p = holdOf(f, request, amount, -time.Hour)
	}
	d.commit(t, p)
	switch state {
	case ledger.Cancelled:
		d.must(t, ledger.Change{PurchaseID: p.PurchaseID, Action: ledger.Cancel, RequestID: "to " + string(state)})
	case ledger.Returned:
		d.must(t, ledger.Change{PurchaseID: p.PurchaseID, Action: ledger.Return, RequestID: "to " + string(state)})
	case ledger.Expired:
		if _, err := d.ExpireDue(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	got := d.purchase(t, p.PurchaseID)
	if got.State != state {
		t.Fatalf("purchase is %s, want %s", got.State, state)
	}
	return got
}

// cell is what an action does to a purchase of five units.
type cell struct {
	to   ledger.State
	back int64 // units given back
	err  error // instead of a StateError
}

// Each action does in each state what the table of lives says, counts what it gives back,
// and is written down; what is refused leaves no trace. Whoever repeats his request is
// told the same, and moves nothing.
func TestEachActionInEachState(t *testing.T) {
	d := newDatabase(t)
	possible := map[ledger.Action]map[ledger.State]cell{
		ledger.Extend:  {ledger.Held: {to: ledger.Held}},
		ledger.Confirm: {ledger.Held: {to: ledger.Confirmed}, ledger.Expired: {err: ledger.ErrToReadmit}},
		ledger.Cancel:  {ledger.Held: {to: ledger.Cancelled, back: 5}},
		ledger.Return:  {ledger.Confirmed: {to: ledger.Returned, back: 5}},
	}
	token := int64(1)
	for _, action := range actions {
		for _, state := range states {
			t.Run(fmt.Sprint(action, " ", state), func(t *testing.T) {
				token++
				f := d.begin(t, fmt.Sprint(action, " ", state), token, 100)
				before := d.inState(t, f, state, 5)
				was := d.totals(t, f.ProductID)
				c := ledger.Change{
					PurchaseID: before.PurchaseID, Action: action, RequestID: "r",
					ExpireTime: before.CreateTime.Add(2*time.Hour + time.Nanosecond), MaxHold: maxHold,
				}
				got := d.change(t, c)[0]
				after := d.purchase(t, before.PurchaseID)
				want, ok := possible[action][state]
				if !ok || want.err != nil {
					var refused *ledger.StateError
					switch {
					case want.err != nil && !errors.Is(got.Err, want.err):
						t.Errorf("got %v, want %v", got.Err, want.err)
					case want.err == nil && (!errors.As(got.Err, &refused) || refused.Action != action || refused.State != state):
						t.Errorf("got %v, want a StateError of %s", got.Err, state)
					}
					if !reflect.DeepEqual(after, before) || d.totals(t, f.ProductID) != was {
						t.Errorf("what was refused left a trace: %+v, before it %+v", after, before)
					}
					return
				}
				if got.Err != nil || !reflect.DeepEqual(got.Purchase, after) {
					t.Errorf("told %+v (%v), stored %+v", got.Purchase, got.Err, after)
				}
				now := d.totals(t, f.ProductID)
				if after.State != want.to || after.Has() != 5-want.back ||
					now != (totals{was.purchased, was.released + want.back, was.changes + 1}) {
					t.Errorf("%+v with totals %+v, want %+v from %+v", after, now, want, was)
				}
				if action == ledger.Extend && !after.ExpireTime.Equal(c.ExpireTime.Truncate(time.Microsecond)) {
					t.Errorf("the hold ends at %v, want %v", after.ExpireTime, c.ExpireTime)
				}
				d.checkHistory(t, c, after, -want.back)
				d.checkRepetition(t, c, got, now)
			})
		}
	}
	d.checkLedger(t)
}

// checkHistory compares the row of a change with what was asked for and what came of it.
func (d *database) checkHistory(t *testing.T, c ledger.Change, after *ledger.Purchase, units int64) {
	t.Helper()
	var (
		product, action, state string
		amount, moved          int64
		expires                *time.Time
	)
	err := d.raw.QueryRow(t.Context(), `SELECT product_id, action, amount, state, units, expire_time FROM changes
		WHERE purchase_id = $1 AND request_id = $2`, c.PurchaseID, c.RequestID).
		Scan(&product, &action, &amount, &state, &moved, &expires)
	if err != nil || product != after.ProductID || action != string(c.Action) || amount != c.Amount ||
		state != string(after.State) || moved != units || !reflect.DeepEqual(expires, after.ExpireTime) {
		t.Errorf("written down as %s %d of %s to %s, %d units, until %v (%v)", action, amount, product, state, moved, expires, err)
	}
}

// checkRepetition asks again, and for something else by the same request id.
func (d *database) checkRepetition(t *testing.T, c ledger.Change, first ledger.Changed, was totals) {
	t.Helper()
	if again := d.change(t, c)[0]; again.Err != nil || !reflect.DeepEqual(again.Purchase, first.Purchase) {
		t.Errorf("repeated: %+v (%v), want %+v", again.Purchase, again.Err, first.Purchase)
	}
	other, more := c, c
	other.Action = ledger.Confirm
	if c.Action == ledger.Confirm {
		other.Action = ledger.Return
	}
	more.Amount++
	for _, reused := range []ledger.Change{other, more} {
		if got := d.change(t, reused)[0]; !errors.Is(got.Err, ledger.ErrRequestIDReused) {
			t.Errorf("%+v: got %v, want ErrRequestIDReused", reused, got.Err)
		}
	}
	if now := d.totals(t, first.Purchase.ProductID); now != was {
		t.Errorf("repetitions moved %+v to %+v", was, now)
	}
}

// A hold has a price for everybody else, so nobody keeps one for ever, nor wakes the dead.
func TestHoldIsExtendedOnlyWhileItLasts(t *testing.T) {
	d := newDatabase(t)
	f := d.begin(t, "p", 1, 100)
	held, due := holdOf(f, "held", 1, time.Hour), holdOf(f, "due", 1, -time.Minute)
	d.commit(t, held, due)
	extend := func(p *ledger.Purchase, request string, to time.Time) error {
		return d.change(t, ledger.Change{
			PurchaseID: p.PurchaseID, Action: ledger.Extend, RequestID: request, ExpireTime: to, MaxHold: maxHold,
		})[0].Err
	}
	latest := held.CreateTime.Add(maxHold)
	var tooLong *ledger.HoldError
	if err := extend(held, "a", latest.Add(time.Microsecond)); !errors.As(err, &tooLong) || !tooLong.Latest.Equal(latest) {
		t.Errorf("beyond the longest hold: %v, want a HoldError of %v", err, latest)
	}
	if err := extend(held, "b", latest); err != nil {
		t.Errorf("as long as may be: %v", err)
	}
	var over *ledger.StateError
	if err := extend(due, "a", time.Now().Add(time.Hour)); !errors.As(err, &over) || over.State != ledger.Expired {
		t.Errorf("after its time, before anybody expired it: %v, want a StateError of an expired one", err)
	}
	if got := d.totals(t, "p"); got != (totals{2, 0, 1}) {
		t.Errorf("totals %+v", got)
	}
}

// A part of a hold can be confirmed, and parts of a purchase returned, one after the other;
// never more than there is.
func TestPartsAreCounted(t *testing.T) {
	d := newDatabase(t)
	f := d.begin(t, "p", 1, 100)
	p := holdOf(f, "r", 10, time.Hour)
	d.commit(t, p)
	for i, step := range []struct {
		action ledger.Action
		amount int64
		state  ledger.State
		has    int64
		most   int64 // refused: more than this
	}{
		{ledger.Confirm, 11, ledger.Held, 10, 10},
		{ledger.Confirm, -1, ledger.Held, 10, 10},
		{ledger.Confirm, 7, ledger.Confirmed, 7, 0},
		{ledger.Return, 8, ledger.Confirmed, 7, 7},
		{ledger.Return, -1, ledger.Confirmed, 7, 7},
		{ledger.Return, 2, ledger.Confirmed, 5, 0},
		{ledger.Return, 2, ledger.Confirmed, 3, 0},
		{ledger.Return, 0, ledger.Returned, 0, 0},
	} {
		got := d.change(t, ledger.Change{PurchaseID: p.PurchaseID, Action: step.action, Amount: step.amount, RequestID: fmt.Sprint(i)})[0]
		var tooMuch *ledger.AmountError
		switch {
		case step.most > 0 && (!errors.As(got.Err, &tooMuch) || tooMuch.Has != step.most):
			t.Errorf("step %d: %v, want an AmountError of %d", i, got.Err, step.most)
		case step.most == 0 && got.Err != nil:
			t.Errorf("step %d: %v", i, got.Err)
		}
		if now := d.purchase(t, p.PurchaseID); now.State != step.state || now.Has() != step.has {
			t.Errorf("step %d: %+v, want %s with %d", i, now, step.state, step.has)
		}
	}
	if got := d.totals(t, "p"); got != (totals{10, 10, 4}) {
		t.Errorf("totals %+v", got)
	}
}

// A basket is confirmed as a whole or not at all, and everybody in it is told why.
func TestSetHappensAsAWholeOrNotAtAll(t *testing.T) {
	d := newDatabase(t)
	f := d.begin(t, "p", 1, 100)
	a, b, gone := d.inState(t, f, ledger.Held, 3), d.inState(t, f, ledger.Held, 4), d.inState(t, f, ledger.Cancelled, 5)
	was := d.totals(t, "p")
	confirm := func(p *ledger.Purchase, request string, amount int64) ledger.Change {
		return ledger.Change{PurchaseID: p.PurchaseID, Action: ledger.Confirm, RequestID: request, Amount: amount}
	}
	nobody := &ledger.Purchase{PurchaseID: uuid.New()}
	got := d.change(t, confirm(a, "1", 0), confirm(gone, "1", 0), confirm(nobody, "1", 0), confirm(b, "1", 9))
	var state *ledger.StateError
	var amount *ledger.AmountError
	if got[0].Err != nil || !reflect.DeepEqual(got[0].Purchase, a) {
		t.Errorf("the innocent one: %+v (%v), want it as it was", got[0].Purchase, got[0].Err)
	}
	if !errors.As(got[1].Err, &state) || !errors.Is(got[2].Err, ledger.ErrNotFound) || !errors.As(got[3].Err, &amount) {
		t.Errorf("errors %v, %v, %v", got[1].Err, got[2].Err, got[3].Err)
	}
	if now := d.totals(t, "p"); now != was || !reflect.DeepEqual(d.purchase(t, a.PurchaseID), a) {
		t.Errorf("totals %+v, want %+v", now, was)
	}
	got = d.must(t, confirm(a, "2", 0), confirm(b, "2", 1))
	if got[0].Purchase.Has() != 3 || got[1].Purchase.Has() != 1 {
		t.Errorf("%+v, %+v", got[0].Purchase, got[1].Purchase)
	}
	// Of what happened before, a part may be repeated together with something else.
	got = d.must(t, confirm(a, "2", 0), ledger.Change{PurchaseID: b.PurchaseID, Action: ledger.Return, RequestID: "3"})
	if got[0].Purchase.Has() != 3 || got[1].Purchase.State != ledger.Returned {
		t.Errorf("%+v, %+v", got[0].Purchase, got[1].Purchase)
	}
	if now := d.totals(t, "p"); now != (totals{12, 9, was.changes + 3}) {
		t.Errorf("totals %+v", now)
	}
}

// Sets of one batch follow each other: each finds what the one before it has left.
func TestSetsOfABatchFollowEachOther(t *testing.T) {
	d := newDatabase(t)
	f := d.begin(t, "p", 1, 100)
	p, q := d.inState(t, f, ledger.Held, 5), d.inState(t, f, ledger.Held, 5)
	of := func(p *ledger.Purchase, action ledger.Action, request string, amount int64) ledger.Change {
		return ledger.Change{PurchaseID: p.PurchaseID, Action: action, RequestID: request, Amount: amount}
	}
	got := d.changeSets(t,
		[]ledger.Change{of(p, ledger.Confirm, "1", 4), of(q, ledger.Cancel, "1", 0)},
		[]ledger.Change{of(p, ledger.Return, "2", 1), of(q, ledger.Cancel, "2", 0)}, // the second is too late
		[]ledger.Change{of(p, ledger.Confirm, "1", 4)},                              // a repetition
		[]ledger.Change{of(p, ledger.Return, "3", 1)},
		[]ledger.Change{of(p, ledger.Return, "3", 2)}, // the id was used just now
		[]ledger.Change{of(p, ledger.Return, "4", 1)},
	)
	var state *ledger.StateError
	if !errors.As(got[1][1].Err, &state) || state.State != ledger.Cancelled || !errors.Is(got[4][0].Err, ledger.ErrRequestIDReused) {
		t.Errorf("errors %v, %v", got[1][1].Err, got[4][0].Err)
	}
	for i, has := range []int64{4, 4, 4, 3, -1, 2} {
		if a := got[i][0]; has >= 0 && (a.Err != nil || a.Purchase.Has() != has) {
			t.Errorf("set %d: %+v (%v), want %d units", i, a.Purchase, a.Err, has)
		}
	}
	if now := d.totals(t, "p"); now != (totals{10, 8, 4}) {
		t.Errorf("totals %+v", now)
	}
	if p := d.purchase(t, p.PurchaseID); p.Has() != 2 || p.State != ledger.Confirmed {
		t.Errorf("stored %+v", p)
	}
}

const lockTimeout = "55P03"

// Many who change the same purchases in different orders wait for each other, and never in
// a circle, also with those who expire.
func TestChangesOfTheSamePurchasesDoNotDeadlock(t *testing.T) {
	d := newDatabase(t)
	f, g := d.begin(t, "p", 1, 1000), d.begin(t, "q", 2, 1000)
	var all []*ledger.Purchase
	for i := range 8 {
		all = append(all, purchaseOf(f, fmt.Sprint(i), 100), purchaseOf(g, fmt.Sprint(i), 100))
	}
	d.commit(t, all...)
	var wg sync.WaitGroup
	for n := range 6 {
		wg.Go(func() {
			for round := range 10 {
				mine := slices.Clone(all)
				if n%2 == 0 {
					slices.Reverse(mine)
				}
				var set []ledger.Change
				for _, p := range mine {
					set = append(set, ledger.Change{
						PurchaseID: p.PurchaseID, Action: ledger.Return, Amount: 1, RequestID: fmt.Sprint(n, " ", round),
					})
				}
				answers, err := d.Change(t.Context(), [][]ledger.Change{set})
				var refused *ledger.RefusedError
				for errors.As(err, &refused) && refused.PgError.Code == lockTimeout { // on a slow machine
					answers, err = d.Change(t.Context(), [][]ledger.Change{set})
				}
				if err != nil || answers[0][0].Err != nil {
					t.Errorf("%v %v", answers, err)
				}
				held := holdOf(f, fmt.Sprint("held", n, round), 1, -time.Second)
				if _, err := d.Commit(t.Context(), []*ledger.Purchase{held}); err != nil {
					t.Error(err)
				}
				if _, err := d.ExpireDue(t.Context()); err != nil {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
	d.checkSums(t)
	if now := d.totals(t, "q"); now.released != 8*60 {
		t.Errorf("%d units given back, want %d", now.released, 8*60)
	}
}
