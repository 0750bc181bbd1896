package worker

import "github.com/holdfast-io/holdfast/worker/ledger"

// customers is what the customers of a product have of it that limits them. Only the
// product's tenure gives anybody more, so what it has read once, after all shards were
// fenced, it knows from then on; only what was given back it has to read again before it
// refuses anybody.
type customers struct {
	max  int64
	byID map[string]*account
}

// account is what one customer has. It begins unknown.
type account struct {
	known    bool
	taken    int64 // units ever admitted, with those in flight
	released int64 // units given back, as far as is known
	inFlight int64 // units sent to a lane and not settled
	doubtful bool  // some of it may be stored in a shard that does not answer
}

// maxAccounts bounds how many customers a tenure remembers. Others are read again.
const maxAccounts = 10_000

func newCustomers(p *ledger.Product) *customers {
	if p.MaxPerCustomer == nil {
		return nil
	}
	return &customers{max: *p.MaxPerCustomer, byID: map[string]*account{}}
}

// of returns the account of whoever the sale is for; nil when nothing limits him.
func (c *customers) of(s *sale) *account {
	if c == nil || s.row.CustomerID == "" {
		return nil
	}
	a := c.byID[s.row.CustomerID]
	if a == nil {
		c.makeRoom()
		a = &account{}
		c.byID[s.row.CustomerID] = a
	}
	return a
}

// makeRoom forgets customers of whom nothing is under way, when there are too many.
func (c *customers) makeRoom() {
	if len(c.byID) < maxAccounts {
		return
	}
	for id, a := range c.byID {
		if a.known && a.inFlight == 0 && !a.doubtful {
			delete(c.byID, id)
		}
	}
}

// room is how many units a customer may have besides those he has, if all that is in
// flight is stored, and if none of it is.
func (c *customers) room(a *account) (now, possible int64) {
	now = c.max - a.taken + a.released
	return now, now + a.inFlight
}

// learn takes in what the shards say of a customer.
func (a *account) learn(read ledger.Customer) {
	if !a.known {
		a.known, a.taken = true, read.Taken
	}
	a.released = max(a.released, read.Released)
}

// withinLimit reports whether a sale may be placed as far as its customer's limit goes.
// When it may not, or that is not known yet, what follows is arranged for. Caller holds mu.
func (t *tenure) withinLimit(s *sale) bool {
	a := t.customers.of(s)
	if a == nil {
		return true
	}
	now, possible := t.customers.room(a)
	switch {
	case a.known && s.row.Amount <= now:
		return true
	case a.known && s.row.Amount <= possible:
		t.waiting = append(t.waiting, s)
	case a.doubtful:
		t.finish(s, nil, t.doubt)
	default:
		s.limited, s.room = a, shortage{possible: possible, released: a.released}
		t.unsettled++
		t.lanes.recount(s)
	}
	return false
}

// limitRead is told what every shard says of a sale's customer, read after the sale was
// found to go beyond the limit, or after its customer was first seen. Caller holds mu.
func (t *tenure) limitRead(s *sale, read ledger.Customer) {
	a, wasKnown := s.limited, s.limited.known
	a.learn(read)
	s.limited = nil
	now, possible := t.customers.room(a)
	if wasKnown {
		// As with what is left of the product: what was given back meanwhile counts, what
		// was taken meanwhile does not.
		possible = s.room.possible + a.released - s.room.released
	}
	if s.row.Amount > possible {
		t.finish(s, nil, &LimitError{Limit: maxPerCustomer, Max: t.customers.max, Has: t.customers.max - now})
		return
	}
	if t.ended {
		t.finish(s, nil, errTenureEnded)
		return
	}
	t.place(s)
}

// count counts units that are sent as the customer's, and uncount those that were not
// stored after all.
func (a *account) count(units int64) {
	if a != nil {
		a.taken += units
		a.inFlight += units
	}
}

func (a *account) uncount(units int64) {
	if a != nil {
		a.taken -= units
		a.inFlight -= units
	}
}

// stored is told that units which were in flight are stored; or, in doubt, may be.
func (a *account) stored(units int64, inDoubt bool) {
	if a != nil {
		a.inFlight -= units
		a.doubtful = a.doubtful || inDoubt
	}
}
