package chaos

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/anishathalye/porcupine"
)

// linearizeTimeout bounds the search for one product. A search that does not
// end is reported as a violation: it has not shown what it was to show.
const linearizeTimeout = 30 * time.Second

// Verdict is what the checker found. Its zero value, but for the counts of
// purchases, is what a good run comes to.
type Verdict struct {
	Purchases, Refused, Unanswered int // operations by answer

	Oversold        int64 // units sold beyond the storage, from the rows
	Lost            int   // admitted, but without their row
	Doubled         int   // a request with two rows or two outcomes, or a row that nobody asked for
	FalseRefusals   int   // refused, though the units were there or the row is
	NotLinearizable []string
	LongestWait     time.Duration // from first call to last answer
	Slowest         Op            // which that was

	Evidence []string
}

// Violations counts everything that must not be.
func (v *Verdict) Violations() int {
	return int(v.Oversold) + v.Lost + v.Doubled + v.FalseRefusals + len(v.NotLinearizable)
}

// ledgerOf is the part of a history and of the rows that is about one product.
type ledgerOf struct {
	product string
	stock   int64
	ops     []Op
	rows    map[string][]Row // by request id
}

// Check holds what the buyers were told against the rows of all shards.
func Check(h *History, rows []Row) *Verdict {
	h.mu.Lock()
	defer h.mu.Unlock()
	v := &Verdict{}
	parts := map[string]*ledgerOf{}
	for id, stock := range h.stock {
		parts[id] = &ledgerOf{product: id, stock: stock, rows: map[string][]Row{}}
	}
	for _, o := range h.ops {
		parts[o.Product].ops = append(parts[o.Product].ops, o)
	}
	for _, r := range rows {
		p := parts[r.Product]
		if p == nil {
			v.doubled("row %s is of product %q, which nobody created", r.PurchaseID, r.Product)
			continue
		}
		p.rows[r.RequestID] = append(p.rows[r.RequestID], r)
	}
	for _, p := range parts {
		v.checkProduct(p)
	}
	slices.Sort(v.NotLinearizable)
	return v
}

func (v *Verdict) checkProduct(p *ledgerOf) {
	asked := map[string]bool{}
	for _, o := range p.ops {
		asked[o.RequestID] = true
		v.checkOp(o, p.rows[o.RequestID])
	}
	var sold int64
	stored := map[string]bool{}
	for request, rows := range p.rows {
		stored[request] = true
		for _, r := range rows {
			sold += r.Amount
		}
		if len(rows) > 1 {
			v.doubled("request %s has %d rows", request, len(rows))
		}
		if !asked[request] {
			v.doubled("request %s has a row, but no buyer", request)
		}
	}
	if over := sold - p.stock; over > 0 {
		v.Oversold += over
		v.found("oversold: %s has %d units, %d are sold", p.product, p.stock, sold)
	}
	v.checkRefusals(p)
	switch linearizable(p.stock, p.ops, stored, linearizeTimeout) {
	case porcupine.Ok:
	case porcupine.Illegal:
		v.notLinearizable(p, "no order of its operations explains the answers")
	default:
		v.notLinearizable(p, "not decided in time")
	}
}

func (v *Verdict) checkOp(o Op, rows []Row) {
	switch o.Answer {
	case Unanswered:
		v.Unanswered++
		return
	case Refused:
		v.Refused++
		if len(rows) > 0 {
			v.FalseRefusals++
			v.found("false refusal: %v, but it is stored", o)
		}
	case Admitted:
		v.Purchases++
		if !slices.Contains(rows, Row{o.PurchaseID, o.Product, o.RequestID, o.Amount}) {
			v.Lost++
			v.found("lost: %v as %s, stored is %v", o, o.PurchaseID, rows)
		}
		if o.Again != "" && o.Again != o.PurchaseID {
			v.doubled("%v was told %s and then %s", o, o.PurchaseID, o.Again)
		}
	}
	if wait := o.Return - o.Call; wait > v.LongestWait {
		v.LongestWait, v.Slowest = wait, o
	}
}

// checkRefusals finds refusals that no order of anything can excuse: the units
// were there even if all that was called before the refusal was admitted first.
func (v *Verdict) checkRefusals(p *ledgerOf) {
	for _, refused := range p.ops {
		if refused.Answer != Refused {
			continue
		}
		left := p.stock
		for _, o := range p.ops {
			if o.Call <= refused.Return {
				for _, r := range p.rows[o.RequestID] {
					left -= r.Amount
				}
			}
		}
		if refused.Amount <= left {
			v.FalseRefusals++
			v.found("false refusal: %v, while at least %d units were left", refused, left)
		}
	}
}

func (v *Verdict) doubled(format string, args ...any) {
	v.Doubled++
	v.found("doubled: "+format, args...)
}

func (v *Verdict) notLinearizable(p *ledgerOf, why string) {
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
