package failover

import (
	"sync"
	"time"
)

// rate counts admissions, and the longest wait, from one restart to the next.
type rate struct {
	mu      sync.Mutex
	since   time.Time
	sold    int
	longest time.Duration
}

func (r *rate) tell(s sale) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.longest = max(r.longest, s.wait())
	if s.err == nil {
		r.sold++
	}
}

// restart returns the purchases per second, and the longest wait, since the last
// one.
func (r *rate) restart() (perSecond float64, longest time.Duration) {
	r.mu.Lock()
	defer r.mu.Unlock()
	now := time.Now()
	perSecond, longest = float64(r.sold)/now.Sub(r.since).Seconds(), r.longest
	r.since, r.sold, r.longest = now, 0, 0
	return perSecond, longest
}
