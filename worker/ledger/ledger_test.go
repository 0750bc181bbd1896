package ledger_test

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"github.com/holdfast-io/holdfast/deploy/local/localtest"
	"github.com/holdfast-io/holdfast/worker/ledger"
)

func TestMain(m *testing.M) { localtest.Main(m) }

// database is a migrated shard and a connection of the test's own.
type database struct {
	*ledger.Shard
	dsn string
	raw *pgx.Conn
}

func newDatabase(t *testing.T) *database {
	t.Helper()
	dsn := localtest.Databases(t, "eu")["eu"]
	s, err := ledger.Open(ledger.Config{Name: "eu", DSN: dsn})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Close)
	if _, err := s.Migrate(t.Context()); err != nil {
		t.Fatal(err)
	}
	return &database{Shard: s, dsn: dsn, raw: connect(t, dsn)}
}

func connect(t *testing.T, dsn string) *pgx.Conn {
	t.Helper()
	conn, err := pgx.Connect(t.Context(), dsn)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close(context.Background()) })
	return conn
}

func (d *database) exec(t *testing.T, sql string, args ...any) {
	t.Helper()
	if _, err := d.raw.Exec(t.Context(), sql, args...); err != nil {
		t.Fatalf("%s: %v", sql, err)
	}
}

// begin raises a fence and puts the product, as a tenure does.
func (d *database) begin(t *testing.T, product string, token, storage int64) ledger.Fence {
	t.Helper()
	f := ledger.Fence{ProductID: product, Topology: 1, Token: token, TenureID: uuid.New()}
	if _, err := d.Raise(t.Context(), f); err != nil {
		t.Fatal(err)
	}
	if err := d.PutProduct(t.Context(), f, ledger.Product{ProductID: product, AmountInStorage: storage, CreateTime: time.Now()}); err != nil {
		t.Fatal(err)
	}
	return f
}

func purchaseOf(f ledger.Fence, request string, amount int64) *ledger.Purchase {
	return &ledger.Purchase{
		PurchaseID: uuid.Must(uuid.NewV7()), ProductID: f.ProductID, TenureID: f.TenureID,
		RequestID: request, Amount: amount, CustomerID: "ann",
	}
}

func (d *database) commit(t *testing.T, purchases ...*ledger.Purchase) []ledger.Outcome {
	t.Helper()
	outcomes, err := d.Commit(t.Context(), purchases)
	if err != nil {
		t.Fatal(err)
	}
	return outcomes
}

// checkLedger holds the shard against what must always be true of it.
func (d *database) checkLedger(t *testing.T) *ledger.AuditReport {
	t.Helper()
	report, err := ledger.Audit(t.Context(), []*ledger.Shard{d.Shard})
	if err != nil {
		t.Fatal(err)
	}
	if !report.Clean() {
		t.Fatalf("audit: %+v", report)
	}
	return report
}

// The token decides who can sell, so an equal one of another tenure must be as
// powerless as a smaller one.
func TestFenceAdmitsOnlyNewerTenures(t *testing.T) {
	d := newDatabase(t)
	current := d.begin(t, "p", 10, 100)
	tests := []struct {
		name            string
		topology, token int64
		tenure          uuid.UUID
		want            error
	}{
		{"smaller token", 1, 9, uuid.New(), ledger.ErrFenced},
		{"equal token of another tenure", 1, 10, uuid.New(), ledger.ErrFenced},
		{"the same tenure again, its first answer lost", 1, 10, current.TenureID, nil},
		{"larger token", 1, 11, uuid.New(), nil},
		{"smaller token in a newer topology", 2, 3, uuid.New(), nil},
		{"larger token in an older topology", 1, 99, uuid.New(), ledger.ErrFenced},
	}
	for _, tt := range tests {
		_, err := d.Raise(t.Context(), ledger.Fence{ProductID: "p", Topology: tt.topology, Token: tt.token, TenureID: tt.tenure})
		if !errors.Is(err, tt.want) {
			t.Errorf("%s: got %v, want %v", tt.name, err, tt.want)
		}
	}
}

// A new tenure sells what the total leaves, so a total that misses a purchase
// committed while the fence waited for its row oversells.
// Many tenures begin in one statement, and each stands alone.
func TestFencesRaisedTogetherAreAnsweredApart(t *testing.T) {
	d := newDatabase(t)
	newer := d.begin(t, "fenced", 9, 10)
	d.begin(t, "sold", 1, 10)
	older := ledger.Fence{ProductID: "fenced", Topology: 1, Token: 8, TenureID: uuid.New()}
	sold := ledger.Fence{ProductID: "sold", Topology: 1, Token: 8, TenureID: uuid.New()}
	unknown := ledger.Fence{ProductID: "unknown", Topology: 1, Token: 8, TenureID: uuid.New()}
	raised, err := d.RaiseAll(t.Context(), []ledger.Fence{unknown, older, sold})
	if err != nil {
		t.Fatal(err)
	}
	if r := raised[0]; r.Fenced || r.Product != nil {
		t.Errorf("unknown product: %+v", r)
	}
	if r := raised[1]; !r.Fenced {
		t.Errorf("older token: %+v", r)
	}
	if r := raised[2]; r.Fenced || r.Product == nil || r.Product.ProductID != "sold" {
		t.Errorf("newer token: %+v", r)
	}
	if again, err := d.RaiseAll(t.Context(), []ledger.Fence{sold, newer}); err != nil || again[0].Fenced || again[1].Fenced {
		t.Errorf("raised again: %+v, %v", again, err)
	}
}

func TestRaiseSeesWhatCommittedWhileItWaited(t *testing.T) {
	d := newDatabase(t)
	old := d.begin(t, "p", 10, 100)
	// The old tenure's batch, stopped before its COMMIT.
	d.exec(t, "BEGIN")
	d.exec(t, "SELECT 1 FROM fences WHERE product_id = 'p' FOR UPDATE")
	d.exec(t, `INSERT INTO purchases (purchase_id, product_id, request_id, amount, customer_id, state, topology, token)
		VALUES (gen_random_uuid(), 'p', 'r1', 7, 'ann', 'confirmed', 1, 10)`)
	d.exec(t, "UPDATE fences SET purchased = purchased + 7 WHERE product_id = 'p'")

	if r := d.raiseOverCommit(t); r.Purchased != 7 {
		t.Fatalf("raised fence sees %d units purchased, want 7", r.Purchased)
	}
	if got := d.commit(t, purchaseOf(old, "r2", 1)); got[0] != ledger.Fenced {
		t.Fatalf("old tenure: outcome %v, want Fenced", got[0])
	}
	d.checkLedger(t)
}

// raiseOverCommit raises a newer fence, and commits the transaction that the test
// has open once the fence waits for it.
func (d *database) raiseOverCommit(t *testing.T) (raised ledger.Raised) {
	t.Helper()
	var wg sync.WaitGroup
	wg.Go(func() {
		var err error
		raised, err = d.Raise(t.Context(), ledger.Fence{ProductID: "p", Topology: 1, Token: 11, TenureID: uuid.New()})
		if err != nil {
			t.Error(err)
		}
	})
	d.awaitBlocked(t, 1)
	d.exec(t, "COMMIT")
	wg.Wait()
	return raised
}

// awaitBlocked returns once n backends of the database wait for a lock.
func (d *database) awaitBlocked(t *testing.T, n int) {
	t.Helper()
	watcher := connect(t, d.dsn)
	for blocked := 0; blocked < n; {
		err := watcher.QueryRow(t.Context(), `SELECT count(*) FROM pg_stat_activity
			WHERE datname = current_database() AND wait_event_type = 'Lock'`).Scan(&blocked)
		if err != nil {
			t.Fatal(err)
		}
	}
}

// The same race for the product row: created while the fence waited, it must
// not be missed, or the next tenure would create it with another amount.
func TestRaiseSeesAProductCreatedWhileItWaited(t *testing.T) {
	d := newDatabase(t)
	f := ledger.Fence{ProductID: "p", Topology: 1, Token: 10, TenureID: uuid.New()}
	if _, err := d.Raise(t.Context(), f); err != nil {
		t.Fatal(err)
	}
	d.exec(t, "BEGIN")
	d.exec(t, "SELECT 1 FROM fences WHERE product_id = 'p' FOR UPDATE")
	d.exec(t, "INSERT INTO products (product_id, amount_in_storage) VALUES ('p', 5)")
	if r := d.raiseOverCommit(t); r.Product == nil || r.Product.AmountInStorage != 5 {
		t.Fatalf("raised fence sees product %+v, want amount 5", r.Product)
	}
	err := d.PutProduct(t.Context(), f, ledger.Product{ProductID: "p", AmountInStorage: 9, CreateTime: time.Now()})
	if !errors.Is(err, ledger.ErrFenced) {
		t.Fatalf("a fenced tenure creates: got %v, want ErrFenced", err)
	}
}

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
			// The dead holder's batch, before it has the fence.
			d.exec(t, "BEGIN")
			d.exec(t, `INSERT INTO purchases (purchase_id, product_id, request_id, amount, customer_id, state, topology, token)
				VALUES (gen_random_uuid(), 'p', 'r1', 7, 'ann', 'confirmed', 1, 10)`)
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

// The two batches hold the same requests, in whatever order the buyers repeated them.
func TestRepetitionOfABatchWaitsForNoneInACircle(t *testing.T) {
	d := newDatabase(t)
	d.begin(t, "p", 10, 100)
	next := d.begin(t, "p", 11, 100)
	insert := `INSERT INTO purchases (purchase_id, product_id, request_id, amount, customer_id, state, topology, token)
		VALUES (gen_random_uuid(), 'p', $1, 7, 'ann', 'confirmed', 1, 10)`
	d.exec(t, "BEGIN")
	d.exec(t, insert, "r1")
	var wg sync.WaitGroup
	wg.Go(func() {
		got := d.commit(t, purchaseOf(next, "r2", 7), purchaseOf(next, "r1", 7))
		if got[0] != ledger.Inserted || got[1] != ledger.Inserted {
			t.Errorf("outcomes %v, want both Inserted", got)
		}
	})
	d.awaitBlocked(t, 1)
	d.exec(t, insert, "r2")
	d.exec(t, "ROLLBACK")
	wg.Wait()
	d.checkLedger(t)
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

// The database itself keeps the two rules that everything else stands on.
func TestDatabaseRefusesWhatMustNeverHappen(t *testing.T) {
	d := newDatabase(t)
	d.begin(t, "p", 10, 100)
	for _, sql := range []string{
		"UPDATE products SET amount_in_storage = 101",
		"UPDATE fences SET token = 9",
		"UPDATE fences SET topology = 0, token = 99",
		"UPDATE fences SET purchased = -1",
	} {
		if _, err := d.raw.Exec(t.Context(), sql); err == nil {
			t.Errorf("%s: the database let it pass", sql)
		}
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

func TestShardThatIsDownIsNotSent(t *testing.T) {
	s, err := ledger.Open(ledger.Config{Name: "eu", DSN: "postgres://127.0.0.1:1/none"})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	_, err = s.Commit(t.Context(), []*ledger.Purchase{{}})
	if !errors.Is(err, ledger.ErrNotSent) {
		t.Fatalf("got %v, want ErrNotSent", err)
	}
}
