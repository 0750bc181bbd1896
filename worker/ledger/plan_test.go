package ledger

import (
	"regexp"
	"strings"
	"testing"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/holdfast-io/holdfast/deploy/local/localtest"
)

// wholeIndex finds a scan of an index without a condition on it.
var wholeIndex = regexp.MustCompile(`Index (Only )?Scan using .*\n +[^ I]`)

// A plan that reads a table whole gets slower with each purchase, and nobody
// notices before the sale. The trigger's plans are told by auto_explain.
func TestStatementsOfASaleUseIndexes(t *testing.T) {
	dsn := localtest.Databases(t, "eu")["eu"]
	s, err := Open(Config{Name: "eu", DSN: dsn})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Close)
	if _, err := s.Migrate(t.Context()); err != nil {
		t.Fatal(err)
	}
	config := s.pool.Config().ConnConfig
	var plans []string
	config.OnNotice = func(_ *pgconn.PgConn, n *pgconn.Notice) { plans = append(plans, n.Message) }
	conn, err := pgx.ConnectConfig(t.Context(), config)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = conn.Close(t.Context()) }()
	for _, setting := range []string{
		"LOAD 'auto_explain'", "SET auto_explain.log_min_duration = 0",
		"SET auto_explain.log_nested_statements = on", "SET auto_explain.log_level = notice",
	} {
		if _, err := conn.Exec(t.Context(), setting); err != nil {
			t.Fatal(err)
		}
	}

	f := Fence{ProductID: "p", Topology: 1, Token: 1, TenureID: uuid.New()}
	if _, err := s.Raise(t.Context(), f); err != nil {
		t.Fatal(err)
	}
	// Of tables of which Postgres knows that they have one row it would rather read all.
	if _, err := conn.Exec(t.Context(), "ANALYZE"); err != nil {
		t.Fatal(err)
	}
	purchase := func(request string) *batch {
		return newBatch([]*Purchase{{PurchaseID: uuid.New(), ProductID: "p", RequestID: request, Amount: 1, Fence: &f}})
	}
	check := pgx.NamedArgs{"product_ids": []string{"p"}, "tenure_ids": uuids{f.TenureID}, "request_ids": []string{"r1"}}
	ask := func(sql string) func() error {
		return func() error { _, err := conn.Exec(t.Context(), sql, check); return err }
	}
	for name, statement := range map[string]struct {
		run     func() error
		touches string
	}{
		"copy":            {func() error { return purchase("r1").copy(t.Context(), conn) }, "UPDATE fences"},
		"insert unstored": {func() error { return purchase("r2").insertUnstored(t.Context(), conn) }, "UPDATE fences"},
		"verify fences":   {ask(verifyFences), "fences"},
		"first outcomes":  {ask(firstOutcomes), "purchases"},
		"totals":          {ask(selectTotals), "fences"},
		"overtaken": {func() error {
			_, err := conn.Exec(t.Context(), overtaken, pgx.NamedArgs{"purchase_ids": uuids{uuid.New()}})
			return err
		}, "changes"},
		"events": {func() error {
			_, err := conn.Exec(t.Context(), selectEvents, pgx.NamedArgs{"xid": 1, "id": uuid.New(), "product_id": "p", "limit": 100})
			return err
		}, "deliveries_in_order"},
	} {
		plans = nil
		if err := statement.run(); err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		whole := strings.Join(plans, "\n")
		if !strings.Contains(whole, statement.touches) || !strings.Contains(whole, "Index") {
			t.Errorf("%s: no plan that uses an index:\n%s", name, whole)
		}
		if strings.Contains(whole, "Seq Scan on") || wholeIndex.MatchString(whole) {
			t.Errorf("%s reads a table whole:\n%s", name, whole)
		}
	}
}
