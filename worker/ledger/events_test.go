package ledger_test

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/holdfast-io/holdfast/worker/ledger"
)

// events reads all events after a place, in pages.
func (d *database) events(t *testing.T, after ledger.Cursor, product string, limit int) (all []ledger.Event, next ledger.Cursor) {
	t.Helper()
	for {
		page, err := d.Events(t.Context(), after, product, limit)
		if err != nil {
			t.Fatal(err)
		}
		if !page.End && !after.Less(page.Next) {
			t.Fatalf("a page that does not end stays at %v", after)
		}
		all, after = append(all, page.Events...), page.Next
		if page.End {
			return all, after
		}
	}
}

func kinds(events []ledger.Event) (kinds []string) {
	for _, e := range events {
		kinds = append(kinds, string(e.Kind))
	}
	return kinds
}

func (d *database) hold(t *testing.T, f ledger.Fence, request string, amount int64) *ledger.Purchase {
	t.Helper()
	p := purchaseOf(f, request, amount)
	expires := time.Now().Add(time.Hour).UTC().Truncate(time.Microsecond)
	p.ExpireTime = &expires
	d.commit(t, p)
	return p
}

// Whoever follows the events of a purchase must be able to say what has become of it, and
// of its product's stock.
func TestEventsTellTheWholeLifeOfAPurchase(t *testing.T) {
	d := newDatabase(t)
	f := d.begin(t, "p", 1, 100)
	held := d.hold(t, f, "r1", 5)
	expires := held.ExpireTime.Add(time.Minute)
	d.must(t, ledger.Change{PurchaseID: held.PurchaseID, Action: ledger.Extend, RequestID: "x", ExpireTime: expires, MaxHold: 24 * time.Hour})
	d.must(t, ledger.Change{PurchaseID: held.PurchaseID, Action: ledger.Confirm, RequestID: "c", Amount: 3})
	d.must(t, ledger.Change{PurchaseID: held.PurchaseID, Action: ledger.Return, RequestID: "b"})
	if _, err := d.Deliver(t.Context(), ledger.Delivery{DeliveryID: uuid.New(), ProductID: "p", RequestID: "d", Amount: 7}); err != nil {
		t.Fatal(err)
	}
	if _, err := d.TakeAway(t.Context(), f, &ledger.Delivery{DeliveryID: uuid.New(), RequestID: "m", Amount: -2}); err != nil {
		t.Fatal(err)
	}
	d.commit(t, purchaseOf(f, "r2", 1))
	events, _ := d.events(t, ledger.Cursor{}, "", 100)
	type told struct {
		kind          ledger.EventKind
		amount, units int64
		state         ledger.State
		request       string
		expires       bool
		moves         bool
	}
	var got []told
	for _, e := range events {
		got = append(got, told{e.Kind, e.Amount, e.Units, e.State, e.RequestID, e.ExpireTime != nil, e.Moves()})
		if e.ProductID != "p" || e.CreateTime.IsZero() || (e.Units != 0 && e.CustomerID != "ann") {
			t.Errorf("event %+v", e)
		}
	}
	want := []told{
		{ledger.EventHeld, 5, 5, ledger.Held, "r1", true, true},
		{ledger.EventExtended, 5, 0, ledger.Held, "x", true, false},
		{ledger.EventConfirmed, 5, -2, ledger.Confirmed, "c", true, true},
		{ledger.EventReturned, 5, -3, ledger.Returned, "b", true, true},
		{ledger.EventDelivered, 7, 0, "", "d", false, true},
		{ledger.EventMissing, -2, 0, "", "m", false, true},
		{ledger.EventPurchased, 1, 1, ledger.Confirmed, "r2", false, true},
	}
	if !slices.Equal(got, want) {
		t.Errorf("got  %+v\nwant %+v", got, want)
	}
	d.checkLedger(t)
}

// A transaction that began earlier may commit later. Whoever has read what came after it
// would never read it, if he had gone on.
func TestEventsOfATransactionThatCommitsLateAreNotSkipped(t *testing.T) {
	d := newDatabase(t)
	late, early := d.begin(t, "late", 1, 100), d.begin(t, "early", 1, 100)
	d.exec(t, "BEGIN")
	d.exec(t, `INSERT INTO purchases (purchase_id, product_id, request_id, amount, customer_id, state, topology, token, tenure_id)
		VALUES (gen_random_uuid(), 'late', 'r1', 7, 'ann', 'confirmed', 1, 1, $1)`, late.TenureID)
	d.commit(t, purchaseOf(early, "r1", 1))
	before, cursor := d.events(t, ledger.Cursor{}, "", 100)
	if len(before) > 0 {
		t.Errorf("read %v over a transaction that has not ended", kinds(before))
	}
	d.exec(t, "COMMIT")
	after, _ := d.events(t, cursor, "", 100)
	if len(after) != 2 || after[0].ProductID != "late" || after[1].ProductID != "early" {
		t.Errorf("read %+v afterwards", after)
	}
}

// The same with many at once, as it is when it matters: each event is read once.
func TestEventsReadWhileOthersCommitAreReadOnceEach(t *testing.T) {
	d := newDatabase(t)
	const writers, each = 6, 40
	var wg sync.WaitGroup
	for w := range writers {
		f := d.begin(t, fmt.Sprint("p", w), 1, 1_000_000)
		wg.Go(func() {
			for i := range each {
				if _, err := d.Commit(t.Context(), []*ledger.Purchase{purchaseOf(f, fmt.Sprint(i, "a"), 1), purchaseOf(f, fmt.Sprint(i, "b"), 1)}); err != nil {
					t.Error(err)
				}
			}
		})
	}
	done := make(chan struct{})
	go func() { wg.Wait(); close(done) }()
	seen := map[uuid.UUID]int{}
	var cursor ledger.Cursor
	read := func() {
		var events []ledger.Event
		events, cursor = d.events(t, cursor, "", 7)
		for _, e := range events {
			seen[e.PurchaseID]++
		}
	}
	for running := true; running; {
		select {
		case <-done:
			running = false
		default:
		}
		read()
	}
	for deadline := time.Now().Add(10 * time.Second); len(seen) < 2*writers*each && time.Now().Before(deadline); {
		read()
	}
	if len(seen) != 2*writers*each {
		t.Errorf("%d of %d read", len(seen), 2*writers*each)
	}
	for id, n := range seen {
		if n != 1 {
			t.Errorf("%s read %d times", id, n)
		}
	}
}

// One batch is one transaction, and larger than a page.
func TestEventsOfOneTransactionArePaged(t *testing.T) {
	d := newDatabase(t)
	f, other := d.begin(t, "p", 1, 1000), d.begin(t, "q", 1, 1000)
	var batch []*ledger.Purchase
	for i := range 100 {
		batch = append(batch, purchaseOf(f, fmt.Sprint(i), 1), purchaseOf(other, fmt.Sprint(i), 1))
	}
	d.commit(t, batch...)
	for _, limit := range []int{1, 7, 100, 200, 201, 1000} {
		all, _ := d.events(t, ledger.Cursor{}, "", limit)
		ids := map[uuid.UUID]bool{}
		for _, e := range all {
			ids[e.PurchaseID] = true
		}
		if len(all) != 200 || len(ids) != 200 {
			t.Errorf("in pages of %d: %d events, %d different ones", limit, len(all), len(ids))
		}
		if !slices.IsSortedFunc(all, func(a, b ledger.Event) int {
			if a.Cursor.Less(b.Cursor) {
				return -1
			}
			return 1
		}) {
			t.Errorf("in pages of %d: not in order", limit)
		}
		if limit < 7 {
			continue
		}
		of, _ := d.events(t, ledger.Cursor{}, "q", limit)
		if len(of) != 100 || slices.ContainsFunc(of, func(e ledger.Event) bool { return e.ProductID != "q" }) {
			t.Errorf("in pages of %d: %d events of one product", limit, len(of))
		}
	}
}

// "From now on" must not begin with history, nor miss what is bought next.
func TestEndIsAfterWhatWasThereAndBeforeWhatComes(t *testing.T) {
	d := newDatabase(t)
	f := d.begin(t, "p", 1, 100)
	d.commit(t, purchaseOf(f, "before", 1))
	end, err := d.EventsEnd(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	d.commit(t, purchaseOf(f, "after", 1))
	events, _ := d.events(t, end, "", 100)
	if len(events) != 1 || events[0].RequestID != "after" {
		t.Errorf("read %+v", events)
	}
}

// A change that waits for one purchase of many has its number already. Others that change
// the next purchase meanwhile have higher ones, though they are before it.
func TestEventsOfAPurchaseAreInTheOrderInWhichTheyHappened(t *testing.T) {
	d := newDatabase(t)
	f := d.begin(t, "p", 1, 100)
	var held []*ledger.Purchase
	for i := range 3 {
		held = append(held, d.hold(t, f, fmt.Sprint(i), 2))
	}
	slices.SortFunc(held, func(a, b *ledger.Purchase) int { return slices.Compare(a.PurchaseID[:], b.PurchaseID[:]) })
	d.exec(t, "BEGIN")
	d.exec(t, "SELECT 1 FROM purchases WHERE purchase_id = $1 FOR UPDATE", held[1].PurchaseID)
	var wg sync.WaitGroup
	wg.Go(func() {
		_, err := d.Change(context.WithoutCancel(t.Context()), [][]ledger.Change{
			{{PurchaseID: held[0].PurchaseID, Action: ledger.Cancel, RequestID: "c"}},
			{{PurchaseID: held[1].PurchaseID, Action: ledger.Cancel, RequestID: "c"}},
			{{PurchaseID: held[2].PurchaseID, Action: ledger.Return, RequestID: "second"}},
		})
		if err != nil {
			t.Error(err)
		}
	})
	d.awaitBlocked(t, 1)
	d.must(t, ledger.Change{PurchaseID: held[2].PurchaseID, Action: ledger.Confirm, RequestID: "first"})
	d.exec(t, "COMMIT")
	wg.Wait()
	all, _ := d.events(t, ledger.Cursor{}, "", 100)
	var of []ledger.Event
	for _, e := range all {
		if e.PurchaseID == held[2].PurchaseID {
			of = append(of, e)
		}
	}
	if got := fmt.Sprint(kinds(of)); got != "[held confirmed returned]" {
		t.Errorf("events are %s", got)
	}
	if len(all) != 7 {
		t.Errorf("%d events: %v", len(all), kinds(all))
	}
	d.checkLedger(t)
}
