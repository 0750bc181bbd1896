package bench

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/holdfast-io/holdfast/deploy/replay"
)

// Workload is what is bought.
type Workload struct {
	Name  string // that of its family, and what tells it from the others of that
	About string
	Long  bool // takes minutes, and is run only when named

	demand     func(m measurement) (*demand, error)
	history    int            // earlier purchases of its product
	latency    *time.Duration // of a round trip to any shard; nil: nothing between
	cold       bool           // has no warm-up: first purchases are what it is about
	held       bool           // all its products are held by workers before it is measured
	idle       bool           // measures memory, not speed
	smoke      bool           // is part of a test of the bench
	workerArgs []string

	contenders []contender   // those of most workloads when nil
	warmUp     time.Duration // the least that it needs
	provider   bool          // workers have a provider of payments, which takes its time
	// promise judges the figures, and says how. Nil when it promises no speed.
	promise func([]Figures) (said string, err error)
}

// measurement names one measurement and the run that it is of, both unlike all
// others that the same servers have seen.
type measurement struct{ run, name string }

// plenty is a storage that no measurement exhausts.
const plenty = 1 << 50

// Workloads are all there are, in the order in which they are run.
var Workloads = []Workload{
	{Name: "hot", About: "one product", demand: hot},
	{Name: "history-0", About: "one product that nobody has bought", demand: hot, Long: true},
	{Name: "scarce", About: "one product of 100 units, of which more are wanted", demand: scarce, Long: true, smoke: true},
	history(100_000),
	history(1_000_000),
	{
		Name: "spread-held", About: "100,000 products, Zipf with exponent 1.1, all of them held by workers", demand: spread,
		held: true, Long: true, workerArgs: idleForLong,
	},
	{Name: "spread-new", About: "100,000 products, Zipf with exponent 1.1, most of them sold for the first time", demand: spread},
	{Name: "orders", About: "the orders of a real shop, each product sold for the first time", demand: orders, cold: true},
	regions(0),
	regions(20 * time.Millisecond),
	regions(80 * time.Millisecond),
	{
		Name: "hold-confirm", About: "one product, each purchase held and then confirmed", demand: hot,
		contenders: holders, Long: true, smoke: true,
	},
	{
		Name: "cart", About: "orders of 1, 3 and 10 lines, of 1,000 products that workers hold", demand: cart,
		contenders: carters, held: true, Long: true, smoke: true, workerArgs: idleForLong,
	},
	{
		Name: "slow-provider", About: "one product, alone and beside 16, and 64, buyers whose payments take 2 s each", demand: hot,
		contenders: besides, provider: true, warmUp: payersWarmUp, promise: slowProviderPromise, Long: true, smoke: true,
	},
	{
		Name: "idle", About: "memory of products that are held and not bought", idle: true, Long: true, smoke: true,
		workerArgs: idleForLong,
	},
}

// idleForLong is longer than the last product takes to be sold after the first.
var idleForLong = []string{"--idle-tenure", "1h"}

func history(purchases int) Workload {
	return Workload{
		Name: fmt.Sprintf("history-%d", purchases), About: fmt.Sprintf("one product, bought %d times before", purchases),
		demand: remembered, history: purchases, Long: true,
	}
}

func regions(latency time.Duration) Workload {
	return Workload{
		smoke: latency == 20*time.Millisecond,
		Name:  fmt.Sprintf("regions-%dms", latency.Milliseconds()), demand: twoRegions, latency: &latency, Long: true,
		About: fmt.Sprintf("one product, purchases in two shards, each %v away", latency),
	}
}

// Choose returns the workloads of these names, where a family stands for all its
// members; those that are not long for no names.
func Choose(names []string) ([]Workload, error) {
	if len(names) == 0 {
		return slices.DeleteFunc(slices.Clone(Workloads), func(w Workload) bool { return w.Long }), nil
	}
	var chosen []Workload
	for _, name := range names {
		found := false
		for _, w := range Workloads {
			family, _, _ := strings.Cut(w.Name, "-")
			if w.Name == name || family == name {
				chosen, found = append(chosen, w), true
			}
		}
		if !found {
			return nil, fmt.Errorf("workload %q: want one of %v", name, workloadNames())
		}
	}
	return chosen, nil
}

func workloadNames() []string {
	var names []string
	for _, w := range Workloads {
		names = append(names, w.Name)
	}
	return names
}

// demand is what the buyers of one measurement want.
type demand struct {
	products []product
	ids      string // put before request ids: no two measurements share one
	orders   int64  // there are no more; 0: as many as can be bought
	// order fills in what the order of a number wants. The numbers of a
	// measurement count up from 0, over all buyers.
	order func(number int64, dice *dice, o *Order)
}

// dice are one buyer's own.
type dice struct {
	zipf *rand.Zipf
}

// customers are the ids of those who buy, made once and not in every command.
var customers = sync.OnceValue(func() []string {
	ids := make([]string, 10_000)
	for i := range ids {
		ids[i] = "customer-" + strconv.Itoa(i)
	}
	return ids
})

// fill makes the orders of the numbers from first on. Each costs one string.
func (d *demand) fill(first int64, dice *dice, orders []Order) {
	customers := customers()
	for i := range orders {
		number := first + int64(i)
		o := &orders[i]
		o.Request = d.ids + strconv.FormatInt(number, 36)
		o.Customer = customers[number%int64(len(customers))]
		o.Amount, o.Region = 1, 0
		d.order(number, dice, o)
	}
}

func one(id, ids string) *demand {
	return &demand{
		products: []product{{id, plenty}}, ids: ids,
		order: func(_ int64, _ *dice, o *Order) { o.Product = id },
	}
}

// hot sells a product that nobody has bought, in each measurement another one.
func hot(m measurement) (*demand, error) { return one("hot-"+m.name, m.name+"-"), nil }

// scarce sells a product that is sold out soon: whoever checks too loosely
// oversells it.
func scarce(m measurement) (*demand, error) {
	d, err := twoRegions(m)
	d.products[0].storage = 100
	return d, err
}

// remembered sells the same product in all measurements of a run, as its history
// is long to write.
func remembered(m measurement) (*demand, error) {
	return one(rememberedProduct(m.run), m.name+"-"), nil
}

// rememberedProduct is the one that has a history.
func rememberedProduct(run string) string { return "remembered-" + run }

// twoRegions sells one product to customers of the first two shards.
func twoRegions(m measurement) (*demand, error) {
	d, err := hot(m)
	sell := d.order
	d.order = func(number int64, dice *dice, o *Order) {
		sell(number, dice, o)
		o.Region = int(number % 2)
	}
	return d, err
}

const (
	spreadProducts = 100_000
	zipfExponent   = 1.1
)

// spreadIDs are the same in all measurements: who holds them goes on doing so.
var spreadIDs = sync.OnceValue(func() []product {
	products := make([]product, spreadProducts)
	for i := range products {
		products[i] = product{"spread-" + strconv.Itoa(i), plenty}
	}
	return products
})

func spread(m measurement) (*demand, error) {
	products := spreadIDs()
	return &demand{
		products: products, ids: m.name + "-",
		order: func(_ int64, dice *dice, o *Order) { o.Product = products[dice.zipf.Uint64()].id },
	}, nil
}

const (
	cartProducts = 1000
	// cartStep has no factor in common with cartProducts: of so many lines that follow
	// each other none is of another's product, and all products are wanted alike.
	cartStep = 389
	// cartsApart is how many lines go to one shard before the next ones go to another.
	cartsApart = 10
)

// cart numbers lines: those of an order follow each other. The products are the same in
// all measurements.
func cart(m measurement) (*demand, error) {
	d := &demand{ids: m.name + "-"}
	for i := range cartProducts {
		d.products = append(d.products, product{"cart-" + strconv.Itoa(i), plenty})
	}
	d.order = func(number int64, _ *dice, o *Order) {
		o.Product, o.Region = d.products[number*cartStep%cartProducts].id, int(number/cartsApart%2)
	}
	return d, nil
}

// newDice are those of one buyer; the same buyer throws the same in every run.
func newDice(buyer int) *dice {
	source := rand.New(rand.NewPCG(1, uint64(buyer)))
	return &dice{zipf: rand.NewZipf(source, zipfExponent, 1, spreadProducts-1)}
}

// orders sells four fifths of what was ordered, in the order of the file, so that
// the last units are fought over.
func orders(m measurement) (*demand, error) {
	real, err := replay.RealOrders()
	if err != nil {
		return nil, err
	}
	ids := m.name + "-"
	d := &demand{ids: ids, orders: int64(len(real.Lines))}
	for id, units := range real.Demand() {
		d.products = append(d.products, product{ids + id, max(1, units*4/5)})
	}
	lines := real.Lines
	for i := range lines {
		lines[i].ProductID = ids + lines[i].ProductID
	}
	d.order = func(number int64, _ *dice, o *Order) {
		line := &lines[number]
		o.Product, o.Customer, o.Amount = line.ProductID, line.CustomerID, line.Amount
		if line.Country != "United Kingdom" {
			o.Region = 1
		}
	}
	return d, nil
}
