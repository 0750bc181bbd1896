package ledger_test

import (
	"errors"
	"reflect"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/holdfast-io/holdfast/worker/ledger"
)

// placed is an order of one held unit whose payment has begun.
func (d *database) placed(t *testing.T, f ledger.Fence, request string) *ledger.WholeOrder {
	t.Helper()
	id, price := uuid.New(), int64(5)
	p := holdOf(f, request, 1, time.Hour)
	p.OrderID, p.UnitPrice = &id, &price
	d.commit(t, p)
	o, err := d.PlaceOrder(t.Context(), ledger.Order{
		OrderID: id, PaymentMethod: "m", Currency: "EUR", Content: []byte(request), State: ledger.OrderPlaced,
	}, true)
	if err != nil || o.Payment == nil || len(o.Purchases) != 1 {
		t.Fatalf("%+v, %v", o, err)
	}
	return o
}

func (d *database) payment(t *testing.T, o *ledger.WholeOrder) ledger.Payment {
	t.Helper()
	stored, err := d.WholeOrder(t.Context(), o.OrderID)
	if err != nil {
		t.Fatal(err)
	}
	return *stored.Payment
}

// What a provider has said is not lost because nothing could be done about it: the void that
// follows an expiry needs the provider's reference. And what was said first stays.
func TestSettlementIsStoredWhateverBecomesOfTheChange(t *testing.T) {
	d := newDatabase(t)
	f := d.begin(t, "p", 1, 10)
	confirm := func(o *ledger.WholeOrder, said ledger.Settlement) error {
		return d.change(t, ledger.Change{
			PurchaseID: o.Purchases[0].PurchaseID, Action: ledger.Confirm, RequestID: "c", OrderID: &o.OrderID, Settlement: &said,
		})[0].Err
	}
	o := d.placed(t, f, "expired")
	d.exec(t, "UPDATE purchases SET expire_time = now() - interval '1 s'")
	d.must(t, ledger.Change{PurchaseID: o.Purchases[0].PurchaseID, Action: ledger.Expire, RequestID: "e"})
	if err := confirm(o, ledger.Settlement{State: ledger.Authorized, Reference: "r"}); err == nil {
		t.Error("a hold that has ended was confirmed")
	}
	if p := d.payment(t, o); p.State != ledger.Authorized || p.Reference != "r" {
		t.Errorf("what the provider said was stored as %+v", p)
	}

	o = d.placed(t, f, "confirmed")
	if err := confirm(o, ledger.Settlement{State: ledger.Authorized, Reference: "first"}); err != nil {
		t.Fatal(err)
	}
	if err := confirm(o, ledger.Settlement{State: ledger.Declined, Decline: "late"}); err != nil {
		t.Error(err)
	}
	if p := d.payment(t, o); p.State != ledger.Authorized || p.Reference != "first" || p.Decline != "" {
		t.Errorf("what the provider said first was overwritten: %+v", p)
	}
}

// Tasks are ended together, each once: a second time, by whoever believes that it is still
// his duty, nothing is captured again.
func TestTasksEndTogetherAndOnce(t *testing.T) {
	d := newDatabase(t)
	f := d.begin(t, "p", 1, 10)
	authorized := &ledger.Settlement{State: ledger.Authorized}
	var orders []*ledger.WholeOrder
	for _, request := range []string{"a", "b"} {
		o := d.placed(t, f, request)
		orders = append(orders, o)
		d.must(t, ledger.Change{
			PurchaseID: o.Purchases[0].PurchaseID, Action: ledger.Confirm, RequestID: "c", OrderID: &o.OrderID, Settlement: authorized,
		})
	}
	tasks, err := d.DueTasks(t.Context(), 10, []int64{})
	if err != nil || len(tasks) != 2 {
		t.Fatal(tasks, err)
	}
	for range 2 {
		if err := d.EndTasks(t.Context(), []int64{tasks[0].TaskID, tasks[1].TaskID}); err != nil {
			t.Fatal(err)
		}
		for _, o := range orders {
			if p := d.payment(t, o); p.State != ledger.Captured || p.Captured != 5 {
				t.Errorf("%+v", p)
			}
		}
	}
	if tasks, err = d.DueTasks(t.Context(), 10, []int64{}); err != nil || len(tasks) != 0 {
		t.Error(tasks, err)
	}
}

// Whoever has what he paid for confirmed and returns it before it was captured gets his money
// back all the same: it is let go.
func TestWhatIsConfirmedAndReturnedAtOnceIsLetGo(t *testing.T) {
	d := newDatabase(t)
	f := d.begin(t, "p", 1, 10)
	o := d.placed(t, f, "a")
	id := o.Purchases[0].PurchaseID
	answers := d.changeSets(t,
		[]ledger.Change{{
			PurchaseID: id, Action: ledger.Confirm, RequestID: "c", OrderID: &o.OrderID,
			Settlement: &ledger.Settlement{State: ledger.Authorized},
		}},
		[]ledger.Change{{PurchaseID: id, Action: ledger.Return, RequestID: "r"}})
	if answers[0][0].Err != nil || answers[1][0].Err != nil {
		t.Fatal(answers)
	}
	tasks, err := d.DueTasks(t.Context(), 10, []int64{})
	if err != nil || len(tasks) != 1 || tasks[0].Action != ledger.TaskVoid {
		t.Errorf("%+v, %v; want a void", tasks, err)
	}
}

// An order that was opened, and never closed because the worker was killed, is placed.
func TestOpenOrderIsPlaced(t *testing.T) {
	d := newDatabase(t)
	asked := ledger.Order{OrderID: uuid.New(), Content: []byte("asked"), State: ledger.OrderPlaced}
	if o, err := d.OpenOrder(t.Context(), asked); err != nil || o.State != ledger.OrderOpen {
		t.Fatal(o, err)
	}
	other := asked
	other.Content = []byte("other")
	if o, err := d.PlaceOrder(t.Context(), other, false); !errors.Is(err, ledger.ErrRequestIDReused) || o.State != ledger.OrderOpen {
		t.Errorf("placed by what was asked otherwise: %+v, %v", o, err)
	}
	failed := asked
	failed.State = ledger.OrderFailed
	for _, o := range []ledger.Order{asked, failed} { // the first one decides
		if stored, err := d.PlaceOrder(t.Context(), o, false); err != nil || stored.State != ledger.OrderPlaced {
			t.Errorf("%+v, %v", stored, err)
		}
	}
}

// What is told of an order that was just placed is what is stored, and so is what is told of
// the repetition. A hold that has ended has its order placed, and no payment begins.
func TestPlacedOrderIsToldAsItIsStored(t *testing.T) {
	d := newDatabase(t)
	f := d.begin(t, "p", 1, 10)
	for name, tt := range map[string]struct {
		price    *int64
		toBePaid bool
		ended    bool
		begins   bool
	}{
		"paid":          {new(int64(5)), true, false, true},
		"paid later":    {new(int64(5)), false, false, false},
		"free":          {new(int64(0)), true, false, false},
		"without price": {nil, true, false, false},
		"ended":         {new(int64(5)), true, true, false},
	} {
		id := uuid.New()
		p := holdOf(f, name, 2, time.Hour)
		p.OrderID, p.UnitPrice = &id, tt.price
		d.commit(t, p)
		if tt.ended {
			d.exec(t, "UPDATE purchases SET expire_time = now() - interval '1 s' WHERE request_id = 'ended'")
		}
		asked := ledger.Order{
			OrderID: id, RequestID: name, CustomerID: "ann", PaymentMethod: "m", Currency: "EUR", Content: []byte(name), State: ledger.OrderPlaced,
		}
		first, err := d.PlaceOrder(t.Context(), asked, tt.toBePaid)
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		again, err := d.PlaceOrder(t.Context(), asked, tt.toBePaid)
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		stored, err := d.WholeOrder(t.Context(), id)
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		if (stored.Payment != nil) != tt.begins || len(stored.Purchases) != 1 {
			t.Errorf("%s: stored as %+v", name, stored)
		}
		for _, told := range []*ledger.WholeOrder{first, again} {
			if !reflect.DeepEqual(told.Order, stored.Order) || !reflect.DeepEqual(told.Payment, stored.Payment) ||
				!reflect.DeepEqual(told.Purchases, stored.Purchases) {
				t.Errorf("%s: told as\n%+v %+v %+v\nstored as\n%+v %+v %+v", name,
					told.Order, told.Payment, told.Purchases[0], stored.Order, stored.Payment, stored.Purchases[0])
			}
		}
	}
}
