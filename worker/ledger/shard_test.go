package ledger_test

import (
	"errors"
	"fmt"
	"sync"
	"testing"

	"github.com/google/uuid"

	"github.com/holdfast-io/holdfast/deploy/local/localtest"
	"github.com/holdfast-io/holdfast/worker/ledger"
)

// A DSN that points at the wrong database must be found out before a sale.
func TestWrongDatabaseIsRefused(t *testing.T) {
	d := newDatabase(t)
	mine := uuid.New()
	if _, err := d.Identity(t.Context()); !errors.Is(err, ledger.ErrUnclaimed) {
		t.Fatalf("unclaimed: got %v", err)
	}
	if err := d.Claim(t.Context(), mine); err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		name    string
		cluster uuid.UUID
		want    error
	}{{"eu", mine, nil}, {"us", mine, ledger.ErrWrongShard}, {"eu", uuid.New(), ledger.ErrWrongShard}} {
		s, err := ledger.Open(ledger.Config{Name: tt.name, DSN: d.dsn, ClusterID: tt.cluster})
		if err != nil {
			t.Fatal(err)
		}
		if _, err := s.Identity(t.Context()); !errors.Is(err, tt.want) {
			t.Errorf("shard %s: got %v, want %v", tt.name, err, tt.want)
		}
		s.Close()
	}
}

// Without the trigger nothing would refuse the purchases of a tenure that is over.
func TestUnguardedDatabaseIsRefused(t *testing.T) {
	d := newDatabase(t)
	clusterID := uuid.New()
	if err := d.Claim(t.Context(), clusterID); err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		sql  string
		want error
	}{
		{"ALTER TABLE purchases DISABLE TRIGGER purchases_under_fences", ledger.ErrUnguarded},
		{"ALTER TABLE purchases ENABLE REPLICA TRIGGER purchases_under_fences", ledger.ErrUnguarded},
		{"ALTER TABLE purchases ENABLE ALWAYS TRIGGER purchases_under_fences", nil},
		{"ALTER TABLE purchases ENABLE TRIGGER purchases_under_fences", nil},
		{"ALTER TABLE purchases DISABLE TRIGGER changes_under_fences", ledger.ErrUnguarded},
		{"ALTER TABLE purchases ENABLE TRIGGER changes_under_fences", nil},
		{"ALTER TABLE purchases DISABLE TRIGGER purchases_only_go_on", ledger.ErrUnguarded},
		{"ALTER TABLE purchases ENABLE TRIGGER purchases_only_go_on", nil},
		{"ALTER TABLE deliveries DISABLE TRIGGER deliveries_under_fences", ledger.ErrUnguarded},
		{"ALTER TABLE deliveries ENABLE TRIGGER deliveries_under_fences", nil},
		{"DROP TRIGGER purchases_under_fences ON purchases", ledger.ErrUnguarded},
	} {
		d.exec(t, tt.sql)
		s, err := ledger.Open(ledger.Config{Name: "eu", DSN: d.dsn, ClusterID: clusterID})
		if err != nil {
			t.Fatal(err)
		}
		if _, err := s.Identity(t.Context()); !errors.Is(err, tt.want) {
			t.Errorf("after %s: got %v, want %v", tt.sql, err, tt.want)
		}
		s.Close()
	}
}

// Two releases that migrate at once must not disturb each other.
func TestMigrateTwiceAtOnce(t *testing.T) {
	dsn := localtest.Databases(t, "eu")["eu"]
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			s, err := ledger.Open(ledger.Config{Name: "eu", DSN: dsn})
			if err != nil {
				t.Error(err)
				return
			}
			defer s.Close()
			if _, err := s.Migrate(t.Context()); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
}

func TestPurchasesArePagedInOrder(t *testing.T) {
	d := newDatabase(t)
	f := d.begin(t, "p", 10, 1000)
	want := map[string]bool{}
	for i := range 25 {
		p := purchaseOf(f, fmt.Sprint(i), 1)
		d.commit(t, p)
		want[p.RequestID] = true
	}
	var after uuid.UUID
	for page := 0; page < 4; page++ {
		rows, err := d.Purchases(t.Context(), ledger.Filter{ProductID: "p", CustomerID: "ann"}, after, 10)
		if err != nil {
			t.Fatal(err)
		}
		for _, r := range rows {
			if !want[r.RequestID] {
				t.Fatalf("request %s came twice", r.RequestID)
			}
			delete(want, r.RequestID)
			after = r.PurchaseID
		}
	}
	if len(want) != 0 {
		t.Fatalf("%d purchases missing", len(want))
	}
}
