package bench

import (
	"slices"
	"testing"
)

// A load that is spread evenly, or not at all, would flatter somebody.
func TestSpreadIsZipf(t *testing.T) {
	d, err := spread(measurement{"r", "m1"})
	if err != nil {
		t.Fatal(err)
	}
	const n = 200_000
	counts := map[string]int{}
	orders, dice := make([]Order, 1), newDice(3)
	for number := range int64(n) {
		d.fill(number, dice, orders)
		counts[orders[0].Product]++
	}
	// The share of the first is 1 / Σ k^-1.1 over 100,000 products: 13.4 %; that of
	// the second 2^-1.1 of it: 6.3 %.
	for id, share := range map[string]float64{"spread-0": 0.134, "spread-1": 0.0627} {
		if got := float64(counts[id]) / n; got < share*0.95 || got > share*1.05 {
			t.Errorf("share of %s %.4f, want %.4f", id, got, share)
		}
	}
	if len(counts) < 15_000 {
		t.Errorf("only %d products were bought", len(counts))
	}
}

func TestDiceAreTheSameInEveryRun(t *testing.T) {
	throw := func(buyer int) (throws []uint64) {
		dice := newDice(buyer)
		for range 20 {
			throws = append(throws, dice.zipf.Uint64())
		}
		return throws
	}
	if !slices.Equal(throw(1), throw(1)) {
		t.Error("one buyer bought other things the second time")
	}
	if slices.Equal(throw(1), throw(2)) {
		t.Error("two buyers bought the same")
	}
}

func TestRequestsAreUniqueOverMeasurements(t *testing.T) {
	seen := map[string]bool{}
	for _, name := range []string{"m1", "m11"} {
		for _, w := range Workloads {
			if w.idle || w.Name != "hot" && w.Name != "orders" && w.Name != "cart" {
				continue
			}
			d, err := w.demand(measurement{"r", w.Name + name})
			if err != nil {
				t.Fatal(err)
			}
			orders := make([]Order, 1)
			for number := range int64(2000) {
				d.fill(number, newDice(0), orders)
				if seen[orders[0].Request] {
					t.Fatalf("%s: request %s twice", w.Name, orders[0].Request)
				}
				seen[orders[0].Request] = true
			}
		}
	}
}

// The real orders ask for more than there is, or nothing would be refused.
func TestOrdersWantMoreThanThereIs(t *testing.T) {
	d, err := orders(measurement{"r", "m1"})
	if err != nil {
		t.Fatal(err)
	}
	stock, wanted := map[string]int64{}, int64(0)
	for _, p := range d.products {
		stock[p.id] = p.storage
	}
	order := make([]Order, 1)
	refused := 0
	for number := range d.orders {
		d.fill(number, nil, order)
		wanted += order[0].Amount
		if stock[order[0].Product] -= order[0].Amount; stock[order[0].Product] < 0 {
			stock[order[0].Product] += order[0].Amount
			refused++
		}
	}
	if len(stock) != 1992 || wanted != 90_387 || refused == 0 {
		t.Errorf("%d products, %d units wanted, %d orders refused", len(stock), wanted, refused)
	}
}

// Lines of one product would be one line, and an order is of one shard.
func TestCartsAreOfDifferentProducts(t *testing.T) {
	d, err := cart(measurement{"r", "m1"})
	if err != nil {
		t.Fatal(err)
	}
	bought, regions := map[string]int{}, map[int]int{}
	const lines = 10
	orders := make([]Order, lines)
	for first := int64(0); first < 2*cartProducts; first += lines {
		d.fill(first, nil, orders)
		inThis := map[string]bool{}
		for _, line := range orders {
			inThis[line.Product] = true
			bought[line.Product]++
		}
		if len(inThis) != lines {
			t.Fatalf("order of line %d: %d products, want %d", first, len(inThis), lines)
		}
		regions[orders[0].Region]++
	}
	if len(bought) != cartProducts || regions[0] != regions[1] {
		t.Errorf("%d products were bought, orders by shard %v", len(bought), regions)
	}
	for id, times := range bought {
		if times != 2 {
			t.Errorf("%s was bought %d times, others twice", id, times)
		}
	}
}

// A workload that is about holdfast alone has strategies of its own, and one that a caller
// has left without any is an error and not an empty table.
func TestStrategiesOfWorkloads(t *testing.T) {
	names := func(workload string, given ...string) []string {
		w, err := Choose([]string{workload})
		if err != nil {
			t.Fatal(err)
		}
		chosen, err := w[0].choose(given)
		if err != nil {
			return nil
		}
		var names []string
		for _, c := range chosen {
			names = append(names, c.name)
		}
		return names
	}
	for _, tt := range []struct{ got, want []string }{
		{names("hold-confirm"), []string{plainCall, "holdfast-hold-confirm"}},
		{names("cart", plainCall, ceiling, "holdfast-order-3"), []string{plainCall, "holdfast-order-3"}},
		{names("hot", plainCall, "holdfast-order-3"), []string{plainCall}},
		{names("slow-provider", ceiling), nil},
	} {
		if !slices.Equal(tt.got, tt.want) {
			t.Errorf("chosen %v, want %v", tt.got, tt.want)
		}
	}
	all := StrategyNames()
	if slices.Sort(all); len(slices.Compact(all)) != len(contenders)+6 {
		t.Errorf("strategies %v", all)
	}
}

func TestChoose(t *testing.T) {
	names := func(workloads []Workload) (names []string) {
		for _, w := range workloads {
			names = append(names, w.Name)
		}
		return names
	}
	for _, tt := range []struct {
		given, want []string
	}{
		{nil, []string{"hot", "spread-new", "orders"}},
		{[]string{"history"}, []string{"history-0", "history-100000", "history-1000000"}},
		{[]string{"regions-20ms", "hot"}, []string{"regions-20ms", "hot"}},
	} {
		got, err := Choose(tt.given)
		if err != nil || !slices.Equal(names(got), tt.want) {
			t.Errorf("%v: %v (%v), want %v", tt.given, names(got), err, tt.want)
		}
	}
	if _, err := Choose([]string{"nonsense"}); err == nil {
		t.Error("a workload that there is none of was chosen")
	}
	if err := CheckStrategies([]string{"nonsense"}); err == nil {
		t.Error("a strategy that there is none of was chosen")
	}
}
