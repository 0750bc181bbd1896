package ledger_test

import (
	"errors"
	"fmt"
	"testing"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/holdfast-io/holdfast/worker/ledger"
)

// Nothing that the ledger promises depends on who sends the statements.
func TestDatabaseGuardsTheLifeOfAPurchase(t *testing.T) {
	d := newDatabase(t)
	old := d.begin(t, "p", 1, 100)
	f := d.begin(t, "p", 2, 100)
	d.begin(t, "q", 2, 100)
	d.inState(t, f, ledger.Held, 5)
	d.inState(t, f, ledger.Confirmed, 5)
	d.inState(t, f, ledger.Cancelled, 5)
	half := d.inState(t, f, ledger.Expired, 5)
	if _, err := d.Readmit(t.Context(), ledger.Readmission{Fence: f, PurchaseID: half.PurchaseID, RequestID: "r", Asked: 2, Amount: 2}); err != nil {
		t.Fatal(err)
	}
	expired := d.inState(t, f, ledger.Expired, 5)
	if _, err := d.Deliver(t.Context(), ledger.Delivery{DeliveryID: uuid.New(), ProductID: "p", RequestID: "r", Amount: 5}); err != nil {
		t.Fatal(err)
	}
	was := d.totals(t, "p")
	const insert = `INSERT INTO purchases (purchase_id, product_id, request_id, amount, customer_id, state, released, readmitted,
		topology, token, tenure_id) VALUES (gen_random_uuid(), 'p', 'x', 5, 'ann', `
	const takeAway = `INSERT INTO deliveries (delivery_id, product_id, request_id, amount, topology, token, tenure_id)
		VALUES (gen_random_uuid(), `
	under := fmt.Sprintf("%d, %d, '%s')", f.Topology, f.Token, f.TenureID)
	for _, tt := range []struct{ constraint, sql string }{
		{"changes_are_only_added", "UPDATE changes SET units = 0"},
		{"changes_are_only_added", "DELETE FROM changes"},
		{"changes_action_is_known", "INSERT INTO changes SELECT gen_random_uuid(), gen_random_uuid(), 'p', NULL, 'x', 0, 'held', 0"},
		{"deliveries_are_only_added", "UPDATE deliveries SET amount = 6"},
		{"deliveries_are_only_added", "DELETE FROM deliveries"},
		{"deliveries_amount_is_1_to_2_53", takeAway + "'p', 'x', 0, " + under},
		{"releases_never_go_down", "UPDATE releases SET released = released - 1"},
		{"releases_never_go_down", "UPDATE releases SET product_id = 'q'"},
		{"releases_released_is_never_negative", "INSERT INTO releases VALUES ('q', -1)"},
		{"purchases_only_go_on", "UPDATE purchases SET released = released - 1 WHERE state = 'cancelled'"},
		{"purchases_only_go_on", "UPDATE purchases SET readmitted = 1 WHERE readmitted = 2"},
		{"purchases_stay_what_they_are", "UPDATE purchases SET purchase_id = gen_random_uuid()"},
		{"purchases_stay_what_they_are", "UPDATE purchases SET product_id = 'q'"},
		{"purchases_stay_what_they_are", "UPDATE purchases SET request_id = 'x' WHERE state = 'held'"},
		{"purchases_stay_what_they_are", "UPDATE purchases SET amount = 4 WHERE state = 'held'"},
		{"purchases_stay_what_they_are", "UPDATE purchases SET customer_id = 'bob'"},
		{"purchases_stay_what_they_are", "UPDATE purchases SET create_time = now()"},
		{"purchases_stay_what_they_are", "UPDATE purchases SET xid = '0'"},
		{"purchases_released_fits_state", "UPDATE purchases SET released = 1 WHERE state = 'held'"},
		{"purchases_released_fits_state", "UPDATE purchases SET expire_time = NULL WHERE state = 'held'"},
		{"purchases_released_fits_state", "UPDATE purchases SET state = 'cancelled' WHERE state = 'held'"},
		{"purchases_released_fits_state", "UPDATE purchases SET released = amount + readmitted WHERE state = 'confirmed'"},
		{"purchases_released_fits_state", "UPDATE purchases SET state = 'confirmed' WHERE state = 'cancelled'"},
		{"purchases_readmitted_is_no_more_than_expired", "UPDATE purchases SET state = 'confirmed', readmitted = 6 WHERE state = 'expired'"},
		{"products_never_change", "UPDATE products SET max_per_customer = 7"},
		{"products_never_change", "UPDATE products SET create_time = now()"},
		{"purchases_under_fences", insert + "'confirmed', 1, 0, " + under},
		{"purchases_under_fences", insert + "'cancelled', 5, 0, " + under},
		{"purchases_under_fences", insert + "'confirmed', 0, 5, " + under},
		{"deliveries_under_fences", takeAway + "'p', 'x', -1, NULL, NULL, NULL)"},
		{"deliveries_under_fences", takeAway + fmt.Sprintf("'p', 'x', -1, 1, 1, '%s')", old.TenureID)},
		{"deliveries_under_fences", takeAway + fmt.Sprintf("'p', 'x', -1, 1, 2, '%s')", old.TenureID)},
		{"deliveries_under_fences", takeAway + fmt.Sprintf("'p', 'x', -1, 1, 3, '%s')", f.TenureID)},
		{"deliveries_under_fences", takeAway + fmt.Sprintf("'p', 'x', -1, 2, 2, '%s')", f.TenureID)},
		{"deliveries_under_fences", takeAway + "'q', 'x', -1, " + under},
		{"changes_under_fences", readmitted(expired, "tenure_id = NULL")},
		{"changes_under_fences", readmitted(expired, fmt.Sprintf("tenure_id = '%s'", old.TenureID))},
		{"changes_under_fences", readmitted(expired, "token = 1")},
		{"changes_under_fences", readmitted(expired, "token = 3")},
		{"changes_under_fences", readmitted(expired, "topology = 2")},
	} {
		var pgErr *pgconn.PgError
		if _, err := d.raw.Exec(t.Context(), tt.sql); !errors.As(err, &pgErr) || pgErr.ConstraintName != tt.constraint {
			t.Errorf("%s: got %v, want it refused by %s", tt.sql, err, tt.constraint)
		}
	}
	d.checkSums(t)
	if now := d.totals(t, "p"); now != was {
		t.Errorf("what was refused moved %+v to %+v", was, now)
	}
	// What is allowed is counted, whoever does it.
	d.exec(t, "UPDATE purchases SET released = 5, state = 'cancelled' WHERE state = 'held'")
	d.exec(t, readmitted(expired, "token = 2"))
	d.exec(t, "UPDATE purchases SET readmitted = 5 WHERE readmitted > 0")
	if now := d.totals(t, "p"); now != (totals{was.purchased + 5 + 3, was.released + 5, was.changes}) {
		t.Errorf("totals %+v, before it %+v", now, was)
	}
	d.checkLedger(t)
}

func readmitted(p *ledger.Purchase, under string) string {
	return fmt.Sprintf("UPDATE purchases SET state = 'confirmed', readmitted = 5, %s WHERE purchase_id = '%s'", under, p.PurchaseID)
}
