package chaos

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/anishathalye/porcupine"

	holdfastv1 "github.com/holdfast-io/holdfast/api/holdfast/v1"
	"github.com/holdfast-io/holdfast/worker/ledger"
)

// linearizeTimeout bounds the search for one product. A search that does not
// end is reported as a violation: it has not shown what it was to show.
const linearizeTimeout = 30 * time.Second

// Answers counts operations of one kind.
type Answers struct {
	Done       int `json:"done"`
	Refused    int `json:"refused"`
	Unanswered int `json:"unanswered"`
	Repeated   int `json:"repeated"` // and answered again
}

// Verdict is what the checker found. Its zero value, but for the counts of
// operations, is what a good run comes to.
type Verdict struct {
	Purchases, Refused, Unanswered int // those that begin a purchase, by answer; and all that were not answered
	Operations                     map[Kind]*Answers
	Expired, ConfirmedLate         int // holds, from the rows

	Oversold        int64 // units that customers have beyond storage and deliveries, from the rows
	Lost            int   // done, but without its row
	Doubled         int   // a request with two rows or two outcomes, or a row that nobody asked for
	FalseRefusals   int   // refused, though the units were there or the row is
	Broken          int   // purchases whose rows, or answers, are no life of a purchase
	NotLinearizable []string
	LongestWait     time.Duration // from first call to last answer
	Slowest         Op            // which that was

	Evidence []string
}

// Violations counts everything that must not be.
func (v *Verdict) Violations() int {
	return int(v.Oversold) + v.Lost + v.Doubled + v.FalseRefusals + v.Broken + len(v.NotLinearizable)
}

// Check holds what the callers were told against the rows of all shards.
func Check(h *History, rows *Rows) *Verdict {
	h.mu.Lock()
	defer h.mu.Unlock()
	v := &Verdict{Operations: map[Kind]*Answers{}}
	parts := map[string]*account{}
	for id, stock := range h.stock {
		parts[id] = newAccount(id, stock)
	}
	v.sortRows(rows, parts)
	for _, o := range h.ops {
		parts[o.Product].addOp(o)
	}
	for _, p := range parts {
		v.checkProduct(p)
	}
	slices.Sort(v.NotLinearizable)
	return v
}

func (v *Verdict) checkProduct(p *account) {
	known := map[string]bool{}
	for _, o := range p.ops {
		known[o.RequestID] = true
		v.count(&o)
		v.checkOp(p, &o)
	}
	for _, request := range p.twice {
		v.doubled("request %s of %s has more than one row", request, p.product)
	}
	left := p.stock
	for _, d := range p.deliveries {
		left += d.Amount
		if !known[d.RequestID] {
			v.doubled("delivery %s has a row, but nobody asked for it", d.RequestID)
		}
	}
	for _, id := range p.order {
		l := p.purchases[id]
		left -= l.row.has()
		if !known[l.row.RequestID] {
			v.doubled("request %s has a row, but no buyer", l.row.RequestID)
		}
		for request, c := range l.changes {
			if !known[request] {
				v.doubled("%s %s of %s has a row, but nobody asked for it", c.Action, request, id)
			}
		}
		v.checkLife(l)
	}
	if left < 0 {
		v.Oversold -= left
		v.found("oversold: %s by %d units", p.product, -left)
	}
	v.checkRefusals(p)
	if result, why := p.linearizable(linearizeTimeout); result != porcupine.Ok {
		v.notLinearizable(p, why)
	}
}

func (v *Verdict) count(o *Op) {
	a := v.Operations[o.Kind]
	if a == nil {
		a = &Answers{}
		v.Operations[o.Kind] = a
	}
	switch o.Answer {
	case Unanswered:
		a.Unanswered++
		v.Unanswered++
		return
	case Refused:
		a.Refused++
		if o.Kind.creates() {
			v.Refused++
		}
	case Admitted:
		a.Done++
		if o.Kind.creates() {
			v.Purchases++
		}
	}
	if o.Again != "" {
		a.Repeated++
	}
	if wait := o.Return - o.Call; wait > v.LongestWait {
		v.LongestWait, v.Slowest = wait, *o
	}
}

// reasonable tells whether a refusal has one of the reasons that the contract knows for it.
func reasonable(o *Op) bool {
	if pointless(o) {
		return true
	}
	switch o.Kind {
	case Buy, Hold:
		return o.Reason == holdfastv1.ReasonInsufficientStock
	case Deliver:
		return o.Reason == holdfastv1.ReasonInsufficientStock && o.Amount < 0
	case Confirm, Return:
		return stateOf[o.Reason] != 0 || o.Reason == holdfastv1.ReasonHoldExpired ||
			o.Reason == holdfastv1.ReasonAmountExceeded
	}
	return stateOf[o.Reason] != 0 || o.Reason == holdfastv1.ReasonHoldExpired
}

// pointless tells whether a hold was refused since its end had come before it was tried.
func pointless(o *Op) bool {
	return o.Reason == holdfastv1.ReasonInvalidField && o.Until != 0 && o.Return >= o.Until-skew
}

// checkOp looks for what an operation left behind.
func (v *Verdict) checkOp(p *account, o *Op) {
	if o.Answer == Unanswered {
		return
	}
	stored, right := p.find(o)
	switch {
	case o.Answer == Refused && stored:
		v.falseRefusal("%v, but it is stored", o)
	case o.Answer == Refused && !reasonable(o):
		v.falseRefusal("%v, which is no answer to that", o)
	case o.Answer == Admitted && !right:
		v.Lost++
		v.found("lost: %v", o)
	}
	if o.Answer == Admitted && o.Again != "" && o.Again != o.PurchaseID {
		v.doubled("%v was told %s then", o, o.Again)
	}
}

// checkLife holds the rows of a purchase against each other, and against what its customer
// was told of it.
func (v *Verdict) checkLife(l *life) {
	after, wrong := l.replay()
	wrong = append(wrong, l.early()...)
	if o := l.create; o != nil && o.Answer == Admitted && !l.begins(o.Told) {
		wrong = append(wrong, fmt.Sprintf("%v was told %+v", o, o.Told))
	}
	for _, o := range l.ops {
		told, done := after[o.RequestID]
		if o.Answer != Admitted || !done {
			continue
		}
		overtaken := o.Kind == Extend && o.Told.State == ledger.Expired // when it was repeated
		if o.Told != told && !overtaken {
			wrong = append(wrong, fmt.Sprintf("%v was told %+v, and %+v would be right", o, o.Told, told))
		}
	}
	if len(wrong) > 0 {
		v.Broken++
		v.found("broken: %s", strings.Join(wrong, "; "))
	}
}

// begins tells whether that can be the answer to what the purchase began with. A hold that
// was asked for repeatedly may be over at the answer.
func (l *life) begins(t Told) bool {
	first := Told{State: ledger.Confirmed}
	if l.row.Expires != 0 {
		first = Told{State: ledger.Held, Expires: l.firstEnd()}
	}
	return t == first || first.Expires != 0 && t == Told{ledger.Expired, l.row.Amount, first.Expires}
}

// checkRefusals finds refusals that no order of anything can excuse: the units
// were there even if all that was called before the refusal was admitted first, and
// nothing given back of which that is not certain.
func (v *Verdict) checkRefusals(p *account) {
	calls := map[string]Op{}
	for _, o := range p.ops {
		if o.Kind == Deliver {
			calls[o.RequestID] = o
		}
	}
	for _, refused := range p.ops {
		wanted := refused.Amount
		switch {
		case refused.Answer != Refused:
			continue
		case refused.Kind == Confirm && refused.Reason == holdfastv1.ReasonHoldExpired:
			if l := p.of(refused.PurchaseID); wanted == 0 && l.row != nil {
				wanted = l.row.Amount
			}
		case refused.Reason != holdfastv1.ReasonInsufficientStock:
			continue
		case refused.Kind == Deliver:
			wanted = -wanted
		}
		if left := p.least(&refused, calls); wanted <= left {
			v.falseRefusal("%v, while at least %d units were left", refused, left)
		}
	}
}

func (v *Verdict) falseRefusal(format string, args ...any) {
	v.FalseRefusals++
	v.found("false refusal: "+format, args...)
}

func (v *Verdict) doubled(format string, args ...any) {
	v.Doubled++
	v.found("doubled: "+format, args...)
}

func (v *Verdict) notLinearizable(p *account, why string) {
	v.NotLinearizable = append(v.NotLinearizable, p.product)
	v.found("not linearizable: %s (%d operations): %s", p.product, len(p.ops), why)
}

// maxEvidence keeps a report readable when everything is wrong.
const maxEvidence = 40

func (v *Verdict) found(format string, args ...any) {
	if len(v.Evidence) < maxEvidence {
		v.Evidence = append(v.Evidence, fmt.Sprintf(format, args...))
	}
}

// Err is nil when nothing was found.
func (v *Verdict) Err() error {
	if v.Violations() == 0 {
		return nil
	}
	return fmt.Errorf("%d violations: %s", v.Violations(), strings.Join(v.Evidence, "; "))
}
