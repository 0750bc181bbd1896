package chaos

import (
	"slices"

	"github.com/holdfast-io/holdfast/worker/ledger"
)

// account is the part of a history and of the rows that is about one product.
type account struct {
	product    string
	stock      int64
	ops        []Op
	order      []string         // purchases that are stored
	purchases  map[string]*life // those, and those that somebody was told of, by id
	byRequest  map[string]string
	deliveries []DeliveryRow
	delivered  map[string]bool // by request id
	twice      []string        // requests with more than one row
}

func newAccount(product string, stock int64) *account {
	return &account{
		product: product, stock: stock,
		purchases: map[string]*life{}, byRequest: map[string]string{}, delivered: map[string]bool{},
	}
}

func (p *account) of(purchaseID string) *life {
	l := p.purchases[purchaseID]
	if l == nil {
		l = &life{changes: map[string]ChangeRow{}}
		p.purchases[purchaseID] = l
	}
	return l
}

// sortRows puts each row where it belongs.
func (v *Verdict) sortRows(rows *Rows, parts map[string]*account) {
	v.sortChanges(rows, v.sortPurchases(rows, parts))
	for _, d := range rows.Deliveries {
		p := parts[d.Product]
		if p == nil {
			v.doubled("a delivery is of product %q, which nobody created", d.Product)
			continue
		}
		if p.delivered[d.RequestID] {
			p.twice = append(p.twice, d.RequestID)
		}
		p.delivered[d.RequestID] = true
		p.deliveries = append(p.deliveries, d)
	}
}

// sortPurchases returns the account of each purchase, by id.
func (v *Verdict) sortPurchases(rows *Rows, parts map[string]*account) map[string]*account {
	of := map[string]*account{}
	for _, r := range rows.Purchases {
		p := parts[r.Product]
		if p == nil {
			v.doubled("row %s is of product %q, which nobody created", r.PurchaseID, r.Product)
			continue
		}
		if _, twice := p.byRequest[r.RequestID]; twice {
			p.twice = append(p.twice, r.RequestID)
		}
		of[r.PurchaseID] = p
		p.byRequest[r.RequestID] = r.PurchaseID
		p.order = append(p.order, r.PurchaseID)
		p.of(r.PurchaseID).row = &r
	}
	return of
}

func (v *Verdict) sortChanges(rows *Rows, of map[string]*account) {
	for _, c := range rows.Changes {
		p := of[c.PurchaseID]
		if p == nil {
			v.doubled("%s of %s, which is not there", c.Action, c.PurchaseID)
			continue
		}
		l := p.of(c.PurchaseID)
		if _, twice := l.changes[c.RequestID]; twice {
			p.twice = append(p.twice, c.RequestID)
		}
		if c.Action == ledger.Expire {
			l.ends = append(l.ends, c)
			v.Expired++
			continue
		}
		l.changes[c.RequestID] = c
		if c.Action == ledger.Confirm && c.Units > 0 {
			v.ConfirmedLate++
		}
	}
}

func (p *account) addOp(o Op) {
	p.ops = append(p.ops, o)
	switch {
	case o.Kind == Deliver:
	case !o.Kind.creates():
		l := p.of(o.PurchaseID)
		l.ops = append(l.ops, o)
	case o.Answer == Admitted:
		p.of(o.PurchaseID).create = &o
	case p.byRequest[o.RequestID] != "":
		p.of(p.byRequest[o.RequestID]).create = &o
	}
}

// find tells whether there is a row of an operation, and whether it is what was asked for.
func (p *account) find(o *Op) (stored, right bool) {
	switch {
	case o.Kind == Deliver:
		return p.delivered[o.RequestID], slices.Contains(p.deliveries, DeliveryRow{o.PurchaseID, o.Product, o.RequestID, o.Amount})
	case o.Kind.creates():
		_, stored = p.byRequest[o.RequestID]
		r := p.of(o.PurchaseID).row
		return stored, r != nil && r.RequestID == o.RequestID && r.Amount == o.Amount && (r.Expires != 0) == (o.Kind == Hold)
	}
	c, stored := p.of(o.PurchaseID).changes[o.RequestID]
	return stored, stored && c.Action == actions[o.Kind] && (c.Amount == o.Amount || o.Kind == Extend)
}

// least is how many units were left at least while somebody was refused.
func (p *account) least(refused *Op, calls map[string]Op) int64 {
	left := p.stock
	for _, d := range p.deliveries {
		o := calls[d.RequestID]
		if d.Amount < 0 && o.Call <= refused.Return || d.Amount > 0 && o.Answer == Admitted && o.Return < refused.Call {
			left += d.Amount
		}
	}
	for _, id := range p.order {
		if refused.Kind != Confirm || id != refused.PurchaseID {
			left -= p.purchases[id].most(refused)
		}
	}
	return left
}
