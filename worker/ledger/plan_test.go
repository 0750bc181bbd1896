package ledger

import (
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"

	"github.com/holdfast-io/holdfast/deploy/local/localtest"
)

// A plan that reads a table whole gets slower with each purchase, and nobody
// notices before the sale.
func TestStatementsOfASaleUseIndexes(t *testing.T) {
	s, err := Open(Config{Name: "eu", DSN: localtest.Databases(t, "eu")["eu"]})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Close)
	if _, err := s.Migrate(t.Context()); err != nil {
		t.Fatal(err)
	}
	rows := columns([]*Purchase{{ProductID: "p", RequestID: "r"}}, true)
	check := pgx.NamedArgs{"product_ids": []string{"p"}, "tenure_ids": rows["tenure_ids"], "request_ids": []string{"r"}}
	for name, statement := range map[string]struct {
		sql  string
		args pgx.NamedArgs
	}{
		"insert purchases": {insertNew, rows},
		"insert unstored":  {insertUnstored, rows},
		"verify fences":    {verifyFences, check},
		"first outcomes":   {firstOutcomes, check},
		"totals":           {selectTotals, check},
	} {
		found, _ := s.pool.Query(t.Context(), "EXPLAIN "+statement.sql, statement.args)
		plan, err := pgx.CollectRows(found, pgx.RowTo[string])
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		if whole := strings.Join(plan, "\n"); strings.Contains(whole, "Seq Scan on") {
			t.Errorf("%s reads a table whole:\n%s", name, whole)
		}
	}
}
