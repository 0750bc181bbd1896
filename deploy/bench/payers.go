package bench

import (
	"context"
	"errors"
	"fmt"
	"net"
	"sync"
	"sync/atomic"
	"time"

	holdfastv1 "github.com/holdfast-io/holdfast/api/holdfast/v1"
	"github.com/holdfast-io/holdfast/worker/payment/simulated"
)

// How many buyers pay at once. That some do at any time is what the promise needs, and more
// than a worker has connections to a shard: if anybody waited for the provider with them,
// next to nothing would be sold. Many tell what paid orders cost by the work that they are,
// of which nothing is promised.
const (
	somePayers = 16
	manyPayers = 64
)

const (
	// providerDelay is what the provider takes to authorize a payment, and that of a
	// test of the bench.
	providerDelay      = 2 * time.Second
	quickProviderDelay = 100 * time.Millisecond

	// payersWarmUp is until the payments that end each second are as many as later.
	payersWarmUp = providerDelay + 500*time.Millisecond
)

// The promise of the workload slow-provider: what the rate of those who pay nothing must
// be at least, of their rate alone; and which part of the load the payers must have been
// for that to mean anything, of what as many could do at a provider that alone takes time.
const (
	besidePayersPromise = 0.9
	payersLeast         = 0.7
)

// provider is a simulated provider of payments, which workers ask.
type provider struct {
	url   string
	delay time.Duration
	stop  func() error
}

func startProvider(ctx context.Context, delay time.Duration) (*provider, error) {
	server, err := simulated.NewServer(simulated.Faults{Delay: delay})
	if err != nil {
		return nil, err
	}
	listener, err := (&net.ListenConfig{}).Listen(ctx, "tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	serving, leave := context.WithCancel(context.WithoutCancel(ctx))
	ended := make(chan error, 1)
	go func() { ended <- server.Run(serving, listener) }()
	return &provider{
		url: "http://" + listener.Addr().String(), delay: delay,
		stop: func() error { leave(); return <-ended },
	}, nil
}

// companion is a strategy beside whose buyers others do something, which is not measured.
type companion interface {
	begin() // of the time that counts
	end() beside
}

// beside is what was done beside the buyers in the time that counts.
type beside struct {
	perSecond float64          // orders paid
	errors    map[string]int64 // by kind, whenever they were
}

// besidePayers is a CreatePurchase for each order, while others buy the same product and
// pay for it.
type besidePayers struct {
	unary
	payers int
	come   sync.Once // with the first buyer
	leave  chan struct{}
	crowd  sync.WaitGroup

	paid      atomic.Int64
	began     time.Time
	paidBegan int64

	mu     sync.Mutex
	errors map[string]int64
}

func newBesidePayers(s *servers) Strategy     { return besideThem(s, somePayers) }
func newBesideManyPayers(s *servers) Strategy { return besideThem(s, manyPayers) }

func besideThem(s *servers, payers int) Strategy {
	return &besidePayers{
		unary: unary{calls: calls{servers: s}}, payers: payers, leave: make(chan struct{}), errors: map[string]int64{},
	}
}

var errNoProvider = errors.New("there is no provider of payments")

// Prepare implements Strategy.
func (b *besidePayers) Prepare(ctx context.Context, buyers int) error {
	if b.servers.provider == nil {
		return errNoProvider
	}
	return b.unary.Prepare(ctx, buyers)
}

// Buy implements Strategy.
func (b *besidePayers) Buy(ctx context.Context, buyer int, orders []Order, outcomes []error) {
	b.come.Do(func() {
		for i := range b.payers {
			b.crowd.Go(func() { b.payAll(context.WithoutCancel(ctx), i, orders[0]) })
		}
	})
	b.unary.Buy(ctx, buyer, orders, outcomes)
}

// payAll buys and pays again and again. The payers come one after the other, so that the
// provider's answers are spread evenly.
func (b *besidePayers) payAll(ctx context.Context, payer int, first Order) {
	await(time.Now().Add(b.servers.provider.delay*time.Duration(payer)/time.Duration(b.payers)), b.leave)
	request := &holdfastv1.CreatePurchaseRequest{}
	for number := 0; !b.gone(); number++ {
		o := first
		o.Customer = fmt.Sprintf("payer-%d", payer)
		o.Request = fmt.Sprintf("%s-%d-%d", first.Request, payer, number)
		b.servers.fill(request, &o)
		request.PaymentMethod = "simulated:slow"
		request.UnitPrice = &holdfastv1.Money{CurrencyCode: "EUR", MinorUnits: 1999}
		b.pay(ctx, payer, request)
	}
}

func (b *besidePayers) pay(ctx context.Context, payer int, request *holdfastv1.CreatePurchaseRequest) {
	ctx, cancel := context.WithTimeout(ctx, b.servers.provider.delay+lastAnswer)
	defer cancel()
	_, err := b.client(payer).CreatePurchase(ctx, request)
	if err == nil {
		b.paid.Add(1)
		return
	}
	b.mu.Lock()
	b.errors["payer: "+kind(err)]++
	b.mu.Unlock()
	await(time.Now().Add(b.servers.provider.delay), b.leave) // not more often than those who pay
}

func (b *besidePayers) gone() bool {
	select {
	case <-b.leave:
		return true
	default:
		return false
	}
}

func (b *besidePayers) begin() { b.began, b.paidBegan = time.Now(), b.paid.Load() }

func (b *besidePayers) end() beside {
	paid, took := b.paid.Load()-b.paidBegan, time.Since(b.began)
	b.mu.Lock()
	defer b.mu.Unlock()
	return beside{perSecond: ratio(float64(paid), took.Seconds()), errors: b.errors}
}

// Close implements Strategy. It returns when what the payers have begun is paid.
func (b *besidePayers) Close() {
	close(b.leave)
	b.crowd.Wait()
	b.calls.Close()
}

// slowProviderPromise judges the workload slow-provider.
func slowProviderPromise(figures []Figures) (said string, err error) {
	many := ""
	for _, f := range figures {
		if f.Strategy == besideManyPayersName && f.ToUnary > 0 {
			many = fmt.Sprintf("; %.3f while %.0f were", f.ToUnary, f.PaidPerSecond)
		}
	}
	for _, f := range figures {
		if f.Strategy != besidePayersName || f.ToUnary == 0 {
			continue
		}
		said = fmt.Sprintf("while %.1f orders/s were being paid, the other buyers kept %.3f of their rate (promised: %.1f)%s",
			f.PaidPerSecond, f.ToUnary, besidePayersPromise, many)
		least := payersLeast * somePayers / providerDelay.Seconds()
		switch {
		case f.PaidPerSecond < least:
			return said, fmt.Errorf("paid_per_second: only %.1f orders/s were paid, of at least %.1f: too few to judge by", f.PaidPerSecond, least)
		case f.ToUnary < besidePayersPromise:
			return said, fmt.Errorf("ratio_to_holdfast_unary: beside payers the rate is %.3f of that without, promised is %.1f", f.ToUnary, besidePayersPromise)
		}
		return said, nil
	}
	return "", errors.New("the promise needs the strategies " + plainCall + " and " + besidePayersName)
}
