package auth

import (
	"math"
	"time"

	lru "github.com/hashicorp/golang-lru/v2"
	"golang.org/x/time/rate"
)

// Rates says how many calls a second each caller may make; 0 is any number. Purchases of
// batches and streams count each. A caller who was quiet may make the calls of two seconds at
// once.
type Rates struct {
	PerBuyer  float64
	PerCaller float64 // of operators and viewers
}

// Limiter keeps callers to their rates. A caller has the rate at each coordinator.
type Limiter struct {
	rates   Rates
	callers *lru.Cache[string, *rate.Limiter]
}

// NewLimiter makes a limiter that nobody has called yet.
func NewLimiter(rates Rates) (*Limiter, error) {
	callers, err := lru.New[string, *rate.Limiter](maxSeen)
	return &Limiter{rates, callers}, err
}

// Allow takes so many calls of a caller. When they are too many, none is taken, and the second
// result is when he may repeat them.
func (l *Limiter) Allow(c *Caller, calls int) (ok bool, wait time.Duration) {
	perSecond := l.rates.PerCaller
	if c.onlyBuys(Buyer | Operator | Viewer) {
		perSecond = l.rates.PerBuyer
	}
	if perSecond <= 0 {
		return true, 0
	}
	burst := max(1, int(math.Ceil(2*perSecond)))
	limiter, found := l.callers.Get(c.Name)
	if !found {
		limiter = rate.NewLimiter(rate.Limit(perSecond), burst)
		if earlier, found, _ := l.callers.PeekOrAdd(c.Name, limiter); found {
			limiter = earlier
		}
	}
	now := time.Now()
	r := limiter.ReserveN(now, min(calls, burst))
	if wait = r.DelayFrom(now); wait > 0 {
		r.CancelAt(now)
		return false, wait
	}
	for rest := calls - burst; rest > 0; rest -= burst {
		limiter.ReserveN(now, min(rest, burst)) // what is beyond the burst is waited for afterwards
	}
	return true, 0
}
