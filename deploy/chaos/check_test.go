package chaos

import (
	"testing"
	"time"

	holdfastv1 "github.com/holdfast-io/holdfast/api/holdfast/v1"
	"github.com/holdfast-io/holdfast/worker/ledger"
)

// op is an operation on product "p", in seconds.
func op(request string, amount int64, answer Answer, call, end int) Op {
	o := Op{
		Kind: Buy, Product: "p", RequestID: request, Amount: amount, Answer: answer,
		Call: time.Duration(call) * time.Second, Return: time.Duration(end) * time.Second,
	}
	switch answer {
	case Admitted:
		o.PurchaseID, o.Told.State = "eu-"+request, ledger.Confirmed
	case Refused:
		o.Reason = holdfastv1.ReasonInsufficientStock
	}
	return o
}

func row(request string, amount int64) Row { return rowAs("eu-"+request, "p", request, amount) }

func rowAs(id, product, request string, amount int64) Row {
	return Row{PurchaseID: id, Product: product, RequestID: request, Amount: amount, State: ledger.Confirmed}
}

func toldAgain(o Op, purchaseID string) Op {
	o.Again = purchaseID
	return o
}

// A checker that accepts everything would make every run look good, so each kind
// of bad history must be rejected, and for its own reason.
func TestCheckerJudgesHistories(t *testing.T) {
	const stock = 10
	type counts struct {
		oversold                     int64
		lost, doubled, falseRefusals int
		linearizable                 bool
	}
	good := counts{linearizable: true}
	cases := map[string]struct {
		ops  []Op
		rows []Row
		want counts
	}{
		"empty": {nil, nil, good},
		"sold out exactly, then refused": {
			[]Op{op("a", 6, Admitted, 0, 1), op("b", 4, Admitted, 0, 2), op("c", 1, Refused, 3, 4)},
			[]Row{row("a", 6), row("b", 4)}, good,
		},
		"refused first, smaller one admitted later": {
			[]Op{op("a", 8, Admitted, 0, 1), op("b", 3, Refused, 2, 3), op("c", 2, Admitted, 4, 5)},
			[]Row{row("a", 8), row("c", 2)}, good,
		},
		"refused while the last units were being sold": {
			[]Op{op("a", 10, Admitted, 1, 5), op("b", 1, Refused, 2, 3)},
			[]Row{row("a", 10)}, good,
		},
		"unanswered and stored explains a refusal": {
			[]Op{op("a", 10, Unanswered, 0, 1), op("b", 1, Refused, 2, 3)},
			[]Row{row("a", 10)}, good,
		},
		"unanswered and stored after a refusal": {
			[]Op{op("a", 9, Admitted, 0, 1), op("b", 1, Unanswered, 1, 2), op("c", 1, Admitted, 3, 4)},
			[]Row{row("a", 9), row("c", 1)}, good,
		},
		"unanswered and not stored": {
			[]Op{op("a", 10, Unanswered, 0, 1), op("b", 10, Admitted, 2, 3)}, []Row{row("b", 10)}, good,
		},
		"unanswered, and stored after all others were answered": {
			[]Op{op("a", 4, Unanswered, 0, 1), op("b", 6, Admitted, 0, 1), op("c", 5, Refused, 2, 3)},
			[]Row{row("a", 4), row("b", 6)}, good,
		},
		"repeated and told the same": {
			[]Op{toldAgain(op("a", 1, Admitted, 0, 1), "eu-a")}, []Row{row("a", 1)}, good,
		},
		"oversold": {
			[]Op{op("a", 6, Admitted, 0, 1), op("b", 6, Admitted, 0, 1)},
			[]Row{row("a", 6), row("b", 6)}, counts{oversold: 2},
		},
		"oversold by one that was never answered": {
			[]Op{op("a", 10, Admitted, 0, 1), op("b", 1, Unanswered, 0, 1)},
			[]Row{row("a", 10), row("b", 1)}, counts{oversold: 1},
		},
		"lost": {
			[]Op{op("a", 1, Admitted, 0, 1)}, nil, counts{lost: 1, linearizable: true},
		},
		"stored with another amount": {
			[]Op{op("a", 2, Admitted, 0, 1)}, []Row{row("a", 1)}, counts{lost: 1, linearizable: true},
		},
		"stored as another purchase": {
			[]Op{op("a", 2, Admitted, 0, 1)}, []Row{rowAs("us-a", "p", "a", 2)}, counts{lost: 1, linearizable: true},
		},
		"stored twice": {
			[]Op{op("a", 1, Admitted, 0, 1)}, []Row{row("a", 1), rowAs("us-a", "p", "a", 1)},
			counts{doubled: 1, linearizable: true},
		},
		"told two outcomes": {
			[]Op{toldAgain(op("a", 1, Admitted, 0, 1), "eu-b")}, []Row{row("a", 1)},
			counts{doubled: 1, linearizable: true},
		},
		"told of a refusal after an admission": {
			[]Op{toldAgain(op("a", 1, Admitted, 0, 1), "a refusal")}, []Row{row("a", 1)},
			counts{doubled: 1, linearizable: true},
		},
		"a row that nobody asked for": {
			nil, []Row{row("a", 1)}, counts{doubled: 1, linearizable: true},
		},
		"a row of an unknown product": {
			nil, []Row{rowAs("eu-a", "q", "a", 1)}, counts{doubled: 1, linearizable: true},
		},
		"refused with all units there": {
			[]Op{op("a", 1, Refused, 0, 1)}, nil, counts{falseRefusals: 1},
		},
		"refused before the last units were asked for": {
			[]Op{op("a", 1, Refused, 0, 1), op("b", 10, Admitted, 2, 3)},
			[]Row{row("b", 10)}, counts{falseRefusals: 1},
		},
		"refused for one that was never answered and never happened": {
			[]Op{op("a", 10, Unanswered, 0, 1), op("b", 1, Refused, 2, 3)}, nil, counts{falseRefusals: 1},
		},
		"refused before one was called that was never answered and happened": {
			[]Op{op("a", 1, Refused, 0, 1), op("b", 10, Unanswered, 2, 3)},
			[]Row{row("b", 10)}, counts{falseRefusals: 1},
		},
		"refused but stored, though there were units": {
			[]Op{op("a", 1, Refused, 0, 1)}, []Row{row("a", 1)}, counts{falseRefusals: 2},
		},
		"refused but stored": {
			[]Op{op("a", 10, Admitted, 0, 1), op("b", 1, Refused, 2, 3)},
			[]Row{row("a", 10), row("b", 1)}, counts{oversold: 1, falseRefusals: 1, linearizable: true},
		},
		"refused while units were there that sold later": {
			[]Op{op("a", 9, Admitted, 0, 1), op("b", 1, Refused, 2, 3), op("c", 1, Admitted, 4, 5)},
			[]Row{row("a", 9), row("c", 1)}, counts{falseRefusals: 1},
		},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			h := NewHistory()
			h.addProduct("p", stock)
			for _, o := range c.ops {
				h.addOp(o)
			}
			v := Check(h, &Rows{Purchases: c.rows})
			got := counts{v.Oversold, v.Lost, v.Doubled, v.FalseRefusals, len(v.NotLinearizable) == 0}
			if got != c.want {
				t.Errorf("got %+v, want %+v: %q", got, c.want, v.Evidence)
			}
			if (v.Err() == nil) != (c.want == good) {
				t.Errorf("Err is %v", v.Err())
			}
		})
	}
}

// What only an order of all operations shows: each answer alone can be excused.
func TestCheckerSeesWhatOnlyAnOrderShows(t *testing.T) {
	h := NewHistory()
	h.addProduct("p", 2)
	for _, o := range []Op{
		op("a", 2, Admitted, 0, 10), // must come before b, which was refused
		op("b", 1, Refused, 1, 2),
		op("c", 1, Admitted, 3, 4), // and then c could not have been admitted,
		op("d", 1, Refused, 5, 6),  // whose row was lost besides
	} {
		h.addOp(o)
	}
	v := Check(h, &Rows{Purchases: []Row{row("a", 2)}})
	if len(v.NotLinearizable) != 1 || v.Oversold != 0 || v.FalseRefusals != 0 {
		t.Errorf("got %+v", v)
	}
}
