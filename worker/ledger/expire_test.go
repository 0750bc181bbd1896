package ledger_test

import (
	"errors"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/holdfast-io/holdfast/worker/ledger"
)

// A thousand buyers who walk away must not leave their units behind, whoever asks.
func TestHoldsExpireHoweverMany(t *testing.T) {
	for _, by := range []string{"Verify", "ExpireDue"} {
		t.Run(by, func(t *testing.T) {
			d := newDatabase(t)
			f, other := d.begin(t, "p", 1, 10000), d.begin(t, "other", 1, 100)
			const many = 2500
			for from := 0; from < many; from += 500 {
				var batch []*ledger.Purchase
				for i := range 500 {
					batch = append(batch, holdOf(f, fmt.Sprint(from+i), 2, -time.Second))
				}
				d.commit(t, batch...)
			}
			still, elsewhere := holdOf(f, "still", 1, time.Hour), holdOf(other, "r", 1, -time.Second)
			d.commit(t, still, elsewhere)
			d.exec(t, "UPDATE purchases SET state = 'confirmed' WHERE request_id = '7'")
			want := totals{2*many + 1, 2 * (many - 1), many - 1}
			if by == "Verify" {
				checked, err := d.Verify(t.Context(), []ledger.Check{
					{ProductID: "p", TenureID: f.TenureID}, {ProductID: "p", TenureID: uuid.New(), RequestID: "9"},
				})
				if err != nil || !checked[0].Current || checked[1].Current || checked[0].Released != want.released ||
					checked[1].Released != want.released || checked[1].First.State != ledger.Expired {
					t.Errorf("%+v (%v)", checked, err)
				}
			} else {
				var sum int64
				for n := int64(-1); n != 0; sum += n {
					var err error
					if n, err = d.ExpireDue(t.Context()); err != nil {
						t.Fatal(err)
					}
				}
				if sum != many {
					t.Errorf("%d expired, want %d", sum, many)
				}
			}
			d.checkSums(t)
			if got := d.totals(t, "p"); got != want {
				t.Errorf("totals %+v, want %+v", got, want)
			}
			if got := d.totals(t, "other"); (got.released == 1) != (by == "ExpireDue") {
				t.Errorf("the other product: %+v", got)
			}
			if p := d.purchase(t, still.PurchaseID); p.State != ledger.Held {
				t.Errorf("a hold whose time is not up is %s", p.State)
			}
		})
	}
}

// Those who confirm while others find them due pay for what they get: the units go to one
// of them, never to both and never to none.
func TestConfirmationAndExpiryDoNotBothHappen(t *testing.T) {
	d := newDatabase(t)
	f := d.begin(t, "p", 1, 100000)
	confirm := func(p *ledger.Purchase) ledger.Changed {
		answers, err := d.Change(t.Context(), [][]ledger.Change{{{PurchaseID: p.PurchaseID, Action: ledger.Confirm, RequestID: "c"}}})
		if err != nil {
			t.Error(err)
			return ledger.Changed{}
		}
		return answers[0][0]
	}
	check := func(p *ledger.Purchase, got ledger.Changed, expired int64) {
		t.Helper()
		now := d.purchase(t, p.PurchaseID)
		sold := got.Err == nil && expired == 0 && now.State == ledger.Confirmed && now.Has() == 3
		lost := errors.Is(got.Err, ledger.ErrToReadmit) && expired == 1 && now.State == ledger.Expired && now.Has() == 0
		if !sold && !lost {
			t.Fatalf("told %v, %d expired, stored %+v", got.Err, expired, now)
		}
		d.checkSums(t)
	}
	meanwhile := func(sql string, p *ledger.Purchase, do func()) {
		d.exec(t, "BEGIN")
		d.exec(t, sql, p.PurchaseID)
		var wg sync.WaitGroup
		wg.Go(do)
		d.awaitBlocked(t, 1)
		d.exec(t, "COMMIT")
		wg.Wait()
	}
	p := holdOf(f, "confirmed first", 3, -time.Second)
	d.commit(t, p)
	expired := int64(-1)
	meanwhile("UPDATE purchases SET state = 'confirmed' WHERE purchase_id = $1", p, func() { expired, _ = d.ExpireDue(t.Context()) })
	check(p, ledger.Changed{}, expired)

	p = holdOf(f, "expired first", 3, -time.Second)
	d.commit(t, p)
	var got ledger.Changed
	meanwhile(`WITH e AS (UPDATE purchases SET state = 'expired', released = amount WHERE purchase_id = $1 RETURNING *)
		INSERT INTO changes (change_id, purchase_id, product_id, action, amount, state, units)
		SELECT gen_random_uuid(), purchase_id, product_id, 'expire', 0, 'expired', -3 FROM e`, p, func() { got = confirm(p) })
	check(p, got, 1)

	won := map[bool]int{}
	for i := range 150 {
		p := holdOf(f, fmt.Sprint(i), 3, -time.Second)
		d.commit(t, p)
		var wg sync.WaitGroup
		wg.Go(func() {
			time.Sleep(time.Duration(i%10) * 100 * time.Microsecond)
			expired, _ = d.ExpireDue(t.Context())
		})
		got = confirm(p)
		wg.Wait()
		check(p, got, expired)
		won[got.Err == nil]++
	}
	t.Logf("%d confirmed, %d expired", won[true], won[false])
}
