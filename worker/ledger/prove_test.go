package ledger

import (
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"github.com/holdfast-io/holdfast/deploy/local/localtest"
)

// Units wander from one shard to the other while the audit is about to prove that they
// were sold twice. All that was taken has to be asked before anything that was given, or
// the answers prove what never was.
func TestProofHoldsWhileUnitsWander(t *testing.T) {
	a, sold := begun(t, localtest.Databases(t, "a")["a"])
	dsn := localtest.Databases(t, "b")["b"]
	b, other := begun(t, dsn)
	if _, err := b.Change(t.Context(), [][]Change{{{PurchaseID: other.PurchaseID, Action: Cancel, RequestID: "x"}}}); err != nil {
		t.Fatal(err)
	}
	raw, err := pgx.Connect(t.Context(), dsn)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = raw.Close(t.Context()) }()
	exec := func(sql string) {
		t.Helper()
		if _, err := raw.Exec(t.Context(), sql); err != nil {
			t.Fatal(err)
		}
	}
	audit := newAudit([]*Shard{a, b}, func(Progress) {})
	audit.suspect = []stock{{productID: "p", storage: 5}}
	exec("BEGIN")
	exec("LOCK TABLE deliveries IN ACCESS EXCLUSIVE MODE") // b answers nothing
	var proof sync.WaitGroup
	proof.Go(func() {
		if err := audit.proveOversold(t.Context()); err != nil {
			t.Error(err)
		}
	})
	for waiting := 0; waiting == 0; time.Sleep(time.Millisecond) {
		err := b.pool.QueryRow(t.Context(), "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND datname = current_database()").Scan(&waiting)
		if err != nil {
			t.Fatal(err)
		}
	}
	time.Sleep(50 * time.Millisecond) // a has answered
	if _, err := a.Change(t.Context(), [][]Change{{{PurchaseID: sold.PurchaseID, Action: Cancel, RequestID: "x"}}}); err != nil {
		t.Fatal(err)
	}
	f := Fence{ProductID: "p", Topology: 1, Token: 2, TenureID: uuid.New()}
	if _, err := b.Raise(t.Context(), f); err != nil {
		t.Fatal(err)
	}
	again := &Purchase{PurchaseID: uuid.New(), ProductID: "p", RequestID: "again", Amount: 5, Fence: &f}
	if _, err := b.Commit(t.Context(), []*Purchase{again}); err != nil {
		t.Fatal(err)
	}
	exec("COMMIT")
	proof.Wait()
	if st := audit.suspect[0]; st.units != 15 || st.over() != 0 {
		t.Errorf("%d taken and %d given: oversold by %d", st.units, st.delivered, st.over())
	}
}
