package ledger_test

import (
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/holdfast-io/holdfast/worker/ledger"
)

// A batch that was sent and not read by the database, while a new tenure fenced,
// must store nothing at all.
func TestStaleTokenStoresNothing(t *testing.T) {
	d := newDatabase(t)
	old := d.begin(t, "p", 10, 100)
	d.begin(t, "p", 11, 100)
	if got := d.commit(t, purchaseOf(old, "r1", 1)); got[0] != ledger.Fenced {
		t.Fatalf("outcome %v, want Fenced", got[0])
	}
	if report := d.checkLedger(t); report.Purchases != 0 {
		t.Fatalf("%d rows stored", report.Purchases)
	}
}

// A batch merges the purchases of many products; one that is fenced must not
// take the others down, nor slip in with them.
func TestFencedProductFailsAlone(t *testing.T) {
	d := newDatabase(t)
	a, b := d.begin(t, "a", 10, 100), d.begin(t, "b", 10, 100)
	d.begin(t, "b", 11, 100)
	got := d.commit(t, purchaseOf(a, "r1", 1), purchaseOf(b, "r1", 1), purchaseOf(a, "r2", 2))
	want := []ledger.Outcome{ledger.Inserted, ledger.Fenced, ledger.Inserted}
	for i := range want {
		if got[i] != want[i] {
			t.Errorf("purchase %d: outcome %v, want %v", i, got[i], want[i])
		}
	}
	if report := d.checkLedger(t); report.Units != 3 {
		t.Fatalf("%d units stored, want 3", report.Units)
	}
}

// A batch inserts before it has the fence. When the fence is raised in between, what was
// inserted must go again, and the batch's other products must not suffer.
func TestFenceRaisedWhileABatchWaitsForIt(t *testing.T) {
	for _, repeated := range []bool{false, true} {
		t.Run(fmt.Sprint("buyers repeat themselves: ", repeated), func(t *testing.T) {
			d := newDatabase(t)
			a, p := d.begin(t, "a", 10, 100), d.begin(t, "p", 10, 100)
			d.commit(t, purchaseOf(a, "first", 1))
			if repeated {
				d.commit(t, purchaseOf(a, "first", 1))
			}
			d.exec(t, "BEGIN")
			d.exec(t, "SELECT 1 FROM fences WHERE product_id = 'p' FOR UPDATE")
			var wg sync.WaitGroup
			wg.Go(func() {
				got := d.commit(t, purchaseOf(p, "r1", 2), purchaseOf(a, "r1", 3))
				if got[0] != ledger.Fenced || got[1] != ledger.Inserted {
					t.Errorf("outcomes %v, want Fenced and Inserted", got)
				}
			})
			d.awaitBlocked(t, 1)
			d.exec(t, "UPDATE fences SET token = 11, tenure_id = gen_random_uuid() WHERE product_id = 'p'")
			d.exec(t, "COMMIT")
			wg.Wait()
			if report := d.checkLedger(t); report.Units != 4 {
				t.Errorf("%d units stored, want 4", report.Units)
			}
		})
	}
}

// Batches of one product overlap: the second inserts while the first one is synced.
func TestTotalIsMovedByBothOfTwoBatches(t *testing.T) {
	d := newDatabase(t)
	f := d.begin(t, "p", 10, 1000)
	d.exec(t, "BEGIN")
	d.exec(t, "SELECT 1 FROM fences WHERE product_id = 'p' FOR UPDATE")
	var wg sync.WaitGroup
	for i := range 2 {
		wg.Go(func() {
			if got := d.commit(t, purchaseOf(f, fmt.Sprint(i), 3)); got[0] != ledger.Inserted {
				t.Errorf("outcome %v, want Inserted", got)
			}
		})
	}
	d.awaitBlocked(t, 2)
	d.exec(t, "COMMIT")
	wg.Wait()
	if report := d.checkLedger(t); report.Units != 6 {
		t.Errorf("%d units stored, want 6", report.Units)
	}
}

// The last batch of a holder that died still runs while the next one's repeats its
// purchases. Neither may wait for what the other has: the database would need a second
// to find that out.
func TestRepetitionOfABatchUnderWayHoldsNoFence(t *testing.T) {
	for _, repeated := range []bool{false, true} {
		t.Run(fmt.Sprint("buyers repeat themselves: ", repeated), func(t *testing.T) {
			d := newDatabase(t)
			d.begin(t, "p", 10, 100)
			next := d.begin(t, "p", 11, 100)
			if repeated {
				d.commit(t, purchaseOf(next, "first", 1))
				d.commit(t, purchaseOf(next, "first", 1))
			}
			d.exec(t, "BEGIN")
			d.insertOfTheDead(t, "r1")
			var wg sync.WaitGroup
			wg.Go(func() {
				if got := d.commit(t, purchaseOf(next, "r1", 7)); got[0] != ledger.Inserted {
					t.Errorf("outcome %v, want Inserted", got)
				}
			})
			d.awaitBlocked(t, 1)
			d.exec(t, "SELECT 1 FROM fences WHERE product_id = 'p' FOR UPDATE NOWAIT")
			d.exec(t, "ROLLBACK") // it is not the dead holder's
			wg.Wait()
			d.checkLedger(t)
		})
	}
}

// insertOfTheDead does what the batch of a dead holder has done before it asks for its
// fence, in the transaction that the test has open.
func (d *database) insertOfTheDead(t *testing.T, request string) {
	t.Helper()
	d.exec(t, "SET LOCAL session_replication_role = replica") // the trigger comes later
	d.exec(t, `INSERT INTO purchases (purchase_id, product_id, request_id, amount, customer_id, state, topology, token)
		VALUES (gen_random_uuid(), 'p', $1, 7, 'ann', 'confirmed', 1, 10)`, request)
	d.exec(t, "SET LOCAL session_replication_role = DEFAULT")
}

// The two batches hold the same requests, in whatever order the buyers repeated them.
func TestRepetitionOfABatchWaitsForNoneInACircle(t *testing.T) {
	d := newDatabase(t)
	d.begin(t, "p", 10, 100)
	next := d.begin(t, "p", 11, 100)
	d.exec(t, "BEGIN")
	d.insertOfTheDead(t, "r1")
	var wg sync.WaitGroup
	wg.Go(func() {
		got := d.commit(t, purchaseOf(next, "r2", 7), purchaseOf(next, "r1", 7))
		if got[0] != ledger.Inserted || got[1] != ledger.Inserted {
			t.Errorf("outcomes %v, want both Inserted", got)
		}
	})
	d.awaitBlocked(t, 1)
	d.insertOfTheDead(t, "r2")
	d.exec(t, "ROLLBACK")
	wg.Wait()
	d.checkLedger(t)
}

// The database itself refuses what is not under its fence, whoever sends it: each part of
// the fence counts, and a batch with one such row is refused whole.
func TestDatabaseRefusesPurchasesWithoutTheirFence(t *testing.T) {
	d := newDatabase(t)
	p, q := d.begin(t, "p", 10, 100), d.begin(t, "q", 12, 100)
	insert := `INSERT INTO purchases (purchase_id, product_id, request_id, amount, customer_id, state, topology, token, tenure_id)
		VALUES (gen_random_uuid(), 'p', 'r1', 1, 'ann', 'confirmed', $1, $2, $3)`
	second := `, (gen_random_uuid(), 'q', 'r1', 1, 'ann', 'confirmed', $4, $5, $6)`
	refused := func(name, sql string, args ...any) {
		t.Helper()
		var pgErr *pgconn.PgError
		if _, err := d.raw.Exec(t.Context(), sql, args...); !errors.As(err, &pgErr) || pgErr.ConstraintName != "purchases_under_fences" {
			t.Errorf("%s: got %v, want it refused by purchases_under_fences", name, err)
		}
	}
	refused("older topology", insert, p.Topology-1, p.Token, p.TenureID)
	refused("newer topology", insert, p.Topology+1, p.Token, p.TenureID)
	refused("older token", insert, p.Topology, p.Token-1, p.TenureID)
	refused("newer token", insert, p.Topology, p.Token+1, p.TenureID)
	refused("equal token of another tenure", insert, p.Topology, p.Token, uuid.New())
	refused("no tenure", insert, p.Topology, p.Token, nil)
	refused("tenure of another product", insert, q.Topology, q.Token, q.TenureID)
	refused("one of two", insert+second, p.Topology, p.Token, p.TenureID, q.Topology, q.Token, p.TenureID)
	d.exec(t, "DELETE FROM fences WHERE product_id = 'q'")
	refused("no fence", insert+second, p.Topology, p.Token, p.TenureID, q.Topology, q.Token, q.TenureID)
	if report := d.checkLedger(t); report.Purchases != 0 {
		t.Fatalf("%d rows stored", report.Purchases)
	}
	d.exec(t, insert, p.Topology, p.Token, p.TenureID)
	if report := d.checkLedger(t); report.Units != 1 {
		t.Fatalf("%d units stored, want 1", report.Units)
	}
}

// What goes in by COPY comes out the same, up to the microsecond and the last byte.
func TestBatchIsStoredAsItIs(t *testing.T) {
	for _, repeated := range []bool{false, true} {
		d := newDatabase(t)
		f := d.begin(t, "p\tü\\N", 1<<52, 1<<53)
		if repeated {
			d.commit(t, purchaseOf(f, "first", 1))
			d.commit(t, purchaseOf(f, "first", 1))
		}
		want := purchaseOf(f, "\x01'\"", 1<<53-2)
		want.CustomerID, want.PaymentMethod = strings.Repeat("ann, ", 20), "\\."
		d.commit(t, want)
		got, err := d.Purchase(t.Context(), want.PurchaseID)
		if err != nil {
			t.Fatal(err)
		}
		stored := *want
		stored.Fence = nil
		got.CreateTime = got.CreateTime.UTC()
		if *got != stored {
			t.Errorf("stored %+v, want %+v", *got, stored)
		}
		var tenure uuid.UUID
		var topology, token int64
		err = d.raw.QueryRow(t.Context(), "SELECT tenure_id, topology, token FROM purchases WHERE purchase_id = $1",
			want.PurchaseID).Scan(&tenure, &topology, &token)
		if err != nil || tenure != f.TenureID || topology != f.Topology || token != f.Token {
			t.Errorf("stored under %v, %d, %d (%v), want %+v", tenure, topology, token, err, f)
		}
	}
}

// Two tenures of one product can meet in a batch when one followed the other in
// the same worker: only the newer one may store.
func TestTwoTenuresOfAProductInOneBatch(t *testing.T) {
	d := newDatabase(t)
	old := d.begin(t, "p", 10, 100)
	current := d.begin(t, "p", 11, 100)
	got := d.commit(t, purchaseOf(old, "r1", 1), purchaseOf(current, "r2", 2))
	if got[0] != ledger.Fenced || got[1] != ledger.Inserted {
		t.Fatalf("outcomes %v, want Fenced and Inserted", got)
	}
	d.checkLedger(t)
}

// The running total must move by what was inserted: moved by what was asked for,
// it would count a repeated request twice and sell too little for ever.
func TestRepeatedRequestMovesTheTotalOnce(t *testing.T) {
	d := newDatabase(t)
	f := d.begin(t, "p", 10, 100)
	first := purchaseOf(f, "r1", 5)
	if got := d.commit(t, first); got[0] != ledger.Inserted {
		t.Fatalf("outcome %v", got[0])
	}
	got := d.commit(t, purchaseOf(f, "r1", 5), purchaseOf(f, "r2", 1), purchaseOf(f, "r2", 1))
	if got[0] != ledger.Replayed || got[1] != ledger.Inserted || got[2] != ledger.Replayed {
		t.Fatalf("outcomes %v, want Replayed, Inserted, Replayed", got)
	}
	// From here on batches look out for what is stored.
	got = d.commit(t, purchaseOf(f, "r3", 1), purchaseOf(f, "r1", 5))
	if got[0] != ledger.Inserted || got[1] != ledger.Replayed {
		t.Fatalf("outcomes %v, want Inserted, Replayed", got)
	}
	if report := d.checkLedger(t); report.Units != 7 {
		t.Fatalf("%d units, want 7", report.Units)
	}
	checked, err := d.Verify(t.Context(), []ledger.Check{{ProductID: "p", TenureID: f.TenureID, RequestID: "r1"}})
	if err != nil || checked[0].First == nil || checked[0].First.PurchaseID != first.PurchaseID || !checked[0].Current {
		t.Fatalf("verify: %+v, %v", checked, err)
	}
}

// A refused batch must say so for certain, so that its units can go back.
func TestRefusedBatchStoresNothing(t *testing.T) {
	d := newDatabase(t)
	f := d.begin(t, "p", 10, 100)
	_, err := d.Commit(t.Context(), []*ledger.Purchase{purchaseOf(f, "r1", 1), purchaseOf(f, "r2", -1)})
	var refused *ledger.RefusedError
	if !errors.As(err, &refused) {
		t.Fatalf("got %v, want a RefusedError", err)
	}
	if report := d.checkLedger(t); report.Purchases != 0 {
		t.Fatalf("%d rows stored", report.Purchases)
	}
	if got := d.commit(t, purchaseOf(f, "r1", 1)); got[0] != ledger.Inserted {
		t.Fatalf("the next batch: outcome %v", got[0])
	}
}

// Request lost, or reply lost: nobody can tell, so both are ambiguous. A backend
// that is ended while it waits for the fence has stored nothing, but says FATAL.
func TestBrokenConnectionIsAmbiguous(t *testing.T) {
	d := newDatabase(t)
	f := d.begin(t, "p", 10, 100)
	d.exec(t, "BEGIN")
	d.exec(t, "SELECT 1 FROM fences WHERE product_id = 'p' FOR UPDATE")
	failed := make(chan error, 1)
	go func() {
		_, err := d.Commit(t.Context(), []*ledger.Purchase{purchaseOf(f, "r1", 1)})
		failed <- err
	}()
	d.awaitBlocked(t, 1)
	d.exec(t, `SELECT pg_terminate_backend(pid) FROM pg_stat_activity
		WHERE datname = current_database() AND wait_event_type = 'Lock'`)
	if err := <-failed; !errors.Is(err, ledger.ErrAmbiguous) {
		t.Fatalf("got %v, want ErrAmbiguous", err)
	}
	d.exec(t, "ROLLBACK")
}
