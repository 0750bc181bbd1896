package auth

import "sync"

// Streams counts what buyers have open, so that none of them has what is there for all. Each has
// so many at each coordinator; operators and viewers, who are few, any number.
type Streams struct {
	perBuyer int

	mu   sync.Mutex
	open map[string]int // by the caller's name, of those who have any
}

// NewStreams lets each buyer have so many.
func NewStreams(perBuyer int) *Streams {
	return &Streams{perBuyer: perBuyer, open: map[string]int{}}
}

// Open counts one more of a caller, until it is closed. It reports whether he may have it.
func (s *Streams) Open(c *Caller) (closed func(), ok bool) {
	if !c.onlyBuys(Buyer | Operator | Viewer) {
		return func() {}, true
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.open[c.Name] >= s.perBuyer {
		return nil, false
	}
	s.open[c.Name]++
	return func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		if s.open[c.Name]--; s.open[c.Name] == 0 {
			delete(s.open, c.Name)
		}
	}, true
}
