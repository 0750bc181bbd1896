package books

import (
	"fmt"
	"iter"

	"github.com/holdfast-io/holdfast/worker/payment"
	"github.com/holdfast-io/holdfast/worker/payment/simulated"
)

// Totals are sums over all orders, or all of a provider's entries; in minor units.
type Totals struct {
	Payments int   `json:"payments"`
	Captured int64 `json:"captured"`
	Refunded int64 `json:"refunded"`
	Declined int   `json:"declined"`
	Voided   int   `json:"voided"`
	// LeftAuthorized is what is neither captured nor let go.
	LeftAuthorized int64 `json:"left_authorized"`
}

// Difference is what is wrong with one order.
type Difference struct {
	OrderID string `json:"order_id"`
	Problem string `json:"problem"`
}

// Report is what a comparison came to.
type Report struct {
	Rows     Totals `json:"rows"`
	Provider Totals `json:"provider"`
	// DoubleCaptures and DoubleRefunds are payments of which more was moved than is due.
	DoubleCaptures int `json:"double_captures"`
	DoubleRefunds  int `json:"double_refunds"`
	// Repeats are calls that were made again, and that moved nothing.
	RepeatedCaptures int          `json:"repeated_captures"`
	RepeatedRefunds  int          `json:"repeated_refunds"`
	Differences      []Difference `json:"differences"`
}

// Err is nil when the books agree.
func (r *Report) Err() error {
	if len(r.Differences) == 0 {
		return nil
	}
	return fmt.Errorf("the books do not agree: %d differences, the first of order %s: %s",
		len(r.Differences), r.Differences[0].OrderID, r.Differences[0].Problem)
}

// Compare holds orders against a provider's ledger. All of both must be given: an entry
// without an order is a difference as well.
func Compare(orders []*Order, ledger iter.Seq2[simulated.Entry, error]) (*Report, error) {
	entries := map[string]simulated.Entry{}
	for e, err := range ledger {
		if err != nil {
			return nil, fmt.Errorf("compare books: %w", err)
		}
		entries[e.Key] = e
	}
	r := &Report{Differences: []Difference{}}
	for _, o := range orders {
		e, asked := entries[o.ID]
		delete(entries, o.ID)
		r.add(o, e)
		for _, problem := range check(o, e, asked) {
			r.Differences = append(r.Differences, Difference{o.ID, problem})
		}
	}
	for key, e := range entries {
		r.add(&Order{}, e)
		r.Differences = append(r.Differences, Difference{key, fmt.Sprintf("the provider knows it, and no shard: %+v", e)})
	}
	return r, nil
}

func (r *Report) add(o *Order, e simulated.Entry) {
	if p := o.Payment; p != nil {
		r.Rows.Payments++
		r.Rows.Captured += p.Captured
		r.Rows.Refunded += p.Refunded
		switch p.State {
		case "declined":
			r.Rows.Declined++
		case "voided":
			r.Rows.Voided++
		case "authorizing", "authorized":
			r.Rows.LeftAuthorized += p.MinorUnits
		}
	}
	if e.Number > 0 {
		r.Provider.Payments++
	}
	r.Provider.Captured += e.Captured
	r.Provider.Refunded += e.Refunded
	r.Provider.LeftAuthorized += e.Authorized - e.Captured - e.Voided
	switch e.State {
	case payment.Declined:
		r.Provider.Declined++
	case payment.Voided:
		r.Provider.Voided++
	}
	r.RepeatedCaptures += e.DoubleCaptures
	r.RepeatedRefunds += e.DoubleRefunds
	if e.Captured > o.Due() {
		r.DoubleCaptures++
	}
	if e.Refunded > o.Back() {
		r.DoubleRefunds++
	}
}

// check returns what is wrong with one order. Asked tells whether the provider has an entry.
func check(o *Order, e simulated.Entry, asked bool) (problems []string) {
	wrong := func(format string, args ...any) { problems = append(problems, fmt.Sprintf(format, args...)) }
	checkUnits(o, wrong)
	if o.Unsettled > 0 {
		wrong("%d tasks for the provider are not done", o.Unsettled)
	}
	due, back := o.Due(), o.Back()
	p := o.Payment
	switch {
	case p == nil && asked:
		wrong("the provider was asked, and no payment is stored: %+v", e)
	case p == nil && due > 0:
		wrong("confirmed for %d without a payment", due)
	case p == nil:
		return problems
	}
	if p != nil {
		checkPayment(o, p, wrong)
	}
	if err := e.Check(); asked && err != nil {
		wrong("%v", err)
	}
	if e.Captured != due {
		wrong("the provider has captured %d, and %d are due", e.Captured, due)
	}
	if e.Refunded != back {
		wrong("the provider has refunded %d, and %d are due back", e.Refunded, back)
	}
	if left := e.Authorized - e.Captured - e.Voided; left != 0 {
		wrong("the provider still holds %d", left)
	}
	return problems
}

func checkUnits(o *Order, wrong func(string, ...any)) {
	confirmed := 0
	for _, l := range o.Lines {
		if l.Has != l.Counted {
			wrong("product %s: the row says that the customer has %d, its history %d", l.ProductID, l.Has, l.Counted)
		}
		if l.State == "held" {
			wrong("product %s is still held", l.ProductID)
		}
		if l.Confirmed > 0 {
			confirmed++
		}
	}
	switch {
	case confirmed > 0 && confirmed < len(o.Lines):
		wrong("%d of %d lines are confirmed", confirmed, len(o.Lines))
	case confirmed > 0 && o.State != "placed":
		wrong("confirmed, and the order is %s", o.State)
	}
}

func checkPayment(o *Order, p *Payment, wrong func(string, ...any)) {
	due, back := o.Due(), o.Back()
	state := "captured"
	if due == 0 {
		state = "voided"
	}
	if p.State != state && (due != 0 || p.State != "declined") {
		wrong("the payment is %s, and should be %s", p.State, state)
	}
	if p.Captured != due || p.Refunded != back {
		wrong("the payment says captured %d, refunded %d; due are %d and %d", p.Captured, p.Refunded, due, back)
	}
}
