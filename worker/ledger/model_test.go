package ledger_test

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"testing"
	"time"

	"github.com/google/uuid"
	"pgregory.net/rapid"

	"github.com/holdfast-io/holdfast/worker/ledger"
)

// lifeModel is what the shard should know of one product: the life of its purchases told
// once more, as simply as can be.
type lifeModel struct {
	d       *database
	product string
	tenures []ledger.Fence // the last one holds the fence

	purchases           []*modelPurchase
	asked               map[string]ledger.Change // by purchase and request id, what has happened
	purchased, released int64
	deliveries          map[string]int64
	requests            int
}

type modelPurchase struct {
	id                           uuid.UUID
	request                      string
	state                        ledger.State
	amount, released, readmitted int64
	due                          bool
}

func (p *modelPurchase) has() int64 { return p.amount + p.readmitted - p.released }

func (m *lifeModel) nextRequest() string { m.requests++; return fmt.Sprint("r", m.requests) }

func (m *lifeModel) current() ledger.Fence { return m.tenures[len(m.tenures)-1] }

// anyTenure is the current one mostly.
func (m *lifeModel) anyTenure(t *rapid.T) (f ledger.Fence, stale bool) {
	if i := rapid.IntRange(0, 4*len(m.tenures)).Draw(t, "tenure"); i < len(m.tenures)-1 {
		return m.tenures[i], true
	}
	return m.current(), false
}

func (m *lifeModel) anyPurchase(t *rapid.T) *modelPurchase {
	if len(m.purchases) == 0 {
		t.Skip("no purchase yet")
	}
	return rapid.SampledFrom(m.purchases).Draw(t, "purchase")
}

func (m *lifeModel) begin(t *rapid.T) {
	f := ledger.Fence{ProductID: m.product, Topology: 1, Token: int64(len(m.tenures) + 1), TenureID: uuid.New()}
	raised, err := m.d.Raise(t.Context(), f)
	if err != nil || raised.Purchased != m.purchased || raised.Released != m.released {
		t.Fatalf("raised %+v (%v), want %d and %d", raised, err, m.purchased, m.released)
	}
	m.tenures = append(m.tenures, f)
}

// buy commits a batch: sales, holds whose time is up or not, and repetitions.
func (m *lifeModel) buy(t *rapid.T) {
	f, stale := m.anyTenure(t)
	var rows []*ledger.Purchase
	var added []*modelPurchase
	for range rapid.IntRange(1, 4).Draw(t, "rows") {
		kind := rapid.SampledFrom([]string{"sale", "hold", "due", "repeated"}).Draw(t, "kind")
		if kind == "repeated" && len(m.purchases) > 0 {
			rows, added = append(rows, purchaseOf(f, m.anyPurchase(t).request, 1)), append(added, nil)
			continue
		}
		p := purchaseOf(f, m.nextRequest(), rapid.Int64Range(1, 9).Draw(t, "amount"))
		mp := &modelPurchase{p.PurchaseID, p.RequestID, ledger.Confirmed, p.Amount, 0, 0, kind == "due"}
		if kind == "hold" || kind == "due" {
			end := time.Now().Add(map[bool]time.Duration{true: -time.Second, false: time.Hour}[mp.due])
			p.ExpireTime, mp.state = &end, ledger.Held
		}
		rows, added = append(rows, p), append(added, mp)
	}
	outcomes, err := m.d.Commit(t.Context(), rows)
	if err != nil {
		t.Fatal(err)
	}
	for i, mp := range added {
		want := ledger.Inserted
		switch {
		case stale:
			want = ledger.Fenced
		case mp == nil:
			want = ledger.Replayed
		default:
			m.purchases = append(m.purchases, mp)
			m.purchased += mp.amount
		}
		if outcomes[i] != want {
			t.Fatalf("purchase %d: outcome %v, want %v", i, outcomes[i], want)
		}
	}
}

// change sends sets of changes, some of them with request ids that were used before.
func (m *lifeModel) change(t *rapid.T) {
	m.anyPurchase(t)
	var sets [][]ledger.Change
	for range rapid.IntRange(1, 3).Draw(t, "sets") {
		var set []ledger.Change
		for range rapid.IntRange(1, 3).Draw(t, "changes") {
			p := m.anyPurchase(t)
			if slices.ContainsFunc(set, func(c ledger.Change) bool { return c.PurchaseID == p.id }) {
				continue
			}
			c := ledger.Change{
				PurchaseID: p.id, Action: rapid.SampledFrom(actions).Draw(t, "action"), RequestID: m.nextRequest(),
				ExpireTime: time.Now().Add(time.Hour), MaxHold: maxHold,
			}
			if c.Action == ledger.Confirm || c.Action == ledger.Return {
				c.Amount = rapid.Int64Range(0, 9).Draw(t, "amount")
			}
			if earlier, ok := m.earlier(t, p.id); ok {
				c = earlier
			}
			set = append(set, c)
		}
		sets = append(sets, set)
	}
	answers, err := m.d.Change(t.Context(), sets)
	if err != nil {
		t.Fatal(err)
	}
	for i, set := range sets {
		m.expect(t, set, answers[i])
	}
}

// earlier is a change that has happened to the purchase, as it was or with another amount.
func (m *lifeModel) earlier(t *rapid.T, id uuid.UUID) (ledger.Change, bool) {
	for _, key := range slices.Sorted(maps.Keys(m.asked)) {
		if c := m.asked[key]; c.PurchaseID == id && rapid.IntRange(0, 5).Draw(t, "repeat") == 0 {
			c.Amount += rapid.Int64Range(0, 1).Draw(t, "more")
			return c, true
		}
	}
	return ledger.Change{}, false
}

// expect makes the changes of a set in the model, all or none, and compares the answers.
func (m *lifeModel) expect(t *rapid.T, set []ledger.Change, answers []ledger.Changed) {
	after := make([]modelPurchase, len(set))
	wants := make([]string, len(set))
	failed := false
	for i, c := range set {
		p := m.find(c.PurchaseID)
		after[i] = *p
		first, repeated := m.asked[c.PurchaseID.String()+c.RequestID]
		switch {
		case repeated && (first.Action != c.Action || first.Amount != c.Amount):
			wants[i] = "reused"
		case !repeated:
			wants[i] = after[i].apply(c)
		}
		failed = failed || wants[i] != ""
	}
	for i, c := range set {
		p := m.find(c.PurchaseID)
		if _, repeated := m.asked[c.PurchaseID.String()+c.RequestID]; !failed && !repeated {
			m.released += after[i].released - p.released
			*p = after[i]
			m.asked[c.PurchaseID.String()+c.RequestID] = c
		}
		got := answers[i]
		if kindOf(got.Err) != wants[i] {
			t.Fatalf("%+v of %+v: %v, want %q", c, p, got.Err, wants[i])
		}
		if got.Err == nil && (got.Purchase.State != p.state || got.Purchase.Has() != p.has()) {
			t.Fatalf("%+v: %+v, want %+v", c, got.Purchase, p)
		}
	}
}

func (m *lifeModel) find(id uuid.UUID) *modelPurchase {
	return m.purchases[slices.IndexFunc(m.purchases, func(p *modelPurchase) bool { return p.id == id })]
}

func kindOf(err error) string {
	var state *ledger.StateError
	var amount *ledger.AmountError
	switch {
	case err == nil:
		return ""
	case errors.As(err, &state):
		return "state"
	case errors.As(err, &amount):
		return "amount"
	case errors.Is(err, ledger.ErrToReadmit):
		return "readmit"
	case errors.Is(err, ledger.ErrRequestIDReused):
		return "reused"
	}
	return err.Error()
}

func (p *modelPurchase) apply(c ledger.Change) string {
	switch {
	case c.Action == ledger.Confirm && p.state == ledger.Expired:
		return "readmit"
	case c.Action == ledger.Return && p.state == ledger.Confirmed:
		if c.Amount > p.has() {
			return "amount"
		}
		if c.Amount == 0 || c.Amount == p.has() {
			c.Amount, p.state = p.has(), ledger.Returned
		}
		p.released += c.Amount
	case p.state != ledger.Held || c.Action == ledger.Return:
		return "state"
	case c.Action == ledger.Confirm && c.Amount > p.amount:
		return "amount"
	case c.Action == ledger.Confirm:
		p.state = ledger.Confirmed
		if c.Amount > 0 {
			p.released = p.amount - c.Amount
		}
	case c.Action == ledger.Cancel:
		p.state, p.released = ledger.Cancelled, p.amount
	case p.due == (c.Action == ledger.Extend):
		return "state" // too late to extend, too early to expire
	case c.Action == ledger.Expire:
		p.state, p.released = ledger.Expired, p.amount
	}
	return ""
}

func (m *lifeModel) expire(t *rapid.T) {
	for _, p := range m.purchases {
		if p.state == ledger.Held && p.due {
			p.state, p.released = ledger.Expired, p.amount
			m.released += p.amount
		}
	}
	if rapid.Bool().Draw(t, "by somebody who buys") {
		checked, err := m.d.Verify(t.Context(), []ledger.Check{{ProductID: m.product, TenureID: m.current().TenureID}})
		if err != nil || !checked[0].Current || checked[0].Released != m.released {
			t.Fatalf("verified %+v (%v), want %d released", checked, err, m.released)
		}
		return
	}
	if _, err := m.d.ExpireDue(t.Context()); err != nil {
		t.Fatal(err)
	}
}

func (m *lifeModel) readmit(t *rapid.T) {
	p := m.anyPurchase(t)
	f, stale := m.anyTenure(t)
	r := ledger.Readmission{Fence: f, PurchaseID: p.id, RequestID: m.nextRequest(), Amount: p.amount}
	if rapid.Bool().Draw(t, "a part") {
		r.Asked = rapid.Int64Range(1, p.amount).Draw(t, "units")
		r.Amount = r.Asked
	}
	got, err := m.d.Readmit(t.Context(), r)
	want := ledger.Replayed
	switch {
	case stale:
		want = ledger.Fenced
	case p.state == ledger.Expired:
		want, p.state, p.readmitted = ledger.Inserted, ledger.Confirmed, r.Amount
		m.purchased += r.Amount
		m.asked[p.id.String()+r.RequestID] = ledger.Change{
			PurchaseID: p.id, Action: ledger.Confirm, RequestID: r.RequestID, Amount: r.Asked,
		}
	}
	if err != nil || got != want {
		t.Fatalf("readmitted: %v (%v), want %v", got, err, want)
	}
}

func (m *lifeModel) deliver(t *rapid.T) {
	d := ledger.Delivery{
		DeliveryID: uuid.New(), ProductID: m.product, RequestID: fmt.Sprint(rapid.IntRange(0, 20).Draw(t, "request")),
		Amount: rapid.Int64Range(1, 50).Draw(t, "amount"),
	}
	first, repeated := m.deliveries[d.RequestID]
	if rapid.Bool().Draw(t, "added") {
		if !repeated {
			first = d.Amount
			m.released += first
			m.deliveries[d.RequestID] = first
		}
		if got, err := m.d.Deliver(t.Context(), d); err != nil || got.Amount != first {
			t.Fatalf("delivered %+v (%v), want %d", got, err, first)
		}
		return
	}
	d.Amount = -d.Amount
	f, stale := m.anyTenure(t)
	want := ledger.Replayed
	switch {
	case stale:
		want = ledger.Fenced
	case !repeated:
		want = ledger.Inserted
		m.purchased -= d.Amount
		m.deliveries[d.RequestID] = d.Amount
	}
	if got, err := m.d.TakeAway(t.Context(), f, &d); err != nil || got != want {
		t.Fatalf("taken away: %v (%v), want %v", got, err, want)
	}
}

// check holds the shard against the model, and its sums against its rows.
func (m *lifeModel) check(t *rapid.T) {
	if got := m.d.totals(t, m.product); got.purchased != m.purchased || got.released != m.released {
		t.Fatalf("totals %+v, want %d and %d", got, m.purchased, m.released)
	}
	rows, err := m.d.Purchases(t.Context(), ledger.Filter{ProductID: m.product}, uuid.Nil, 10000)
	if err != nil || len(rows) != len(m.purchases) {
		t.Fatalf("%d purchases (%v), want %d", len(rows), err, len(m.purchases))
	}
	var taken, back, delivered, missing int64
	for _, row := range rows {
		p := m.find(row.PurchaseID)
		if got := (modelPurchase{row.PurchaseID, row.RequestID, row.State, row.Amount, row.Released, row.Readmitted, p.due}); got != *p {
			t.Fatalf("stored %+v, want %+v", got, *p)
		}
		taken, back = taken+row.Amount+row.Readmitted, back+row.Released
	}
	for _, amount := range m.deliveries {
		delivered, missing = delivered+max(amount, 0), missing-min(amount, 0)
	}
	if taken+missing != m.purchased || back+delivered != m.released {
		t.Fatalf("the rows sum to %d and %d, the model to %d and %d", taken+missing, back+delivered, m.purchased, m.released)
	}
}

// Whatever happens to purchases, in whatever order, and whoever is fenced meanwhile: every
// unit is counted once.
func TestAnyLifeIsCounted(t *testing.T) {
	d := newDatabase(t)
	runs := 0
	rapid.Check(t, func(t *rapid.T) {
		runs++
		m := &lifeModel{d: d, product: fmt.Sprint("p", runs), asked: map[string]ledger.Change{}, deliveries: map[string]int64{}}
		m.begin(t)
		f := m.current()
		if err := d.PutProduct(t.Context(), f, ledger.Product{ProductID: m.product, AmountInStorage: 1, CreateTime: time.Now()}); err != nil {
			t.Fatal(err)
		}
		t.Repeat(map[string]func(*rapid.T){
			"":        m.check,
			"begin":   m.begin,
			"buy":     m.buy,
			"buy 2":   m.buy,
			"change":  m.change,
			"change2": m.change,
			"expire":  m.expire,
			"readmit": m.readmit,
			"deliver": m.deliver,
		})
	})
	d.checkSums(t)
}
