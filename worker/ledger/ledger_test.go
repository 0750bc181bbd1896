package ledger_test

import (
	"context"
	"errors"
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
		PurchaseID: uuid.Must(uuid.NewV7()), ProductID: f.ProductID, Fence: &f,
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

// A new tenure sells what the total leaves, so a total that misses a purchase
// committed while the fence waited for its row oversells.
func TestRaiseSeesWhatCommittedWhileItWaited(t *testing.T) {
	d := newDatabase(t)
	old := d.begin(t, "p", 10, 100)
	// The old tenure's batch, stopped before its COMMIT.
	d.exec(t, "BEGIN")
	d.exec(t, `INSERT INTO purchases (purchase_id, product_id, request_id, amount, customer_id, state, topology, token, tenure_id)
		VALUES (gen_random_uuid(), 'p', 'r1', 7, 'ann', 'confirmed', 1, 10, $1)`, old.TenureID)

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

func TestShardThatIsDownIsNotSent(t *testing.T) {
	s, err := ledger.Open(ledger.Config{Name: "eu", DSN: "postgres://127.0.0.1:1/none"})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	_, err = s.Commit(t.Context(), []*ledger.Purchase{{Fence: &ledger.Fence{}}})
	if !errors.Is(err, ledger.ErrNotSent) {
		t.Fatalf("got %v, want ErrNotSent", err)
	}
}
