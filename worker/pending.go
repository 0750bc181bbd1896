package worker

import "slices"

// saleKey is the scope of a request id within a product.
type saleKey struct{ region, requestID string }

// pending are the sales of a tenure that are on their way. Most products have one or two,
// for which a map would take longer to make than the sales to find.
type pending struct {
	few  []*sale
	many map[saleKey]*sale // nil as long as they are few
}

// fewSales is up to how many are looked through one by one.
const fewSales = 8

// find returns the sale with this key, or nil.
func (p *pending) find(key saleKey) *sale {
	if p.many != nil {
		return p.many[key]
	}
	for _, s := range p.few {
		if s.key() == key {
			return s
		}
	}
	return nil
}

// add takes in a sale whose key is new.
func (p *pending) add(s *sale) {
	if p.many == nil && len(p.few) < fewSales {
		p.few = append(p.few, s)
		return
	}
	if p.many == nil {
		p.many = make(map[saleKey]*sale, 2*fewSales)
		for _, each := range p.few {
			p.many[each.key()] = each
		}
		p.few = nil
	}
	p.many[s.key()] = s
}

// remove takes out a sale. When it was the last one, nothing is kept for the next.
func (p *pending) remove(s *sale) {
	if p.many != nil {
		delete(p.many, s.key())
	} else if i := slices.Index(p.few, s); i >= 0 {
		p.few = slices.Delete(p.few, i, i+1)
	}
	if p.len() == 0 {
		*p = pending{}
	}
}

func (p *pending) len() int { return len(p.few) + len(p.many) }
