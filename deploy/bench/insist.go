package bench

import (
	"context"
	"errors"
	"sync"
)

// insistent repeats orders that got neither a purchase nor a refusal, as their
// request ids allow.
type insistent struct {
	Strategy
	say   func(format string, args ...any)
	total int

	mu      sync.Mutex
	settled int
}

// Buy implements Strategy.
func (s *insistent) Buy(ctx context.Context, buyer int, orders []Order, outcomes []error) {
	for ctx.Err() == nil {
		s.Strategy.Buy(ctx, buyer, orders, outcomes)
		if !unsettled(outcomes) {
			break
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	const steps = 20
	before := s.settled * steps / s.total
	s.settled += len(orders)
	if s.settled*steps/s.total > before {
		s.say("   %d of %d products sold", s.settled, s.total)
	}
}

func unsettled(outcomes []error) bool {
	for _, err := range outcomes {
		if err != nil && !errors.Is(err, ErrSoldOut) {
			return true
		}
	}
	return false
}
