package worker

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math"
	"slices"
	"testing"

	"pgregory.net/rapid"

	"github.com/holdfast-io/holdfast/worker/ledger"
)

// Nobody thinks of all orders in which purchases, answers and failures can come.
// Whatever they are, no unit is sold twice and no caller is forgotten.
func TestAdmissionKeepsItsPromises(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		w := newWorld(t)
		t.Repeat(map[string]func(*rapid.T){
			"":          w.check,
			"buy":       w.buy,
			"buy more":  w.buy,
			"send":      w.send,
			"settle":    w.settle,
			"ask":       w.ask,
			"answer":    w.answer,
			"give back": w.giveBackSome,
			"take over": func(t *rapid.T) { w.onceIn(t, 10, func() { w.current = false }) },
			"stop":      func(t *rapid.T) { w.onceIn(t, 10, w.stop) },
		})
		w.finish(t)
	})
}

// world is a tenure, its shards as they really are, and who asked for what.
type world struct {
	*bench
	storage  int64                     // available at the beginning
	sold     int64                     // units that this tenure stored, known to it or not
	inserted int64                     // units that it was told are stored
	limit    int64                     // of each customer; 0 for none
	earlier  map[*ledger.Purchase]bool // stored before the tenure
	had      map[string]int64          // units that customers had before it
	current  bool
	rows     map[saleKey]*ledger.Purchase
	sent     map[*fakeShard][]*sale
	asked    map[*fakeShard][]check
	callers  []*caller
}

type caller struct {
	*bought
	least int64 // units that there really were, at the worst moment since he came
	room  int64 // that his limit really left him, at the worst moment
}

func newWorld(t *rapid.T) *world {
	w := &world{
		storage: rapid.Int64Range(1, 30).Draw(t, "storage"), current: true,
		rows: map[saleKey]*ledger.Purchase{}, earlier: map[*ledger.Purchase]bool{}, had: map[string]int64{},
		sent: map[*fakeShard][]*sale{}, asked: map[*fakeShard][]check{},
	}
	w.bench = newBench(w.storage)
	if w.limit = rapid.SampledFrom([]int64{0, 0, 3, 9}).Draw(t, "limit"); w.limit > 0 {
		w.customers = newCustomers(&ledger.Product{MaxPerCustomer: &w.limit})
	}
	for range rapid.IntRange(0, 3).Draw(t, "earlier") { // sold by tenures before
		p := drawPurchase(t)
		row := p.row(&w.fence)
		row.Released = rapid.Int64Range(0, row.Amount).Draw(t, "given back")
		w.rows[saleKey{p.Region, p.RequestID}] = &row
	}
	for _, row := range w.rows {
		w.earlier[row] = true
	}
	for _, customer := range customerNames {
		w.had[customer] = w.limit - w.roomOf(customer)
	}
	return w
}

var customerNames = []string{"ann", "bob", poisoner}

const poisoner = "mallory" // whose purchases the database refuses

func drawPurchase(t *rapid.T) Purchase {
	p := wish(rapid.SampledFrom([]string{"eu", "us"}).Draw(t, "region"),
		fmt.Sprint("r", rapid.IntRange(0, 20).Draw(t, "request")), rapid.Int64Range(1, 8).Draw(t, "amount"))
	p.CustomerID = rapid.SampledFrom([]string{"ann", "ann", "ann", "ann", "bob", poisoner}).Draw(t, "customer")
	return p
}

func (w *world) shard(t *rapid.T) *fakeShard {
	return rapid.SampledFrom([]*fakeShard{w.eu, w.us}).Draw(t, "shard")
}

// buy admits what a random caller wants.
func (w *world) buy(t *rapid.T) {
	p := drawPurchase(t)
	key := saleKey{p.Region, p.RequestID}
	known := w.pending.find(key)
	b, err := purchaseIn(w.tenure, p)
	switch {
	case w.ended != errors.Is(err, errTenureEnded):
		t.Fatalf("ended is %t, admit returned %v", w.ended, err)
	case errors.Is(err, errRequestIDReused):
		if known == nil || sameContent(&known.row, p) {
			t.Fatalf("%v is the first of its content", p)
		}
	case err == nil && known != nil && b.sale != known:
		t.Fatalf("%v did not join the one that is on its way", p)
	case err == nil:
		w.callers = append(w.callers, &caller{b, w.left(), w.roomOf(p.CustomerID)})
	}
}

// left is how many units there really are.
func (w *world) left() (units int64) {
	units = w.storage - w.sold
	for _, f := range []*fakeShard{w.eu, w.us} {
		units += w.releasedIn(f.name)
	}
	return units
}

// releasedIn is how many units of this tenure's others gave back in a shard.
func (w *world) releasedIn(region string) (units int64) {
	for key, row := range w.rows {
		if key.region == region && !w.earlier[row] {
			units += row.Released
		}
	}
	return units
}

// customerIn is what a shard has stored for a customer.
func (w *world) customerIn(region, customer string) (c ledger.Customer) {
	for key, row := range w.rows {
		if (region == "" || key.region == region) && row.CustomerID == customer {
			c.Taken += row.Amount
			c.Released += row.Released
		}
	}
	return c
}

// roomOf is how many units a customer may really have besides those he has.
func (w *world) roomOf(customer string) int64 {
	if w.limit == 0 {
		return math.MaxInt64
	}
	c := w.customerIn("", customer)
	return w.limit - c.Taken + c.Released
}

// giveBackSome is a customer who returns units, through some worker that tells nobody.
func (w *world) giveBackSome(t *rapid.T) {
	var sold []*ledger.Purchase
	for _, row := range w.rows {
		if !w.earlier[row] && row.Has() > 0 {
			sold = append(sold, row)
		}
	}
	if len(sold) > 0 {
		slices.SortFunc(sold, func(a, b *ledger.Purchase) int { return bytes.Compare(a.PurchaseID[:], b.PurchaseID[:]) })
		row := rapid.SampledFrom(sold).Draw(t, "purchase")
		row.Released += rapid.Int64Range(1, row.Has()).Draw(t, "units")
	}
}

// send gives a shard its next batch, if it is ready for one.
func (w *world) send(t *rapid.T) {
	if f := w.shard(t); len(w.sent[f]) == 0 {
		w.sent[f] = w.lanes.byShard[f.name].commits.take(1)
	}
}

// settle answers a batch, in one of the ways in which batches are answered.
func (w *world) settle(t *rapid.T) {
	f := w.shard(t)
	before := w.available
	how := rapid.SampledFrom([]string{"stored", "stored", "stored", "not sent", "request lost", "reply lost"}).Draw(t, "how")
	w.settleAs(t, f, how)
	if how == "request lost" || how == "reply lost" {
		if w.available != before {
			t.Fatalf("%d units given back though they may be sold", w.available-before)
		}
	}
}

func (w *world) settleAs(t *rapid.T, f *fakeShard, how string) {
	if len(w.sent[f]) == 0 {
		return
	}
	batch := w.sent[f]
	w.sent[f] = nil
	f.commit = func(rows []*ledger.Purchase) ([]ledger.Outcome, error) {
		switch how {
		case "not sent":
			return nil, errNotSent
		case "request lost":
			return nil, errUnknown
		}
		outcomes, err := w.store(f.name, rows)
		if how == "reply lost" {
			return nil, errUnknown
		}
		for i, o := range outcomes {
			if o == ledger.Inserted {
				w.inserted += rows[i].Amount
			}
		}
		return outcomes, err
	}
	w.lanes.byShard[f.name].commit(context.Background(), batch)
	for _, s := range batch {
		poisoned, b := s.row.CustomerID == poisoner, w.first(s)
		if how == "stored" && isClosed(b.done) && poisoned != errors.Is(b.err, errRefused) && w.current && !s.replayed {
			t.Fatalf("%v of %s: answered %v", s.row.RequestID, s.row.CustomerID, b.err)
		}
	}
}

// store is the database: all of a batch or nothing.
func (w *world) store(region string, rows []*ledger.Purchase) ([]ledger.Outcome, error) {
	if slices.ContainsFunc(rows, func(p *ledger.Purchase) bool { return p.CustomerID == poisoner }) {
		return nil, errRefused
	}
	outcomes := make([]ledger.Outcome, len(rows))
	for i, p := range rows {
		key := saleKey{region, p.RequestID}
		switch {
		case !w.current:
			outcomes[i] = ledger.Fenced
		case w.rows[key] != nil:
			outcomes[i] = ledger.Replayed
		default:
			outcomes[i] = ledger.Inserted
			w.rows[key] = p
			w.sold += p.Amount
		}
	}
	return outcomes, nil
}

// ask begins a read of a shard.
func (w *world) ask(t *rapid.T) { w.askIn(w.shard(t)) }

func (w *world) askIn(f *fakeShard) {
	if len(w.asked[f]) > 0 {
		return
	}
	w.asked[f] = w.lanes.byShard[f.name].checks.take(1)
	current, released := w.current, w.releasedIn(f.name)
	customers := make([]ledger.Customer, len(w.asked[f]))
	for i, c := range w.asked[f] {
		customers[i] = w.customerIn(f.name, c.asked.CustomerID)
	}
	f.verify = func(checks []ledger.Check) ([]ledger.Checked, error) {
		answers := make([]ledger.Checked, len(checks))
		for i, c := range checks {
			answers[i] = ledger.Checked{Current: current, Released: released, First: w.rows[saleKey{f.name, c.RequestID}]}
			answers[i].Customer = customers[i]
		}
		return answers, nil
	}
}

// answer ends the read.
func (w *world) answer(t *rapid.T) {
	f := w.shard(t)
	if len(w.asked[f]) == 0 {
		return
	}
	if rapid.IntRange(0, 9).Draw(t, "unread") == 0 {
		f.verify = func([]ledger.Check) ([]ledger.Checked, error) { return nil, errNotSent }
	}
	w.answerNow(f)
}

func (w *world) answerNow(f *fakeShard) {
	checks := w.asked[f]
	w.asked[f] = nil
	if len(checks) > 0 {
		w.lanes.byShard[f.name].verify(context.Background(), checks)
	}
}

func (w *world) onceIn(t *rapid.T, n int, do func()) {
	if rapid.IntRange(1, n).Draw(t, "chance") == 1 {
		do()
	}
}

// check holds the tenure against what must be true after every step.
func (w *world) check(t *rapid.T) {
	switch {
	case w.available < 0 || w.inFlight < 0:
		t.Fatalf("%d available, %d in flight", w.available, w.inFlight)
	case w.left() < 0:
		t.Fatalf("%d units sold of %d, and %d are left", w.sold, w.storage, w.left())
	case !w.ended && w.available+w.inFlight+w.inserted != w.storage+w.givenBack():
		t.Fatalf("%d available + %d in flight + %d inserted is not %d + %d given back",
			w.available, w.inFlight, w.inserted, w.storage, w.givenBack())
	case !w.ended && w.inFlight != w.unitsInLanes():
		t.Fatalf("%d units in flight, but %d in the lanes", w.inFlight, w.unitsInLanes())
	case w.ended && len(w.waiting) > 0:
		t.Fatal("the tenure has ended, and somebody waits for it")
	case w.hasSettled() != (w.ended && w.unsettled == 0):
		t.Fatalf("settled is %t, ended %t with %d unsettled", w.hasSettled(), w.ended, w.unsettled)
	}
	for _, customer := range customerNames {
		if c := w.customerIn("", customer); w.limit > 0 && c.Taken-c.Released > max(w.limit, w.had[customer]) {
			t.Fatalf("%s has %v, and the limit is %d", customer, c, w.limit)
		}
	}
	for _, s := range w.waiting {
		if w.limit == 0 && judge(s.row.Amount, w.available, w.inFlight) != mightFit {
			t.Fatalf("%d units wait, with %d available and %d in flight", s.row.Amount, w.available, w.inFlight)
		}
	}
	for _, c := range w.callers {
		c.least, c.room = min(c.least, w.left()), min(c.room, w.roomOf(c.CustomerID))
		w.checkAnswer(t, c)
	}
}

func (w *world) unitsInLanes() (units int64) {
	for _, f := range []*fakeShard{w.eu, w.us} {
		for _, s := range slices.Concat(w.sent[f], w.lanes.byShard[f.name].commits.items) {
			units += s.row.Amount
		}
	}
	return units
}

// checkAnswer compares an answer, if there is one, with what is in the shards.
func (w *world) checkAnswer(t *rapid.T, c *caller) {
	if !isClosed(c.done) {
		return
	}
	key := saleKey{c.Region, c.RequestID}
	row := w.rows[key]
	var stock *InsufficientStockError
	var limit *LimitError
	switch {
	case errors.As(c.err, &limit) && w.first(c.sale).room >= c.Amount:
		t.Fatalf("%v was refused by %+v, and had room for %d all the time", c.Purchase, limit, w.first(c.sale).room)
	case c.err == nil && (c.stored != row || !sameContent(row, c.Purchase)):
		t.Fatalf("%v was told %+v, and stored is %+v", c.Purchase, c.stored, row)
	case errors.Is(c.err, errRequestIDReused) && (row == nil || sameContent(row, c.Purchase)):
		t.Fatalf("%v was told that it is another, and stored is %+v", c.Purchase, row)
	case errors.As(c.err, &stock) && (stock.Available >= c.Amount || w.first(c.sale).least >= c.Amount):
		t.Fatalf("%v was refused with %d available, and there were %d all the time", c.Purchase, stock.Available, w.first(c.sale).least)
	case errors.Is(c.err, errTenureEnded) && !w.ended:
		t.Fatalf("%v was told that the tenure has ended", c.Purchase)
	}
}

// first is who came first, when later ones joined.
func (w *world) first(s *sale) *caller {
	i := slices.IndexFunc(w.callers, func(c *caller) bool { return c.sale == s })
	return w.callers[i]
}

// finish lets everything settle. Then nobody may be left without an answer.
func (w *world) finish(t *rapid.T) {
	for range 100 {
		for _, f := range []*fakeShard{w.eu, w.us} {
			if len(w.sent[f]) == 0 {
				w.sent[f] = w.lanes.byShard[f.name].commits.take(1)
			}
			w.settleAs(t, f, "stored")
			w.check(t)
		}
		w.askIn(w.eu)
		w.askIn(w.us)
		w.answerNow(w.eu)
		w.answerNow(w.us)
		w.check(t)
	}
	for _, c := range w.callers {
		if !isClosed(c.done) {
			t.Fatalf("%v is without an answer", c.Purchase)
		}
	}
	w.stop()
	w.check(t)
	if !w.hasSettled() || w.pending.len() > 0 {
		t.Fatalf("settled %t, %d pending", w.hasSettled(), w.pending.len())
	}
}
