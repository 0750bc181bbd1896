package ledger

import (
	"fmt"
	"time"

	"github.com/google/uuid"
)

// State is where a purchase is in its life.
type State string

// The states of a purchase. In the first two it counts against the product's stock, with
// what the customer has of it.
const (
	Held      State = "held"      // kept for a customer who has yet to confirm, until its expire time
	Confirmed State = "confirmed" // sold
	Cancelled State = "cancelled" // a hold that was given back
	Expired   State = "expired"   // a hold whose time was up
	Returned  State = "returned"  // sold, and all of it given back since
)

// Action is what is done to a purchase.
type Action string

// The actions.
const (
	Extend  Action = "extend"  // moves the end of a hold
	Confirm Action = "confirm" // sells what was held, or a part of it; the rest is given back
	Cancel  Action = "cancel"  // gives a hold back
	Expire  Action = "expire"  // gives a hold back whose time is up; nobody asks for it
	Return  Action = "return"  // gives back what was sold, or a part of it
)

// life is the life of a purchase: the state that each action leads to, from each state in
// which it is possible. A purchase begins held, or confirmed at once.
//
//	             ┌─ extend ─┐
//	             │          │
//	           ┌─▼──────────┴─┐    confirm     ┌─────────────┐   return all   ┌────────────┐
//	hold ─────►│     held     ├───────────────►│  confirmed  ├───────────────►│  returned  │
//	           └─┬──────────┬─┘                └─▲─────▲───┬─┘                └────────────┘
//	      cancel │          │ expire     buy ────┘     │   └─ return a part (stays)
//	   ┌─────────▼───┐  ┌───▼───────┐                  │
//	   │  cancelled  │  │  expired  ├──────────────────┘
//	   └─────────────┘  └───────────┘  confirm, if the units are still there
var life = map[Action]map[State]State{
	Extend:  {Held: Held},
	Confirm: {Held: Confirmed, Expired: Confirmed},
	Cancel:  {Held: Cancelled},
	Expire:  {Held: Expired},
	Return:  {Confirmed: Returned}, // or Confirmed, while the customer keeps something
}

// StateError refuses an action that is not possible in the purchase's state.
type StateError struct {
	Action Action
	State  State
}

func (e *StateError) Error() string {
	return fmt.Sprintf("cannot %s a purchase that is %s", e.Action, e.State)
}

// AmountError refuses an action on more units than the customer has of the purchase, or on
// less than none.
type AmountError struct {
	Action Action
	Has    int64
}

func (e *AmountError) Error() string {
	return fmt.Sprintf("cannot %s more than the %d units there are", e.Action, e.Has)
}

// HoldError refuses a hold that would last longer than any may.
type HoldError struct{ Latest time.Time }

func (e *HoldError) Error() string {
	return fmt.Sprintf("the hold may last until %s at most", e.Latest.UTC().Format(time.RFC3339Nano))
}

// firstState is the state in which a purchase is stored.
func (p *Purchase) firstState() State {
	if p.ExpireTime != nil {
		return Held
	}
	return Confirmed
}

// Has is how many units the customer has of the purchase.
func (p *Purchase) Has() int64 { return p.Amount + p.Readmitted - p.Released }

// apply does to the purchase what is asked for, at the shard's time, or says why not and
// leaves it as it is. A confirmation of an expired purchase is not for it to do: that
// takes units anew, and is ErrToReadmit.
func (p *Purchase) apply(c *Change, now time.Time) error {
	to, possible := life[c.Action][p.State]
	if !possible {
		return &StateError{c.Action, p.State}
	}
	switch {
	case (c.Action == Confirm || c.Action == Cancel) && !sameID(c.OrderID, p.OrderID):
		return ErrOfOrder
	case p.State == Expired && p.OrderID != nil:
		return &StateError{c.Action, Expired} // the order's other lines, and its payment, were let go as well
	case p.State == Expired:
		return ErrToReadmit
	}
	switch c.Action {
	case Extend:
		if !p.ExpireTime.After(now) {
			return &StateError{c.Action, Expired} // as it is about to be
		}
		if c.ExpireTime.Before(p.CreateTime) { // and so was over when it was asked for
			return ErrPastHold
		}
		if latest := p.CreateTime.Add(c.MaxHold); c.ExpireTime.After(latest) {
			return &HoldError{latest}
		}
		p.ExpireTime = asKept(&c.ExpireTime)
	case Confirm:
		confirmed := c.units(p.Amount)
		if confirmed < 0 || confirmed > p.Amount {
			return &AmountError{c.Action, p.Amount}
		}
		p.Released = p.Amount - confirmed
	case Return:
		back := c.units(p.Has())
		if back < 0 || back > p.Has() {
			return &AmountError{c.Action, p.Has()}
		}
		if p.Released += back; p.Has() > 0 {
			to = p.State
		}
	case Expire:
		if p.ExpireTime.After(now) {
			return &StateError{c.Action, p.State}
		}
		p.Released = p.Amount
	case Cancel:
		p.Released = p.Amount
	}
	p.State = to
	return nil
}

func sameID(a, b *uuid.UUID) bool { return a == b || a != nil && b != nil && *a == *b }

// units is how many the change is about, of so many at most that there are.
func (c *Change) units(all int64) int64 {
	if c.Amount == 0 {
		return all
	}
	return c.Amount
}
