package ledger

import (
	"io/fs"
	"testing"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5/stdlib"
	"github.com/pressly/goose/v3"

	"github.com/holdfast-io/holdfast/deploy/local/localtest"
)

// Purchases that are older than holds go on as what they are: sold. Their units can be
// returned, and they come first in the order of all rows.
func TestOldPurchasesGoOn(t *testing.T) {
	s, err := Open(Config{Name: "eu", DSN: localtest.Databases(t, "eu")["eu"]})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Close)
	files, err := fs.Sub(migrations, "migrations")
	if err != nil {
		t.Fatal(err)
	}
	db := stdlib.OpenDBFromPool(s.pool)
	provider, err := goose.NewProvider(goose.DialectPostgres, db, files)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = provider.Close() }()
	if _, err := provider.UpTo(t.Context(), 3); err != nil {
		t.Fatal(err)
	}
	f := Fence{ProductID: "p", Topology: 1, Token: 1, TenureID: uuid.New()}
	id := uuid.New()
	for _, statement := range []struct {
		sql  string
		args []any
	}{
		{"INSERT INTO products (product_id, amount_in_storage) VALUES ('p', 10)", nil},
		{"INSERT INTO fences VALUES ('p', 1, 1, $1)", []any{f.TenureID.String()}},
		{`INSERT INTO purchases (purchase_id, product_id, request_id, amount, customer_id, state, topology, token, tenure_id)
			VALUES ($1, 'p', 'r', 5, 'ann', 'confirmed', 1, 1, $2)`, []any{id.String(), f.TenureID.String()}},
	} {
		if _, err := s.list.Exec(t.Context(), statement.sql, statement.args...); err != nil {
			t.Fatal(err)
		}
	}
	for range 2 {
		if _, err := provider.Up(t.Context()); err != nil {
			t.Fatal(err)
		}
		p, err := s.Purchase(t.Context(), id)
		if err != nil || p.Has() != 5 || p.State != Confirmed || p.ExpireTime != nil {
			t.Fatalf("%+v, %v", p, err)
		}
		if report, err := Audit(t.Context(), []*Shard{s}); err != nil || !report.Clean() || report.Units != 5 {
			t.Fatalf("%+v, %v", report, err)
		}
		if _, err := provider.DownTo(t.Context(), 3); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := provider.Up(t.Context()); err != nil {
		t.Fatal(err)
	}
	answers, err := s.Change(t.Context(), [][]Change{{{PurchaseID: id, Action: Return, RequestID: "x", Amount: 2}}})
	if err != nil || answers[0][0].Err != nil || answers[0][0].Purchase.Has() != 3 {
		t.Fatalf("%+v, %v", answers, err)
	}
	var first bool
	err = s.list.QueryRow(t.Context(), "SELECT bool_and(p.xid < c.xid) FROM purchases p, changes c").Scan(&first)
	if err != nil || !first {
		t.Errorf("in order: %v, %v", first, err)
	}
	if report, err := Audit(t.Context(), []*Shard{s}); err != nil || !report.Clean() || report.Units != 3 {
		t.Errorf("%+v, %v", report, err)
	}
}
