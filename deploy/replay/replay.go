// Package replay buys real orders from a running holdfast, with many buyers at
// once, and judges what they were told.
//
// It owns the orders (RealOrders, or Read for a file of one's own), the buyers
// (Run) and the judgement (Judge). A replay offers more units than there are,
// so that the last ones are fought over; every buyer repeats his request until
// he is told an outcome, and what he was told is written down. Judge then
// compares the buyers' notes with the rows that the shards really hold.
//
// It promises that the verdict rests on those two alone: it never asks
// holdfast whether holdfast did well. It does not start or stop a cluster, and
// it does not read the shards: the caller brings the rows.
package replay

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"

	holdfastv1 "github.com/holdfast-io/holdfast/api/holdfast/v1"
)

// Config says what is replayed, and against whom. The clients and Orders are
// required.
type Config struct {
	Products  holdfastv1.ProductServiceClient
	Purchases holdfastv1.PurchaseServiceClient
	Orders    *Orders

	// Buyers is how many buy at once: 32 unless said otherwise.
	Buyers int
	// Share is how much of its demand each product has in storage: 4/5 unless
	// said otherwise.
	Share Share
	// Prefix is put before every product id and request id, so that several
	// replays can run against one cluster.
	Prefix string
	// Patience bounds how long one purchase is repeated until an outcome is
	// told: 30 s unless said otherwise.
	Patience time.Duration

	// Region chooses the shard of a country's customers. Nil leaves the choice
	// to holdfast.
	Region func(country string) string
	// Halfway is called once, when half of the lines were taken, while buying
	// goes on. Run waits for it to return.
	Halfway func(ctx context.Context)
	// Progress is told how many lines were answered: one call at a time, and
	// the buyers wait for it.
	Progress func(done, total int)
}

// A Share is a fraction of the demand.
type Share struct{ Numerator, Denominator int64 }

// Of is the stock of a product of this demand: rounded down, so that with a
// share below 1 the last orders must be refused, but at least the 1 unit that a
// product must have. Only a product whose whole demand is 1 unit refuses nobody.
func (s Share) Of(demand int64) int64 {
	whole, rest := demand/s.Denominator, demand%s.Denominator
	return max(1, whole*s.Numerator+rest*s.Numerator/s.Denominator)
}

// A Report is what the buyers were told.
type Report struct {
	Stock    map[string]int64 // the amount in storage of each product
	Outcomes []Outcome        // one for each line, in the order of the file
	Skipped  int              // lines of the file that are no purchases
	Elapsed  time.Duration    // the buying, without the creation of the products
}

// Run creates the products and lets the buyers buy every line, in the order of
// the file, each line once. Repeating a Run with the same Prefix is safe: it is
// told the outcomes of the first one.
//
// A purchase that fails does not end the run; its Outcome says so. Run fails
// when a product cannot be created or ctx ends, then with the report so far.
func Run(ctx context.Context, config Config) (*Report, error) {
	config, err := config.complete()
	if err != nil {
		return nil, err
	}
	orders := config.Orders.withPrefix(config.Prefix)
	report := &Report{Stock: orders.Demand(), Outcomes: make([]Outcome, len(orders.Lines))}
	for product, demand := range report.Stock {
		report.Stock[product] = config.Share.Of(demand)
	}
	for i, line := range orders.Lines {
		report.Outcomes[i].Line = line
	}
	for _, lines := range orders.Skipped {
		report.Skipped += lines
	}
	if err := createProducts(ctx, config, report.Stock); err != nil {
		return report, err
	}
	crowd := &crowd{Config: config, report: report}
	crowd.buyAll(ctx)
	return report, context.Cause(ctx)
}

func (c Config) complete() (Config, error) {
	c.Buyers = cmp.Or(c.Buyers, 32)
	c.Share = cmp.Or(c.Share, Share{Numerator: 4, Denominator: 5})
	c.Patience = cmp.Or(c.Patience, 30*time.Second)
	if c.Region == nil {
		c.Region = func(string) string { return "" }
	}
	switch {
	case c.Products == nil || c.Purchases == nil:
		return c, errors.New("replay: Products and Purchases are required")
	case c.Orders == nil || len(c.Orders.Lines) == 0:
		return c, errors.New("replay: there is nothing to buy in these orders")
	case c.Buyers < 0 || c.Patience < 0:
		return c, errors.New("replay: Buyers and Patience must be positive")
	case c.Share.Numerator <= 0 || c.Share.Denominator <= 0:
		return c, errors.New("replay: Share must be positive")
	}
	return c, nil
}

func createProducts(ctx context.Context, config Config, stock map[string]int64) error {
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(config.Buyers)
	for product, amount := range stock {
		group.Go(func() error {
			_, err := insist(ctx, config.Patience, func(ctx context.Context) error {
				_, err := config.Products.CreateProduct(ctx, &holdfastv1.CreateProductRequest{
					ProductId: product, AmountInStorage: amount,
				})
				return err
			})
			if err != nil {
				return fmt.Errorf("create product %s: %w", product, err)
			}
			return nil
		})
	}
	return group.Wait()
}

// crowd is the buyers of one run. Each line is one buyer's alone, and so is the
// line's outcome.
type crowd struct {
	Config
	report *Report
	taken  atomic.Int64

	answering sync.Mutex // guards answered, and lets one Progress call in at a time
	answered  int
}

func (c *crowd) buyAll(ctx context.Context) {
	began := time.Now()
	var buyers, halfway sync.WaitGroup
	for range c.Buyers {
		buyers.Go(func() { c.buyLines(ctx, &halfway) })
	}
	buyers.Wait()
	c.report.Elapsed = time.Since(began)
	halfway.Wait()
}

// buyLines is one buyer: he takes the next line until none is left.
func (c *crowd) buyLines(ctx context.Context, halfway *sync.WaitGroup) {
	outcomes := c.report.Outcomes
	for ctx.Err() == nil {
		next := int(c.taken.Add(1)) - 1
		if next >= len(outcomes) {
			return
		}
		if next == len(outcomes)/2 && c.Halfway != nil {
			halfway.Go(func() { c.Halfway(ctx) })
		}
		outcomes[next] = c.buy(ctx, outcomes[next].Line)
		c.countAnswer()
	}
}

func (c *crowd) countAnswer() {
	c.answering.Lock()
	defer c.answering.Unlock()
	c.answered++
	if c.Progress != nil {
		c.Progress(c.answered, len(c.report.Outcomes))
	}
}
