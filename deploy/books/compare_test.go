package books

import (
	"strings"
	"testing"

	"github.com/holdfast-io/holdfast/worker/payment"
	"github.com/holdfast-io/holdfast/worker/payment/simulated"
)

// history is an order of two lines that was paid, and of which one unit came back. Each test
// bends it.
type history struct {
	order   *Order
	entries []simulated.Entry
}

func goodHistory() *history {
	return &history{
		order: &Order{
			ID: "eu-1", State: "placed", Payment: &Payment{Currency: "EUR", MinorUnits: 500, State: "captured", Captured: 500, Refunded: 100},
			Lines: []Line{
				{ProductID: "p", State: "confirmed", UnitPrice: 100, Amount: 3, Has: 2, Confirmed: 3, Returned: 1, Counted: 2},
				{ProductID: "q", State: "confirmed", UnitPrice: 200, Amount: 1, Has: 1, Confirmed: 1, Counted: 1},
			},
		},
		entries: []simulated.Entry{{
			Number: 1, Key: "eu-1", MinorUnits: 500, State: payment.Captured,
			Authorized: 500, Captured: 500, Refunded: 100, Refunds: map[string]int64{"r": 100},
		}},
	}
}

// expired is the same order when nobody has confirmed it.
func expired(h *history) {
	for i := range h.order.Lines {
		l := &h.order.Lines[i]
		l.State, l.Has, l.Counted, l.Confirmed, l.Returned = "expired", 0, 0, 0, 0
	}
	h.order.Payment = &Payment{Currency: "EUR", MinorUnits: 500, State: "voided"}
	h.entries[0] = simulated.Entry{Number: 1, Key: "eu-1", MinorUnits: 500, State: payment.Voided, Authorized: 500, Voided: 500}
}

// Books that always agree are worth nothing: each lie must be found, and truth be believed.
func TestEveryLieIsFound(t *testing.T) {
	for name, test := range map[string]struct {
		bend func(*history)
		want string // "" when nothing is wrong
	}{
		"all is right":         {func(*history) {}, ""},
		"expired and let go":   {expired, ""},
		"expired, never asked": {func(h *history) { expired(h); h.order.Payment, h.entries = nil, nil }, ""},
		"declined": {func(h *history) {
			expired(h)
			h.order.Payment.State, h.entries[0].State, h.entries[0].Authorized, h.entries[0].Voided = "declined", payment.Declined, 0, 0
		}, ""},
		"captured twice":         {func(h *history) { h.entries[0].Captured *= 2 }, "captured 1000, and 500 are due"},
		"captured one too much":  {func(h *history) { h.order.Lines[0].UnitPrice-- }, "captured 500, and 497 are due"},
		"not captured":           {func(h *history) { e := &h.entries[0]; e.Captured, e.Refunded = 0, 0 }, "captured 0, and 500 are due"},
		"not captured, says row": {func(h *history) { h.order.Payment.Captured = 0 }, "captured 0, refunded 100"},
		"not refunded":           {func(h *history) { h.entries[0].Refunded = 0 }, "refunded 0, and 100 are due back"},
		"paid and expired":       {func(h *history) { e := h.entries[0]; expired(h); h.entries[0] = e }, "captured 500, and 0 are due"},
		"still authorized": {func(h *history) { expired(h); e := &h.entries[0]; e.Voided, e.State = 0, payment.Authorized },
			"still holds 500"},
		"row still authorizing":     {func(h *history) { expired(h); h.order.Payment.State = "authorizing" }, "should be voided"},
		"confirmed without payment": {func(h *history) { h.order.Payment, h.entries = nil, nil }, "without a payment"},
		"one line of two":           {func(h *history) { h.order.Lines[1].Confirmed = 0 }, "1 of 2 lines"},
		"row is not its history":    {func(h *history) { h.order.Lines[0].Has = 3 }, "its history 2"},
		"still held":                {func(h *history) { expired(h); h.order.Lines[0].State = "held" }, "still held"},
		"given up":                  {func(h *history) { h.order.Unsettled = 1 }, "not done"},
		"failed and confirmed":      {func(h *history) { h.order.State = "failed" }, "the order is failed"},
		"money of nobody":           {func(h *history) { h.entries = append(h.entries, simulated.Entry{Number: 2, Key: "eu-2"}) }, "no shard"},
	} {
		t.Run(name, func(t *testing.T) {
			h := goodHistory()
			test.bend(h)
			r, err := Compare([]*Order{h.order}, func(yield func(simulated.Entry, error) bool) {
				for _, e := range h.entries {
					if !yield(e, nil) {
						return
					}
				}
			})
			if err != nil {
				t.Fatal(err)
			}
			var problems []string
			for _, d := range r.Differences {
				problems = append(problems, d.Problem)
			}
			found := strings.Join(problems, "; ")
			if (test.want == "") != (found == "") || !strings.Contains(found, test.want) || (found == "") != (r.Err() == nil) {
				t.Errorf("found %q, want %q", found, test.want)
			}
		})
	}
}
