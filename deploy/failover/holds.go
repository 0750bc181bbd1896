package failover

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/timestamppb"

	holdfastv1 "github.com/holdfast-io/holdfast/api/holdfast/v1"
)

const (
	// afterExpiry is how long after the holds have expired the next buyer comes.
	afterExpiry = time.Second

	// holdsPromise bounds his wait.
	holdsPromise = 100 * time.Millisecond

	// maxBatch is what one BatchCreatePurchases may hold.
	maxBatch = 1000
)

// HoldsConfig says how many units are held, how long, and how often.
type HoldsConfig struct {
	Config
	Holds       int           // of one unit each, which is all there is of the product
	Hold        time.Duration // how long each lasts
	Repetitions int           // with a product of its own each
}

// HoldsFigures say how long a buyer waited who wanted a unit after all of them had been
// held, and the holds had expired, and nobody had swept them.
type HoldsFigures struct {
	Holds       int       `json:"holds"`
	HoldMS      int64     `json:"hold_ms"`
	Repetitions int       `json:"repetitions"`
	P50MS       float64   `json:"p50_ms"`
	WorstMS     float64   `json:"worst_ms"`
	WaitsMS     []float64 `json:"waits_ms"` // of all repetitions

	RefusedWorstMS float64 `json:"refused_worst_ms"` // until he was refused who came before they expired
	SoldAgain      int     `json:"sold_again"`       // units, over all repetitions
	Verdict
}

// Promise returns an error when the promise was broken.
func (f *HoldsFigures) Promise() error {
	failures := f.broken()
	if f.WorstMS >= milliseconds(holdsPromise) {
		failures = errors.Join(failures, fmt.Errorf(
			"worst_ms: a buyer waited %.0f ms for units whose holds had expired, promised are %v", f.WorstMS, holdsPromise))
	}
	if want := f.Holds * f.Repetitions; f.SoldAgain != want {
		failures = errors.Join(failures, fmt.Errorf("sold_again: %d of %d units were sold again", f.SoldAgain, want))
	}
	return failures
}

// Holds has all units of a product held and lets the holds expire, with nobody who sweeps
// them. The error is like that of [Kill].
func Holds(ctx context.Context, cfg HoldsConfig) (*HoldsFigures, error) {
	err := cmp.Or(above0("holds", cfg.Holds), above0("hold", cfg.Hold), above0("repetitions", cfg.Repetitions))
	if err != nil {
		return nil, err
	}
	cfg.Stack.Workers = 3
	cfg.Stack.WorkerArgs = append(cfg.Stack.WorkerArgs, append([]string{"--sweep-interval", "0"}, keepIdle...)...)
	f := &HoldsFigures{Holds: cfg.Holds, HoldMS: cfg.Hold.Milliseconds(), Repetitions: cfg.Repetitions}
	verdict, err := cfg.run(ctx, func(ctx context.Context, w *world) error { return cfg.measure(ctx, w, f) })
	if verdict == nil {
		return nil, err
	}
	f.Verdict = *verdict
	return f, err
}

func (cfg *HoldsConfig) measure(ctx context.Context, w *world, f *HoldsFigures) error {
	products, err := w.market.createOf(ctx, cfg.Repetitions, int64(cfg.Holds))
	if err != nil {
		return err
	}
	var waits, refusals []time.Duration
	for i, product := range products {
		refused, err := cfg.holdAll(ctx, w.market, product)
		if err != nil {
			return fmt.Errorf("repetition %d: %w", i+1, err)
		}
		next := w.market.buy(ctx, product, time.Now())
		again, err := w.market.sellOut(ctx, product, cfg.Holds)
		if err != nil {
			return fmt.Errorf("repetition %d: %w", i+1, err)
		}
		if next.err == nil {
			again++
		}
		f.SoldAgain += again
		waits, refusals = append(waits, next.wait()), append(refusals, refused.wait())
		f.WaitsMS = append(f.WaitsMS, milliseconds(next.wait()))
		w.say("%2d of %d: %d holds of %v have expired; the next buyer waited %5.1f ms, and %d units were sold again",
			i+1, cfg.Repetitions, cfg.Holds, cfg.Hold, milliseconds(next.wait()), again)
	}
	f.P50MS, f.WorstMS = milliseconds(percentile(waits, 50)), milliseconds(percentile(waits, 100))
	f.RefusedWorstMS = milliseconds(percentile(refusals, 100))
	return nil
}

// holdAll has all units of a product held, and somebody refused who comes then. It returns
// a while after the holds have expired.
func (cfg *HoldsConfig) holdAll(ctx context.Context, m *market, product string) (refused sale, err error) {
	tooMuch := m.request(product) // whoever refuses it sells the product from then on: no hold has to wait for that
	tooMuch.Amount = int64(cfg.Holds) + 1
	if _, err := m.refuse(ctx, tooMuch); err != nil {
		return refused, err
	}
	expires := time.Now().Add(cfg.Hold)
	held, err := m.buyMany(ctx, product, cfg.Holds, &expires)
	if err != nil {
		return refused, err
	}
	refused, err = m.refuse(ctx, m.request(product))
	switch {
	case time.Now().After(expires):
		return refused, fmt.Errorf("holds of %v expired before they were all there: the machine is too busy, or they are too short", cfg.Hold)
	case held != cfg.Holds:
		return refused, fmt.Errorf("%d of %d units could be held", held, cfg.Holds)
	case err != nil:
		return refused, err
	}
	return refused, pause(ctx, time.Until(expires.Add(afterExpiry)))
}

// refuse has a purchase tried for which there are no units.
func (m *market) refuse(ctx context.Context, request *holdfastv1.CreatePurchaseRequest) (sale, error) {
	s := m.try(ctx, request, time.Now())
	switch {
	case s.err == nil:
		m.count(s)
		return s, errors.New("units were sold that were not there")
	case !isSoldOut(s.err):
		return s, fmt.Errorf("a buyer who was to be refused: %w", s.err)
	}
	return s, nil
}

// sellOut asks for more units than there can be, one each, and returns how many were sold.
func (m *market) sellOut(ctx context.Context, product string, units int) (sold int, err error) {
	return m.buyMany(ctx, product, units+1, nil)
}

// buyMany buys one unit each for many buyers, or holds them until a given time, and returns
// how many were admitted. The others were refused for want of units.
func (m *market) buyMany(ctx context.Context, product string, buyers int, expires *time.Time) (admitted int, err error) {
	requests := make([]*holdfastv1.CreatePurchaseRequest, buyers)
	for i := range requests {
		requests[i] = m.request(product)
		if expires != nil {
			requests[i].Hold = &holdfastv1.Hold{Expiration: &holdfastv1.Hold_ExpireTime{ExpireTime: timestamppb.New(*expires)}}
		}
	}
	for batch := range slices.Chunk(requests, maxBatch) {
		n, err := m.buyBatch(ctx, batch)
		admitted += n
		m.admitted.Add(int64(n))
		if err != nil {
			return admitted, fmt.Errorf("buy %s: %w", product, err)
		}
	}
	return admitted, nil
}

func (m *market) buyBatch(ctx context.Context, requests []*holdfastv1.CreatePurchaseRequest) (admitted int, err error) {
	patient, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	err = m.insist(patient, func(ctx context.Context) error {
		response, err := m.purchases.BatchCreatePurchases(ctx, &holdfastv1.BatchCreatePurchasesRequest{Requests: requests})
		if err != nil {
			return err
		}
		admitted = 0
		var open error
		for _, result := range response.GetResults() {
			switch err := status.ErrorProto(result.GetError()); {
			case err == nil:
				admitted++
			case !isSoldOut(err):
				open = err
			}
		}
		return open
	})
	return admitted, err
}

func isSoldOut(err error) bool { return holdfastv1.Reason(err) == holdfastv1.ReasonInsufficientStock }
