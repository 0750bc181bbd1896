package chaos

import (
	"fmt"
	"math"
	"slices"
	"time"

	"github.com/anishathalye/porcupine"

	holdfastv1 "github.com/holdfast-io/holdfast/api/holdfast/v1"
	"github.com/holdfast-io/holdfast/worker/ledger"
)

// clerk is the state of the model: one honest clerk who sells one product, keeps the book
// of its purchases, and looks at the clock. He admits exactly what fits.
type clerk struct {
	left int64
	book string // the state of each purchase, a byte each, by its number
}

// The bytes of the book.
const (
	unknown   = '-' // not admitted yet
	held      = 'h'
	confirmed = 'c'
	cancelled = 'x'
	expired   = 'e'
	returned  = 'r'
)

// strike is the kind of what nobody asks for: the clock strikes the end of a hold.
const strike Kind = "strike"

// asked is an input of the model, and answered an output.
type (
	asked struct {
		kind     Kind
		purchase int   // its number in the book; -1 when there is none
		amount   int64 // of the purchase; of a delivery, its own
		units    int64 // that are confirmed or returned
		last     bool  // nothing of the purchase is left after this return
	}
	answered struct{ reason string } // of a refusal; "" when it is done
)

// step serves one operation, or reports that this clerk would have answered otherwise.
func (c clerk) step(in asked, out answered) (bool, clerk) {
	state := byte(unknown)
	if in.purchase >= 0 {
		state = c.book[in.purchase]
	}
	if out.reason != "" {
		return c.refuses(in, out.reason, state), c
	}
	switch in.kind {
	case Buy:
		return c.moves(in, -in.amount, state == unknown, confirmed)
	case Hold:
		return c.moves(in, -in.amount, state == unknown, held)
	case Deliver:
		return c.moves(in, in.amount, true, 0)
	case Extend:
		return c.moves(in, 0, state == held, held)
	case Return:
		if in.last {
			return c.moves(in, in.units, state == confirmed, returned)
		}
		return c.moves(in, in.units, state == confirmed, confirmed)
	case strike:
		if state == held {
			return c.moves(in, in.amount, true, expired)
		}
		return state != unknown, c // it was not held any more
	}
	return c.settles(in, state)
}

// settles confirms or cancels. When the time of the hold is up its units have gone back,
// whether the shard has got round to it or not: a confirmation takes them anew.
func (c clerk) settles(in asked, state byte) (bool, clerk) {
	back := in.amount // what the hold gives back now
	if state == expired {
		back = 0
	}
	possible := state == held || state == expired
	if in.kind == Cancel {
		return c.moves(in, back, possible, cancelled)
	}
	if state == held {
		return c.moves(in, in.amount-in.units, possible, confirmed)
	}
	return c.moves(in, -in.units, possible, confirmed)
}

// moves changes what is left, and the state of the purchase, if that is possible.
func (c clerk) moves(in asked, units int64, possible bool, to byte) (bool, clerk) {
	if !possible || c.left+units < 0 {
		return false, c
	}
	next := clerk{c.left + units, c.book}
	if in.purchase >= 0 && c.book[in.purchase] != to {
		book := []byte(c.book)
		book[in.purchase] = to
		next.book = string(book)
	}
	return true, next
}

// refuses tells whether he would have refused for that reason.
func (c clerk) refuses(in asked, reason string, state byte) bool {
	switch reason {
	case holdfastv1.ReasonInsufficientStock:
		return c.left < in.units
	case holdfastv1.ReasonHoldExpired:
		return state == expired && (in.kind != Confirm || c.left < in.units)
	case holdfastv1.ReasonAmountExceeded:
		return state == confirmed || in.kind == Confirm
	}
	return state == stateOf[reason]
}

// stateOf is the state of a purchase that a refusal names.
var stateOf = map[string]byte{
	holdfastv1.ReasonPurchaseHeld:      held,
	holdfastv1.ReasonPurchaseConfirmed: confirmed,
	holdfastv1.ReasonPurchaseCancelled: cancelled,
	holdfastv1.ReasonPurchaseReturned:  returned,
}

func productModel(stock int64, purchases int) porcupine.Model {
	return porcupine.Model{
		Init: func() any { return clerk{stock, string(slices.Repeat([]byte{unknown}, purchases))} },
		Step: func(state, input, output any) (bool, any) {
			return state.(clerk).step(input.(asked), output.(answered))
		},
	}
}

// skew is how far the shards' clocks and that of the history may be apart. All of them are
// the clock of this machine, which is read at different moments.
const skew = 100 * time.Millisecond

const never = time.Duration(math.MaxInt64)

// linearizable asks whether some order of the operations, each at one moment between its
// call and its return, is one that the clerk could have served.
//
// What was never answered may have come at any time after its call if the rows tell that it
// happened, and is left out if not. The end of a hold is an operation of its own, within
// skew of the time that the row names.
func (p *account) linearizable(timeout time.Duration) (porcupine.CheckResult, string) {
	m := &modelled{account: p, numbers: map[string]int{}}
	for _, id := range p.order {
		m.numbers[id] = len(m.numbers)
	}
	for _, o := range p.ops {
		m.add(o)
	}
	for _, id := range p.order {
		m.strikes(p.purchases[id])
	}
	slices.SortStableFunc(m.history, func(a, b porcupine.Operation) int { return int(min(max(a.Call-b.Call, -1), 1)) })
	model := productModel(p.stock, len(m.numbers))
	result := porcupine.CheckOperationsTimeout(model, m.history, timeout)
	if result != porcupine.Illegal {
		return result, "not decided in time"
	}
	return result, m.obstacle(model, timeout)
}

// obstacle tells what stands behind the longest part of the history that the clerk could
// have served: the first of the rest to be answered, and what he had left then.
func (m *modelled) obstacle(model porcupine.Model, timeout time.Duration) string {
	_, info := porcupine.CheckOperationsVerbose(model, m.history, timeout)
	var longest []porcupine.Operation
	for _, partial := range info.PartialLinearizationsOperations()[0] {
		if len(partial) > len(longest) {
			longest = partial
		}
	}
	served := map[[2]int64]int{}
	state := model.Init()
	for _, o := range longest {
		_, state = model.Step(state, o.Input, o.Output)
		served[[2]int64{o.Call, o.Return}]++
	}
	var first *porcupine.Operation
	for i, o := range m.history {
		if served[[2]int64{o.Call, o.Return}]--; served[[2]int64{o.Call, o.Return}] >= 0 {
			continue
		}
		if first == nil || o.Return < first.Return {
			first = &m.history[i]
		}
	}
	if first == nil {
		return "no order of its operations explains the answers"
	}
	c, in := state.(clerk), first.Input.(asked)
	book := "no purchase"
	if in.purchase >= 0 {
		book = fmt.Sprintf("purchase %q", c.book[in.purchase])
	}
	return fmt.Sprintf("after %d operations, with %d units left and %s, nothing explains %+v %+v [%v, %v]",
		len(longest), c.left, book, in, first.Output, time.Duration(first.Call), time.Duration(first.Return))
}

// modelled is the history of a product as porcupine wants it.
type modelled struct {
	*account
	numbers map[string]int // of the purchases in the book
	history []porcupine.Operation
}

func (m *modelled) put(in asked, reason string, from, to time.Duration) {
	m.history = append(m.history, porcupine.Operation{
		Input: in, Output: answered{reason}, Call: int64(from), Return: int64(to),
	})
}

func (m *modelled) add(o Op) {
	to := o.Return
	if o.Answer == Unanswered {
		to = never
	}
	var (
		in       asked
		happened bool
	)
	switch {
	case o.Answer == Refused && o.Kind.creates() && o.Reason != holdfastv1.ReasonInsufficientStock:
		if m.byRequest[o.RequestID] == "" {
			return
		}
		o.Answer, o.Reason = Unanswered, "" // it happened all the same: that is judged elsewhere
		in, happened = m.creation(&o)
	case o.Answer == Refused && (!reasonable(&o) || pointless(&o)):
		return // judged without the others
	case o.Kind == Deliver:
		in, happened = asked{kind: Deliver, purchase: -1, amount: o.Amount, units: -o.Amount}, m.delivered[o.RequestID]
	case o.Kind.creates():
		in, happened = m.creation(&o)
	default:
		in, happened, to = m.change(&o, to)
	}
	if happened || o.Answer != Unanswered {
		m.put(in, o.Reason, o.Call, to)
	}
}

func (m *modelled) creation(o *Op) (in asked, happened bool) {
	in = asked{kind: o.Kind, purchase: -1, amount: o.Amount, units: o.Amount}
	id, stored := m.byRequest[o.RequestID]
	switch {
	case o.Answer == Admitted:
		in.purchase = m.number(o.PurchaseID)
	case o.Answer == Unanswered && stored:
		in.purchase = m.number(id)
	}
	return in, stored
}

func (m *modelled) change(o *Op, to time.Duration) (in asked, happened bool, until time.Duration) {
	of := m.purchases[o.PurchaseID]
	done, stored := of.changes[o.RequestID]
	in = asked{kind: o.Kind, purchase: m.number(o.PurchaseID), amount: of.amount(), units: o.Amount}
	switch {
	case o.Kind == Return && stored:
		in.units, in.last = -done.Units, done.State == ledger.Returned
	case o.Kind == Confirm && o.Amount == 0:
		in.units = in.amount
	case o.Kind == Extend && o.Answer == Admitted && stored:
		to = max(min(to, of.endedBefore(done)+skew), o.Call)
	}
	return in, stored, to
}

func (m *modelled) number(id string) int {
	n, ok := m.numbers[id]
	if !ok { // a purchase whose row is lost
		n = len(m.numbers)
		m.numbers[id] = n
	}
	return n
}

// strikes puts the end of a purchase's hold where it belongs: once, since an extension
// moves it. A hold whose admission was late may end later, but not before it.
func (m *modelled) strikes(of *life) {
	if of.create == nil || of.row == nil || of.row.Expires == 0 {
		return
	}
	for _, o := range of.ops {
		settled := (o.Kind == Confirm || o.Kind == Cancel) && o.Answer == Admitted
		if settled && o.Return < of.row.Expires-skew {
			return // and nothing happens
		}
	}
	last := of.create.Return
	if of.create.Answer == Unanswered {
		last = never
	}
	m.put(asked{kind: strike, purchase: m.number(of.row.PurchaseID), amount: of.row.Amount}, "",
		max(of.row.Expires-skew, of.create.Call), max(of.row.Expires+skew, last))
}
