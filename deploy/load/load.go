// Package load buys at a steady rate from a holdfast that runs already, and tells how long
// the buyers waited. It is for what is done to that holdfast meanwhile: an upgrade, a
// killed pod, a lost node.
//
// It owns neither the cluster nor the verdict over its rows, which is the audit's. It
// promises that every purchase that it began is told in its figures as admitted, refused or
// failed. It does not wait for an answer before it begins the next purchase ("open loop"), so
// an outage is seen by all who would have come during it.
package load

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/HdrHistogram/hdrhistogram-go"
	"golang.org/x/time/rate"

	"github.com/holdfast-io/holdfast/api/client"
	holdfastv1 "github.com/holdfast-io/holdfast/api/holdfast/v1"
)

// MaxUnderWay bounds the purchases without an answer. Further ones wait until there is
// room, and that is part of their wait.
const MaxUnderWay = 10_000

// Config says what is bought, and how fast. Fields without a default are required.
type Config struct {
	// Purchases is where the buyers buy: a *client.Client, which repeats a call whose
	// outcome is open under the same request id.
	Purchases holdfastv1.PurchaseServiceClient
	Products  []string // taken in turn
	Regions   []string // of the customers, taken in turn; none leaves that to holdfast
	Prefix    string   // of request ids, so that a second load is not taken for a repetition

	Rate     float64       // purchases a second
	Duration time.Duration // until the last one begins

	// Progress is told every second how many have an answer, by one goroutine.
	Progress func(answered int)
}

// Figures are what became of a load.
type Figures struct {
	Purchases   int64         `json:"purchases"` // admitted
	Refused     int64         `json:"refused"`   // for want of stock
	Failed      int64         `json:"failed"`
	Failure     string        `json:"failure,omitempty"` // the first one
	PerSecond   float64       `json:"purchases_per_second"`
	P50         time.Duration `json:"-"`
	P99         time.Duration `json:"-"`
	LongestWait time.Duration `json:"-"`
	LongestAt   time.Duration `json:"-"` // when it began, after the start
}

// Run buys until the time is up or ctx ends, and returns when all have their answer. It
// returns an error only for a Config that cannot be.
func Run(ctx context.Context, cfg Config) (*Figures, error) {
	switch {
	case cfg.Purchases == nil:
		return nil, errors.New("load: Purchases is required")
	case len(cfg.Products) == 0:
		return nil, errors.New("load: Products: at least one is required")
	case cfg.Rate <= 0 || cfg.Rate > 100_000:
		return nil, fmt.Errorf("load: Rate: want more than 0 and at most 100000 purchases a second, got %v", cfg.Rate)
	case cfg.Duration <= 0:
		return nil, fmt.Errorf("load: Duration: want more than 0, got %v", cfg.Duration)
	}
	r := &run{cfg: cfg, start: time.Now(), waits: hdrhistogram.New(1, int64(time.Hour/time.Microsecond), 3)}
	r.begin(ctx)
	return r.figures(), nil
}

type run struct {
	cfg   Config
	start time.Time

	mu    sync.Mutex // guards what follows
	waits *hdrhistogram.Histogram
	told  Figures
}

// begin begins all purchases, and returns when they are answered.
func (r *run) begin(ctx context.Context) {
	coming, cancel := context.WithTimeout(ctx, r.cfg.Duration)
	defer cancel()
	reporting := r.report(coming)
	room := make(chan struct{}, MaxUnderWay)
	pace := rate.NewLimiter(rate.Limit(r.cfg.Rate), max(1, int(r.cfg.Rate/10)))
	var buyers sync.WaitGroup
	for number := 0; pace.Wait(coming) == nil; number++ {
		asked := time.Now()
		select {
		case room <- struct{}{}:
		case <-coming.Done():
			continue
		}
		buyers.Go(func() {
			_, err := r.cfg.Purchases.CreatePurchase(ctx, r.request(number))
			r.note(asked, err)
			<-room
		})
	}
	buyers.Wait()
	<-reporting
}

func (r *run) request(number int) *holdfastv1.CreatePurchaseRequest {
	req := &holdfastv1.CreatePurchaseRequest{
		ProductId: r.cfg.Products[number%len(r.cfg.Products)], Amount: 1,
		CustomerId: fmt.Sprintf("load-%d", number%1000), RequestId: fmt.Sprintf("%s%d", r.cfg.Prefix, number),
	}
	if n := len(r.cfg.Regions); n > 0 {
		req.Region = r.cfg.Regions[number%n]
	}
	return req
}

func (r *run) note(asked time.Time, err error) {
	wait := time.Since(asked)
	r.mu.Lock()
	defer r.mu.Unlock()
	_ = r.waits.RecordValue(max(1, wait.Microseconds())) // an hour is more than any call lasts
	if wait > r.told.LongestWait {
		r.told.LongestWait, r.told.LongestAt = wait, asked.Sub(r.start)
	}
	switch {
	case err == nil:
		r.told.Purchases++
	case errors.Is(err, client.ErrInsufficientStock):
		r.told.Refused++
	default:
		r.told.Failed++
		r.told.Failure = cmp.Or(r.told.Failure, err.Error())
	}
}

// report tells the progress until ctx ends. The channel is closed then.
func (r *run) report(ctx context.Context) <-chan struct{} {
	done := make(chan struct{})
	go func() {
		defer close(done)
		tick := time.NewTicker(time.Second)
		defer tick.Stop()
		for {
			select {
			case <-ctx.Done():
				return
			case <-tick.C:
			}
			if r.cfg.Progress != nil {
				r.mu.Lock()
				answered := r.told.Purchases + r.told.Refused + r.told.Failed
				r.mu.Unlock()
				r.cfg.Progress(int(answered))
			}
		}
	}()
	return done
}

func (r *run) figures() *Figures {
	took := time.Since(r.start)
	r.mu.Lock()
	defer r.mu.Unlock()
	f := r.told
	f.PerSecond = float64(f.Purchases) / took.Seconds()
	f.P50 = time.Duration(r.waits.ValueAtPercentile(50)) * time.Microsecond
	f.P99 = time.Duration(r.waits.ValueAtPercentile(99)) * time.Microsecond
	return &f
}
