package main

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"github.com/holdfast-io/holdfast/deploy/local/localtest"
	"github.com/holdfast-io/holdfast/worker/ledger"
)

// An operator whose books are off wants to know what is wrong, to have mended what can be,
// and to be told what is left for him.
func TestAuditRepairs(t *testing.T) {
	dsn := localtest.Databases(t, "eu")["eu"]
	s, err := ledger.Open(ledger.Config{Name: "eu", DSN: dsn})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	if _, err := s.Migrate(t.Context()); err != nil {
		t.Fatal(err)
	}
	for _, product := range []string{"p", "q"} {
		f := ledger.Fence{ProductID: product, Topology: 1, Token: 1, TenureID: uuid.New()}
		if _, err := s.Raise(t.Context(), f); err != nil {
			t.Fatal(err)
		}
		if err := s.PutProduct(t.Context(), f, ledger.Product{ProductID: product, AmountInStorage: 10}); err != nil {
			t.Fatal(err)
		}
		p := &ledger.Purchase{PurchaseID: uuid.New(), ProductID: product, RequestID: "r", Amount: 5, Fence: &f}
		if _, err := s.Commit(t.Context(), []*ledger.Purchase{p}); err != nil {
			t.Fatal(err)
		}
	}
	raw, err := pgx.Connect(t.Context(), dsn)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = raw.Close(t.Context()) }()
	if _, err := raw.Exec(t.Context(), "UPDATE fences SET purchased = 3; INSERT INTO releases VALUES ('q', 1)"); err != nil {
		t.Fatal(err)
	}

	shard := []string{"audit", "--insecure", "--shard", "eu=" + dsn}
	stdout, stderr, code := holdfast(t, nil, shard...)
	if code != exitFailed || !strings.Contains(stdout, "3 findings") || !strings.Contains(stdout, "2 purchased_off") || strings.Contains(stderr, "%") {
		t.Errorf("exit %d\n%s%s", code, stdout, stderr)
	}
	stdout, stderr, code = holdfast(t, nil, append(shard, "--repair")...)
	if code != exitFailed || !strings.Contains(stdout, "repaired: 2 running totals") || !strings.Contains(stdout, "1 findings") ||
		!strings.Contains(stdout, "given back 1, but the rows sum to 0") {
		t.Errorf("exit %d\n%s%s", code, stdout, stderr)
	}
	_, err = raw.Exec(t.Context(), "ALTER TABLE releases DISABLE TRIGGER releases_never_go_down; UPDATE releases SET released = 0")
	if err != nil {
		t.Fatal(err)
	}
	stdout, stderr, code = holdfast(t, nil, append(shard, "--repair", "--json")...)
	var report struct {
		Clean                     bool
		Units, Products, Oversold int64
		OverdueHolds              *int64 `json:"overdue_holds"`
		Repaired                  struct{ Totals int64 }
	}
	if err := json.Unmarshal([]byte(stdout), &report); err != nil || code != 0 || !report.Clean || report.Units != 10 ||
		report.OverdueHolds == nil || report.Oversold != 0 || report.Repaired.Totals != 0 || report.Products != 2 {
		t.Errorf("exit %d\n%s%s (%v)", code, stdout, stderr, err)
	}
}

// Shards that know nothing of their sizes, or grow while they are read, never show more
// than all of it.
func TestAuditProgressNeverExceedsTheWhole(t *testing.T) {
	p := newAuditProgress(nil, "audit")
	for _, step := range []struct {
		of          ledger.Progress
		done, total int
	}{
		{ledger.Progress{Shard: "eu", OfProducts: 10, OfPurchases: 100}, 0, 110},
		{ledger.Progress{Shard: "us"}, 0, 110},
		{ledger.Progress{Shard: "us", Products: 7, Purchases: 50}, 57, 167},
		{ledger.Progress{Shard: "eu", Products: 20, OfProducts: 10, Purchases: 90, OfPurchases: 100}, 167, 177},
	} {
		p.update(step.of)
		if done, total := p.rows(); done != step.done || total != step.total {
			t.Errorf("after %+v: %d of %d, want %d of %d", step.of, done, total, step.done, step.total)
		}
	}
}
