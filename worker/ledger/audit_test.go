package ledger_test

import (
	"fmt"
	"maps"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/holdfast-io/holdfast/worker/ledger"
)

// What the triggers refuse, somebody has switched off before he broke it.
const (
	edited    = "ALTER TABLE purchases DISABLE TRIGGER purchases_stay_what_they_are; "
	unguarded = "ALTER TABLE purchases DISABLE TRIGGER changes_under_fences; "
	lowered   = "ALTER TABLE releases DISABLE TRIGGER releases_never_go_down; "
)

// newShards are migrated shards, each a database of its own.
func newShards(t *testing.T, names ...string) (map[string]*database, []*ledger.Shard) {
	t.Helper()
	all := map[string]*database{}
	var open []*ledger.Shard
	for _, name := range names {
		all[name] = newDatabase(t)
		open = append(open, all[name].Shard)
	}
	return all, open
}

func audit(t *testing.T, shards ...*ledger.Shard) *ledger.AuditReport {
	t.Helper()
	report, err := ledger.Audit(t.Context(), shards)
	if err != nil {
		t.Fatal(err)
	}
	return report
}

// The audit is what everybody trusts, so it has to find what is planted, and nothing else.
func TestAuditFindsWhatIsWrong(t *testing.T) {
	tests := map[string]struct {
		sql  string
		want map[ledger.Kind]int64
	}{
		"nothing":  {"SELECT 1", map[ledger.Kind]int64{}},
		"oversold": {edited + "UPDATE purchases SET amount = 101; UPDATE fences SET purchased = 101", map[ledger.Kind]int64{ledger.Oversold: 1}},
		"oversold behind a total that is off": {edited + "UPDATE purchases SET amount = 101",
			map[ledger.Kind]int64{ledger.Oversold: 1, ledger.PurchasedOff: 1}},
		"sold total too high":               {"UPDATE fences SET purchased = purchased + 1", map[ledger.Kind]int64{ledger.PurchasedOff: 1}},
		"sold total too low":                {"UPDATE fences SET purchased = purchased - 1", map[ledger.Kind]int64{ledger.PurchasedOff: 1}},
		"a purchase is gone":                {"DELETE FROM purchases", map[ledger.Kind]int64{ledger.PurchasedOff: 1}},
		"token above fence":                 {"UPDATE purchases SET token = 99", map[ledger.Kind]int64{ledger.AboveFence: 1}},
		"topology above fence":              {"UPDATE purchases SET topology = 2, token = 1", map[ledger.Kind]int64{ledger.AboveFence: 1}},
		"fence is gone":                     {"DELETE FROM fences", map[ledger.Kind]int64{ledger.NoFence: 1}},
		"product is gone":                   {"DELETE FROM products", map[ledger.Kind]int64{ledger.NoProduct: 1, ledger.Oversold: 1}},
		"given back uncounted":              {unguarded + "UPDATE purchases SET released = 2", map[ledger.Kind]int64{ledger.ReleasedOff: 1}},
		"given back by nobody":              {"INSERT INTO releases VALUES ('p', 1)", map[ledger.Kind]int64{ledger.ReleasedOff: 1}},
		"what was given back is forgotten":  {"UPDATE purchases SET released = 2; DELETE FROM releases", map[ledger.Kind]int64{ledger.ReleasedOff: 1}},
		"what was given back is made less":  {"UPDATE purchases SET released = 2; " + lowered + "UPDATE releases SET released = 1", map[ledger.Kind]int64{ledger.ReleasedOff: 1}},
		"a delivery that nobody counted":    {"ALTER TABLE deliveries DISABLE TRIGGER deliveries_under_fences; INSERT INTO deliveries VALUES (gen_random_uuid(), 'p', 'd', 7)", map[ledger.Kind]int64{ledger.ReleasedOff: 1}},
		"a loss that nobody counted":        {"ALTER TABLE deliveries DISABLE TRIGGER deliveries_under_fences; INSERT INTO deliveries VALUES (gen_random_uuid(), 'p', 'd', -7)", map[ledger.Kind]int64{ledger.PurchasedOff: 1}},
		"a loss of more than there was":     {"ALTER TABLE deliveries DISABLE TRIGGER deliveries_under_fences; INSERT INTO deliveries VALUES (gen_random_uuid(), 'p', 'd', -96); UPDATE fences SET purchased = 101", map[ledger.Kind]int64{ledger.Oversold: 1}},
		"sold again what was not delivered": {"INSERT INTO deliveries VALUES (gen_random_uuid(), 'p', 'd', 1); " + edited + "UPDATE purchases SET amount = 102; UPDATE fences SET purchased = 102", map[ledger.Kind]int64{ledger.Oversold: 1}},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			d := newDatabase(t)
			d.commit(t, purchaseOf(d.begin(t, "p", 10, 100), "r1", 5))
			d.checkLedger(t)
			d.exec(t, tt.sql)
			report := audit(t, d.Shard)
			if !maps.Equal(report.Found, tt.want) || report.Clean() != (len(tt.want) == 0) {
				t.Errorf("found %+v, want %v", report, tt.want)
			}
			if tt.want[ledger.Oversold] > 0 && tt.want[ledger.NoProduct] == 0 && report.Oversold != 1 {
				t.Errorf("oversold by %d, want 1", report.Oversold)
			}
		})
	}
}

// manyProducts sells a unit of each of n products, of which only every step-th is here.
func (d *database) manyProducts(t *testing.T, n, step int) {
	t.Helper()
	d.exec(t, fmt.Sprintf(`INSERT INTO products (product_id, amount_in_storage) SELECT 'p' || n, 2 FROM generate_series(0, %d, %d) n`, n-1, step))
	d.exec(t, fmt.Sprintf(`INSERT INTO fences SELECT 'p' || n, 1, 1, '%s' FROM generate_series(0, %d, %d) n`, uuid.Max, n-1, step))
	d.exec(t, `INSERT INTO purchases (purchase_id, product_id, request_id, amount, customer_id, state, topology, token, tenure_id)
		SELECT gen_random_uuid(), product_id, 'r', 1, 'ann', 'confirmed', 1, 1, tenure_id FROM fences`)
	d.exec(t, "ANALYZE")
}

// Products that only some shards know, and more of them than are read at once, are counted
// once each; and somebody who looks on sees how far it is.
func TestAuditMergesTheShards(t *testing.T) {
	d, shards := newShards(t, "a", "b", "c")
	const many = 1300
	d["a"].manyProducts(t, many, 1)
	d["b"].manyProducts(t, many, 2)
	last := map[int]ledger.Progress{}
	shown := 0
	report, err := ledger.AuditShowing(t.Context(), shards, func(p ledger.Progress) {
		shown++
		for i, of := range []int64{many, many / 2, 0} {
			if p.OfProducts == of {
				if p.Purchases < last[i].Purchases || p.OfPurchases != of {
					t.Errorf("progress %+v after %+v", p, last[i])
				}
				last[i] = p
			}
		}
	})
	if err != nil || report.Products != many || report.Purchases != many*3/2 || report.Units != many*3/2 || !report.Clean() {
		t.Errorf("%+v (%v)", report, err)
	}
	if last[0].Products != many || last[0].Purchases != many || last[1].Products != many/2 || shown < 3+3+2 {
		t.Errorf("at the end %+v, shown %d times", last, shown)
	}
	slices.Reverse(shards) // whichever comes first
	if report = audit(t, shards...); report.Products != many || report.Units != many*3/2 {
		t.Errorf("in the other order: %+v", report)
	}
	// One unit of each product of b is one too many now: each is oversold by one there.
	d["b"].exec(t, "UPDATE fences SET purchased = purchased + 1")
	d["b"].exec(t, edited+"UPDATE purchases SET amount = 2")
	report = audit(t, shards...)
	if report.Oversold != many/2 || report.Found[ledger.Oversold] != many/2 || len(report.Findings) != many/2 || len(report.Found) != 1 {
		t.Errorf("oversold %d, found %v, listed %d", report.Oversold, report.Found, len(report.Findings))
	}
	d["a"].exec(t, "UPDATE fences SET purchased = 0")
	if report = audit(t, shards...); report.Found[ledger.PurchasedOff] != many || len(report.Findings) != 1000 || report.Oversold != many/2 {
		t.Errorf("oversold %d, found %v, listed %d", report.Oversold, report.Found, len(report.Findings))
	}
	d["b"].exec(t, "ALTER TABLE products DISABLE TRIGGER products_never_change; UPDATE products SET amount_in_storage = 3 WHERE product_id = 'p4'")
	if report = audit(t, shards...); report.Found[ledger.AmountsDiffer] != 1 {
		t.Errorf("found %v", report.Found)
	}
}

// An audit that cries wolf is switched off. Units that one shard gave back after it was
// read, and another one sold before it was read, are no fault; units that nobody gave back
// are.
func TestAuditWhileUnitsWanderBetweenShards(t *testing.T) {
	for _, givenBack := range []bool{true, false} {
		t.Run(fmt.Sprint("given back: ", givenBack), func(t *testing.T) {
			d, shards := newShards(t, "a", "b")
			f := d["a"].begin(t, "p", 1, 10)
			g := d["b"].begin(t, "p", 1, 10)
			sold := purchaseOf(f, "r", 10)
			d["a"].commit(t, sold)
			// The audit waits for b's products, after it has read all of a.
			d["b"].exec(t, "BEGIN")
			d["b"].exec(t, "LOCK TABLE products IN ACCESS EXCLUSIVE MODE")
			var wander sync.Once
			report, err := ledger.AuditShowing(t.Context(), shards, func(p ledger.Progress) {
				if p.Purchases == 0 {
					return
				}
				wander.Do(func() {
					if givenBack {
						d["a"].must(t, ledger.Change{PurchaseID: sold.PurchaseID, Action: ledger.Return, RequestID: "back"})
					}
					d["b"].commit(t, purchaseOf(g, "r", 10))
					d["b"].exec(t, "COMMIT")
				})
			})
			if err != nil || report.Units != 20 {
				t.Fatalf("%+v (%v): the units did not wander", report, err)
			}
			if report.Clean() != givenBack || (report.Oversold == 10) == givenBack {
				t.Errorf("%+v", report)
			}
		})
	}
}

// Whoever keeps units too long is no fault of the books, but somebody should know.
func TestAuditCountsOverdueHolds(t *testing.T) {
	d := newDatabase(t)
	f := d.begin(t, "p", 1, 100)
	d.commit(t, holdOf(f, "overdue", 1, -2*time.Minute), holdOf(f, "due", 1, -time.Second), holdOf(f, "held", 1, time.Minute))
	d.inState(t, f, ledger.Confirmed, 1)
	if report := audit(t, d.Shard); report.OverdueHolds != 1 || !report.Clean() {
		t.Errorf("%+v", report)
	}
}

// What a repair says it did, it did, and what it may not do it leaves alone.
func TestRepairMendsWhatIsSafe(t *testing.T) {
	tests := map[string]struct {
		sql      string
		repaired []ledger.Repaired
		left     map[ledger.Kind]int64
	}{
		"nothing":              {"SELECT 1", nil, nil},
		"sold total too high":  {"UPDATE fences SET purchased = 15 WHERE product_id = 'p'", []ledger.Repaired{{"p", "eu", "purchased", 15, 11}}, nil},
		"sold total too low":   {"UPDATE fences SET purchased = 1 WHERE product_id = 'p'", []ledger.Repaired{{"p", "eu", "purchased", 1, 11}}, nil},
		"given back uncounted": {unguarded + "UPDATE purchases SET released = 2 WHERE product_id = 'p' AND request_id = 'r1'", []ledger.Repaired{{"p", "eu", "released", 3, 5}}, nil},
		"both": {unguarded + "UPDATE purchases SET released = 2 WHERE product_id = 'p' AND request_id = 'r1'; UPDATE fences SET purchased = 0",
			[]ledger.Repaired{{"p", "eu", "released", 3, 5}, {"p", "eu", "purchased", 0, 11}, {"q", "eu", "purchased", 0, 1}}, nil},
		"forgotten": {"DELETE FROM releases", []ledger.Repaired{{"p", "eu", "released", 0, 3}}, nil},
		"given back by nobody": {"UPDATE releases SET released = 7; UPDATE fences SET purchased = 5 WHERE product_id = 'p'",
			[]ledger.Repaired{{"p", "eu", "purchased", 5, 11}}, map[ledger.Kind]int64{ledger.ReleasedOff: 1}},
		"oversold":          {edited + "UPDATE purchases SET amount = 202 WHERE product_id = 'q'", []ledger.Repaired{{"q", "eu", "purchased", 1, 202}}, map[ledger.Kind]int64{ledger.Oversold: 1}},
		"token above fence": {"UPDATE purchases SET token = 99 WHERE product_id = 'q'", nil, map[ledger.Kind]int64{ledger.AboveFence: 1}},
		"fence is gone":     {"DELETE FROM fences WHERE product_id = 'q'", nil, map[ledger.Kind]int64{ledger.NoFence: 1}},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			d := newDatabase(t)
			f, g := d.begin(t, "p", 10, 100), d.begin(t, "q", 10, 100)
			overdue := holdOf(f, "overdue", 2, -time.Hour)
			d.commit(t, purchaseOf(f, "r1", 5), overdue, purchaseOf(g, "r1", 1))
			if _, err := d.TakeAway(t.Context(), f, &ledger.Delivery{DeliveryID: uuid.New(), RequestID: "lost", Amount: -4}); err != nil {
				t.Fatal(err)
			}
			if _, err := d.Deliver(t.Context(), ledger.Delivery{DeliveryID: uuid.New(), ProductID: "p", RequestID: "d", Amount: 1}); err != nil {
				t.Fatal(err)
			}
			if name == "nothing" {
				d.exec(t, tt.sql)
			} else if _, err := d.ExpireDue(t.Context()); err != nil {
				t.Fatal(err)
			} else {
				d.exec(t, tt.sql)
			}
			report, err := ledger.Repair(t.Context(), []*ledger.Shard{d.Shard}, func(ledger.Progress) {})
			if err != nil || !slices.Equal(report.Repaired, tt.repaired) || report.Totals != int64(len(tt.repaired)) ||
				(report.ExpiredHolds == 1) != (name == "nothing") {
				t.Errorf("repaired %+v (%v), want %+v", report, err, tt.repaired)
			}
			if left := audit(t, d.Shard); !maps.Equal(left.Found, tt.left) || left.OverdueHolds != 0 {
				t.Errorf("left: %+v, want %v", left, tt.left)
			}
			// A tenure that has counted by a wrong total sells no more, another one does.
			wrong := slices.ContainsFunc(tt.repaired, func(r ledger.Repaired) bool { return r.Total == "purchased" && r.ProductID == "p" })
			if got := d.commit(t, purchaseOf(f, "r2", 1))[0]; (got == ledger.Fenced) != wrong {
				t.Errorf("the tenure of before: %v", got)
			}
			if got := d.commit(t, purchaseOf(d.begin(t, "p", 11, 100), "r3", 1))[0]; got != ledger.Inserted {
				t.Errorf("the next tenure: %v", got)
			}
		})
	}
}

// A repair among sales must not count a sale twice, nor miss one.
func TestRepairWhileSalesGoOn(t *testing.T) {
	d := newDatabase(t)
	f := d.begin(t, "p", 1, 1<<40)
	stop := make(chan struct{})
	var token int64 = 1
	var mu sync.Mutex
	var wg sync.WaitGroup
	for n := range 3 {
		wg.Go(func() {
			mine := f
			for i := 0; ; i++ {
				select {
				case <-stop:
					return
				default:
				}
				p := purchaseOf(mine, fmt.Sprint(n, " ", i), 3)
				outcomes, err := d.Commit(t.Context(), []*ledger.Purchase{p})
				if err != nil {
					t.Error(err)
					return
				}
				if outcomes[0] == ledger.Fenced {
					mu.Lock()
					token++
					mine = ledger.Fence{ProductID: "p", Topology: 1, Token: token, TenureID: uuid.New()}
					_, err = d.Raise(t.Context(), mine)
					mu.Unlock()
				} else {
					_, err = d.Change(t.Context(), [][]ledger.Change{{{PurchaseID: p.PurchaseID, Action: ledger.Return, Amount: 1, RequestID: "r"}}})
				}
				if err != nil {
					t.Error(err)
					return
				}
			}
		})
	}
	for round := range 20 {
		d.exec(t, "UPDATE fences SET purchased = purchased + $1", 7+round)
		for {
			report, err := ledger.Repair(t.Context(), []*ledger.Shard{d.Shard}, func(ledger.Progress) {})
			if err != nil {
				t.Fatal(err)
			}
			if report.Totals == 0 {
				break
			}
		}
	}
	close(stop)
	wg.Wait()
	d.checkSums(t)
	d.checkLedger(t)
}

// Whoever has moved a total and not committed yet must be in the count that replaces it.
func TestRepairWaitsForWhoeverMovesTheTotals(t *testing.T) {
	for what, sql := range map[string]string{
		"sale": `INSERT INTO purchases (purchase_id, product_id, request_id, amount, customer_id, state, topology, token, tenure_id)
			SELECT gen_random_uuid(), 'p', 'r2', 7, 'ann', 'confirmed', topology, token, tenure_id FROM fences`,
		"return": "UPDATE purchases SET released = 4 WHERE request_id = 'r1'",
	} {
		t.Run(what, func(t *testing.T) {
			d := newDatabase(t)
			f := d.begin(t, "p", 1, 100)
			p := purchaseOf(f, "r1", 5)
			d.commit(t, p)
			d.must(t, ledger.Change{PurchaseID: p.PurchaseID, Action: ledger.Return, RequestID: "x", Amount: 2})
			d.exec(t, lowered+"UPDATE fences SET purchased = 1; UPDATE releases SET released = 1; ALTER TABLE releases ENABLE TRIGGER releases_never_go_down")
			d.exec(t, "BEGIN")
			d.exec(t, sql)
			var wg sync.WaitGroup
			wg.Go(func() {
				if _, err := ledger.Repair(t.Context(), []*ledger.Shard{d.Shard}, func(ledger.Progress) {}); err != nil {
					t.Error(err)
				}
			})
			d.awaitBlocked(t, 1)
			d.exec(t, "COMMIT")
			wg.Wait()
			d.checkLedger(t)
		})
	}
}
