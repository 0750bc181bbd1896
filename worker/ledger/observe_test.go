package ledger

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
)

// Somebody asks four times a minute, so it must cost what there are holds, and never what
// was ever sold.
func TestHoldsAreCountedByAge(t *testing.T) {
	s, conn, plans := explained(t)
	f := Fence{ProductID: "p", Topology: 1, Token: 1, TenureID: uuid.New()}
	if _, err := s.Raise(t.Context(), f); err != nil {
		t.Fatal(err)
	}
	expires := time.Now().Add(time.Hour)
	batch := []*Purchase{{PurchaseID: uuid.New(), ProductID: "p", RequestID: "sold", Amount: 1, Fence: &f}}
	ages := []string{"0", "59 seconds", "2 minutes", "2 hours", "3 hours", "4 hours", "2 days"}
	for _, age := range ages {
		batch = append(batch, &Purchase{PurchaseID: uuid.New(), ProductID: "p", RequestID: age, Amount: 1, Fence: &f, ExpireTime: &expires})
	}
	if _, err := s.Commit(t.Context(), batch); err != nil {
		t.Fatal(err)
	}
	if _, err := conn.Exec(t.Context(), "SET session_replication_role = replica"); err != nil { // no trigger minds
		t.Fatal(err)
	}
	for _, age := range ages {
		if _, err := conn.Exec(t.Context(),
			"UPDATE purchases SET create_time = now() - $1::text::interval WHERE request_id = $1::text", age); err != nil {
			t.Fatal(err)
		}
	}
	got, err := s.HeldFor(t.Context())
	want := []Age{{"1m", 2}, {"10m", 1}, {"1h", 0}, {"1d", 3}, {"older", 1}}
	if err != nil || !slices.Equal(got, want) {
		t.Errorf("got %v (%v), want %v", got, err, want)
	}
	*plans = nil
	if _, err := conn.Exec(t.Context(), selectAges, pgx.NamedArgs{"limit": maxAged}); err != nil {
		t.Fatal(err)
	}
	if whole := fmt.Sprint(*plans); !strings.Contains(whole, "Index Scan using purchases_due") || strings.Contains(whole, "Seq Scan") {
		t.Errorf("it does not read the index of holds alone:\n%s", whole)
	}
}
