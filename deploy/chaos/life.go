package chaos

import (
	"cmp"
	"fmt"
	"slices"
	"time"

	"github.com/holdfast-io/holdfast/worker/ledger"
)

// life is all that is known of one purchase.
type life struct {
	row     *Row                 // nil when no shard has it
	create  *Op                  // nil when nobody asked for it
	ops     []Op                 // what was wanted of it afterwards
	changes map[string]ChangeRow // what was done to it, by request id
	ends    []ChangeRow          // expiries
}

// amount is what the purchase began with.
func (l *life) amount() int64 {
	switch {
	case l.row != nil:
		return l.row.Amount
	case l.create != nil:
		return l.create.Amount
	}
	return 0
}

// lawful is the contract: the state that each action leads to, from each state in which it
// is possible. A return of a part stays where it is.
var lawful = map[ledger.Action]map[ledger.State]ledger.State{
	ledger.Extend:  {ledger.Held: ledger.Held},
	ledger.Confirm: {ledger.Held: ledger.Confirmed, ledger.Expired: ledger.Confirmed},
	ledger.Cancel:  {ledger.Held: ledger.Cancelled},
	ledger.Expire:  {ledger.Held: ledger.Expired},
	ledger.Return:  {ledger.Confirmed: ledger.Returned},
}

var actions = map[Kind]ledger.Action{
	Extend: ledger.Extend, Confirm: ledger.Confirm, Cancel: ledger.Cancel, Return: ledger.Return,
}

// inOrder are all changes, in the only order in which they are possible: transactions that
// change several purchases have no order of their own that would tell.
func (l *life) inOrder() []ChangeRow {
	called := map[string]time.Duration{}
	for _, o := range l.ops {
		called[o.RequestID] = o.Call
	}
	stage := func(c ChangeRow) int {
		switch {
		case c.Action == ledger.Extend:
			return 0
		case c.Action == ledger.Expire, c.Action == ledger.Cancel:
			return 1
		case c.Action == ledger.Confirm:
			return 2
		case c.State != ledger.Returned:
			return 3
		}
		return 4
	}
	all := slices.Clone(l.ends)
	for _, c := range l.changes {
		all = append(all, c)
	}
	slices.SortFunc(all, func(a, b ChangeRow) int {
		return cmp.Or(cmp.Compare(stage(a), stage(b)), cmp.Compare(called[a.RequestID], called[b.RequestID]))
	})
	return all
}

// replay does to the purchase what its rows say, and returns what was to be told after each
// request, and what is wrong.
func (l *life) replay() (after map[string]Told, wrong []string) {
	found := func(format string, args ...any) {
		wrong = append(wrong, l.row.PurchaseID+" "+fmt.Sprintf(format, args...))
	}
	after = map[string]Told{}
	now := Row{Amount: l.row.Amount, State: ledger.Confirmed, Expires: l.firstEnd()}
	if l.row.Expires != 0 {
		now.State = ledger.Held
	}
	for _, c := range l.inOrder() {
		to, possible := lawful[c.Action][now.State]
		if !possible {
			found("was %s when it was to %s", now.State, c.Action)
			continue
		}
		units := now.apply(c)
		if c.Action == ledger.Return && now.has() > 0 {
			to = ledger.Confirmed
		}
		now.State = to
		if to != c.State || units != c.Units {
			found("%s led to %s, %+d units; %s, %+d would be right", c.Action, c.State, c.Units, to, units)
		}
		after[c.RequestID] = Told{now.State, now.Amount - now.has(), now.Expires}
	}
	if now.State != l.row.State || now.Released != l.row.Released || now.Readmitted != l.row.Readmitted ||
		now.Expires != l.row.Expires {
		found("is %+v, but its changes lead to %+v", *l.row, now)
	}
	return after, wrong
}

// apply does what a change asks for, and returns by how much it changes what the customer has.
func (r *Row) apply(c ChangeRow) int64 {
	before := r.has()
	switch {
	case c.Action == ledger.Extend:
		r.Expires = c.Expires
	case c.Action == ledger.Return:
		r.Released += cmp.Or(c.Amount, before)
	case c.Action == ledger.Confirm && r.State == ledger.Expired:
		r.Readmitted = cmp.Or(c.Amount, r.Amount)
	case c.Action == ledger.Confirm:
		r.Released = r.Amount - cmp.Or(c.Amount, r.Amount)
	default:
		r.Released = r.Amount
	}
	return r.has() - before
}

// firstEnd is when the hold was to end before it was extended, as its customer was told;
// when he was told nothing, it is as in the row.
func (l *life) firstEnd() time.Duration {
	extended := slices.ContainsFunc(l.inOrder(), func(c ChangeRow) bool { return c.Action == ledger.Extend })
	if l.row.Expires != 0 && extended && l.create != nil && l.create.Told.Expires != 0 {
		return l.create.Told.Expires
	}
	return l.row.Expires
}

// endedBefore is when the hold was to end before an extension.
func (l *life) endedBefore(extension ChangeRow) time.Duration {
	end := l.firstEnd()
	for _, c := range l.inOrder() {
		if c.RequestID == extension.RequestID {
			break
		}
		if c.Action == ledger.Extend {
			end = c.Expires
		}
	}
	return end
}

// early tells of expiries before their time, and of extensions after it.
func (l *life) early() (wrong []string) {
	for _, c := range l.inOrder() {
		switch c.Action {
		case ledger.Expire:
			if c.Created < c.Expires-skew {
				wrong = append(wrong, fmt.Sprintf("%s expired at %v, and was to at %v", c.PurchaseID, c.Created, c.Expires))
			}
		case ledger.Extend:
			if end := l.endedBefore(c); c.Created > end+skew {
				wrong = append(wrong, fmt.Sprintf("%s was extended at %v, and had ended at %v", c.PurchaseID, c.Created, end))
			}
		}
	}
	return wrong
}

// most is the most units that the customer may have had of it while somebody was refused.
func (l *life) most(refused *Op) int64 {
	if l.row == nil {
		return 0
	}
	if l.create == nil {
		return l.row.has()
	}
	if l.create.Call > refused.Return {
		return 0
	}
	sure := func(o *Op) bool { return o.Answer == Admitted && o.Return < refused.Call }
	units := l.row.Amount
	if l.row.Expires != 0 && sure(l.create) && l.row.Expires+skew < refused.Call {
		units = 0
	}
	var back int64
	for _, o := range l.ops {
		c, done := l.changes[o.RequestID]
		switch {
		case !done:
		case o.Kind == Cancel && sure(&o):
			units = 0
		case o.Kind == Confirm && sure(&o):
			units = cmp.Or(o.Amount, l.row.Amount)
		case o.Kind == Confirm && o.Call <= refused.Return:
			units = max(units, cmp.Or(o.Amount, l.row.Amount))
		case o.Kind == Return && sure(&o):
			back -= c.Units
		}
	}
	return units - back
}
