package ledger_test

import (
	"errors"
	"reflect"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/holdfast-io/holdfast/worker/ledger"
)

// An expired hold can be confirmed once more by the tenure that has found the units, and
// by nobody else.
func TestExpiredPurchaseIsReadmittedUnderTheFence(t *testing.T) {
	d := newDatabase(t)
	old := d.begin(t, "p", 1, 100)
	p, q := d.inState(t, old, ledger.Expired, 5), d.inState(t, old, ledger.Expired, 5)
	f := d.begin(t, "p", 2, 100)
	readmit := func(r ledger.Readmission, want ledger.Outcome, after totals) {
		t.Helper()
		if got, err := d.Readmit(t.Context(), r); err != nil || got != want {
			t.Errorf("%+v: %v (%v), want %v", r, got, err, want)
		}
		d.checkSums(t)
		if got := d.totals(t, "p"); got != after {
			t.Errorf("%+v: totals %+v, want %+v", r, got, after)
		}
	}
	all := ledger.Readmission{Fence: f, PurchaseID: p.PurchaseID, RequestID: "all", Amount: 5}
	part := ledger.Readmission{Fence: f, PurchaseID: q.PurchaseID, RequestID: "part", Asked: 2, Amount: 2}
	stale, wrong := all, all
	stale.Fence, wrong.Fence.Token = old, 9 // the tenure decides, not what is claimed of it
	nobody := all
	nobody.PurchaseID = uuid.New()
	readmit(stale, ledger.Fenced, totals{10, 10, 2})
	readmit(nobody, ledger.Replayed, totals{10, 10, 2})
	readmit(all, ledger.Inserted, totals{15, 10, 3})
	readmit(all, ledger.Replayed, totals{15, 10, 3})
	readmit(part, ledger.Inserted, totals{17, 10, 4})
	if now := d.purchase(t, p.PurchaseID); now.State != ledger.Confirmed || now.Has() != 5 {
		t.Errorf("confirmed anew: %+v", now)
	}
	tooMuch := ledger.Readmission{Fence: f, PurchaseID: d.inState(t, f, ledger.Expired, 5).PurchaseID, RequestID: "x", Amount: 6}
	var refused *ledger.RefusedError
	if _, err := d.Readmit(t.Context(), tooMuch); !errors.As(err, &refused) {
		t.Errorf("more than it was: %v, want a RefusedError", err)
	}
	// The buyer asks again, and his confirmation is found; so is one with other content.
	again := ledger.Change{PurchaseID: q.PurchaseID, Action: ledger.Confirm, RequestID: "part", Amount: 2}
	if got := d.must(t, again)[0]; got.Purchase.Has() != 2 || got.Purchase.State != ledger.Confirmed {
		t.Errorf("repeated: %+v", got.Purchase)
	}
	again.Amount = 0
	if got := d.change(t, again)[0]; !errors.Is(got.Err, ledger.ErrRequestIDReused) {
		t.Errorf("got %v, want ErrRequestIDReused", got.Err)
	}
	if got := d.must(t, ledger.Change{PurchaseID: q.PurchaseID, Action: ledger.Return, RequestID: "back", Amount: 1}); got[0].Purchase.Has() != 1 {
		t.Errorf("returned a part: %+v", got[0].Purchase)
	}
	if got := d.must(t, ledger.Change{PurchaseID: q.PurchaseID, Action: ledger.Return, RequestID: "rest"}); got[0].Purchase.State != ledger.Returned {
		t.Errorf("returned the rest: %+v", got[0].Purchase)
	}
	d.checkLedger(t)
}

// A fence that is raised while a readmission or a loss waits for it stops them.
func TestFenceRaisedWhileUnitsAreTaken(t *testing.T) {
	for _, what := range []string{"readmission", "loss"} {
		t.Run(what, func(t *testing.T) {
			d := newDatabase(t)
			f := d.begin(t, "p", 1, 100)
			p := d.inState(t, f, ledger.Expired, 5)
			was := d.totals(t, "p")
			d.exec(t, "BEGIN")
			d.exec(t, "SELECT 1 FROM fences WHERE product_id = 'p' FOR UPDATE")
			var wg sync.WaitGroup
			wg.Go(func() {
				var got ledger.Outcome
				var err error
				if what == "readmission" {
					got, err = d.Readmit(t.Context(), ledger.Readmission{Fence: f, PurchaseID: p.PurchaseID, RequestID: "r", Amount: 5})
				} else {
					got, err = d.TakeAway(t.Context(), f, &ledger.Delivery{DeliveryID: uuid.New(), RequestID: "r", Amount: -5})
				}
				if got != ledger.Fenced || err != nil {
					t.Errorf("got %v (%v), want Fenced", got, err)
				}
			})
			d.awaitBlocked(t, 1)
			d.exec(t, "UPDATE fences SET token = 11, tenure_id = gen_random_uuid() WHERE product_id = 'p'")
			d.exec(t, "COMMIT")
			wg.Wait()
			d.checkSums(t)
			if now := d.totals(t, "p"); now != was {
				t.Errorf("totals %+v, want %+v", now, was)
			}
		})
	}
}

// What is added needs nobody's leave, what is missing the tenure's; both happen once.
func TestDeliveriesAreCountedOnce(t *testing.T) {
	d := newDatabase(t)
	old := d.begin(t, "p", 1, 100)
	f := d.begin(t, "p", 2, 100)
	add := ledger.Delivery{DeliveryID: uuid.New(), ProductID: "p", RequestID: "add", Amount: 40}
	first, err := d.Deliver(t.Context(), add)
	if err != nil || first.DeliveryID != add.DeliveryID || first.Amount != 40 || first.CreateTime.IsZero() {
		t.Errorf("delivered %+v (%v)", first, err)
	}
	add.DeliveryID, add.Amount = uuid.New(), 50
	if again, err := d.Deliver(t.Context(), add); err != nil || !reflect.DeepEqual(again, first) {
		t.Errorf("repeated: %+v (%v), want %+v", again, err, first)
	}
	add.ProductID = "unknown"
	if _, err := d.Deliver(t.Context(), add); !errors.Is(err, ledger.ErrNotFound) {
		t.Errorf("of no product: %v, want ErrNotFound", err)
	}
	d.checkSums(t)
	missing := ledger.Delivery{DeliveryID: uuid.New(), ProductID: "p", RequestID: "missing", Amount: -30}
	for _, step := range []struct {
		fence ledger.Fence
		want  ledger.Outcome
		after totals
	}{{old, ledger.Fenced, totals{0, 40, 0}}, {f, ledger.Inserted, totals{30, 40, 0}}, {f, ledger.Replayed, totals{30, 40, 0}}} {
		if got, err := d.TakeAway(t.Context(), step.fence, &missing); err != nil || got != step.want {
			t.Errorf("taken away: %v (%v), want %v", got, err, step.want)
		}
		d.checkSums(t)
		if got := d.totals(t, "p"); got != step.after {
			t.Errorf("totals %+v, want %+v", got, step.after)
		}
	}
	stored, err := d.Delivery(t.Context(), "p", "missing")
	if err != nil || stored.Amount != -30 || !stored.CreateTime.Equal(missing.CreateTime) {
		t.Errorf("stored %+v (%v)", stored, err)
	}
	if sums, err := d.Delivered(t.Context(), []string{"p", "unknown"}); err != nil || !reflect.DeepEqual(sums, map[string]int64{"p": 10}) {
		t.Errorf("delivered in all: %v (%v)", sums, err)
	}
	raised, err := d.Raise(t.Context(), ledger.Fence{ProductID: "p", Topology: 1, Token: 3, TenureID: uuid.New()})
	if err != nil || raised.Purchased != 30 || raised.Released != 40 {
		t.Errorf("the next tenure is told %+v (%v)", raised, err)
	}
	d.checkLedger(t)
}

// Held purchases go the same two ways into the database as others.
func TestHoldsAreStoredAsTheyAre(t *testing.T) {
	for _, repeated := range []bool{false, true} {
		d := newDatabase(t)
		f := d.begin(t, "p", 1, 100)
		if repeated {
			d.commit(t, purchaseOf(f, "first", 1))
			d.commit(t, purchaseOf(f, "first", 1))
		}
		far := time.Date(2199, 12, 31, 23, 59, 59, 999999000, time.UTC)
		held, sold, late := holdOf(f, "held", 3, time.Hour), purchaseOf(f, "sold", 4), holdOf(f, "late", 5, 0)
		late.ExpireTime = &far
		for i, o := range d.commit(t, held, sold, late) {
			if o != ledger.Inserted {
				t.Fatalf("purchase %d: outcome %v", i, o)
			}
		}
		for _, want := range []*ledger.Purchase{held, sold, late} {
			got := d.purchase(t, want.PurchaseID)
			state := ledger.Held
			if want.ExpireTime == nil {
				state = ledger.Confirmed
			} else {
				*got.ExpireTime = got.ExpireTime.UTC()
			}
			stored := *want
			stored.Fence, got.CreateTime = nil, got.CreateTime.UTC()
			if want.State != state || !reflect.DeepEqual(*got, stored) {
				t.Errorf("stored %+v, want %+v", *got, stored)
			}
		}
		d.checkLedger(t)
	}
}
