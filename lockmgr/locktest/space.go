package locktest

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"sync"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/holdfast-io/holdfast/lockmgr"
)

// Space holds the locks of all managers that joined it, and the faults.
type Space struct {
	mu       sync.Mutex
	revision int64
	queues   map[string][]*claim // by name, in the order of places; the first one owns
	down     error               // what every call returns; nil if the space can be reached
	left     []*claim            // ended while the space could not be reached
}

// claim is a place in a queue, and later the ownership.
type claim struct {
	manager     *Manager
	name        string
	lease       clientv3.LeaseID
	place       int64 // revision
	token       int64 // 0 while it waits
	granted     chan struct{}
	contended   bool // somebody queued behind it
	onContended []func()
	ctx         context.Context
	cancel      context.CancelCauseFunc
}

// NewSpace returns a space without locks.
func NewSpace() *Space {
	return &Space{queues: make(map[string][]*claim)}
}

// Join returns a manager for one owner. It needs no Run.
func (s *Space) Join(owner string) *Manager {
	return &Manager{space: s, owner: owner, claims: make(map[*claim]bool)}
}

// Expire ends the lease of whoever owns name, and tells it: its lock ends with
// lockmgr.ErrExpired, and the next in the queue owns the name with a higher token.
// It does nothing if nobody owns the name.
func (s *Space) Expire(name string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if owner := s.owner(name); owner != nil {
		s.remove(owner)
		owner.end(lockmgr.ErrExpired)
	}
}

// Depose ends the lease of whoever owns name without telling it, as if its process
// were paused: the next in the queue owns the name with a higher token, while the
// deposed owner still believes in its lock. It does nothing if nobody owns the name.
func (s *Space) Depose(name string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if owner := s.owner(name); owner != nil {
		s.remove(owner)
	}
}

// Interrupt makes every call fail with err, as if etcd were away. Locks stay as they
// are, and waiters wait. A lock that is released meanwhile ends, but its name is
// free only after Interrupt(nil), which repairs the space.
func (s *Space) Interrupt(err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.down = err
	if err != nil {
		return
	}
	for _, c := range s.left {
		s.remove(c)
	}
	s.left = nil
}

// Waiters returns how many wait for name.
func (s *Space) Waiters(name string) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return max(0, len(s.queues[name])-1)
}

// owner is called with mu held, as is everything below.
func (s *Space) owner(name string) *claim {
	if queue := s.queues[name]; len(queue) > 0 {
		return queue[0]
	}
	return nil
}

// add puts a new claim at the end of its queue.
func (s *Space) add(m *Manager, name string) *claim {
	s.revision++
	c := &claim{
		manager: m,
		name:    name,
		lease:   clientv3.LeaseID(s.revision),
		place:   s.revision,
		granted: make(chan struct{}),
	}
	c.ctx, c.cancel = context.WithCancelCause(context.Background())
	m.claims[c] = true
	for _, other := range s.queues[name] {
		other.contend()
	}
	s.queues[name] = append(s.queues[name], c)
	if len(s.queues[name]) == 1 {
		c.grant(s.revision)
	}
	return c
}

// give ends a claim for its owner, and then in the space, if that can be reached.
func (s *Space) give(c *claim, cause error) error {
	if !c.end(cause) {
		return nil
	}
	if s.down != nil {
		s.left = append(s.left, c)
		return s.down
	}
	s.remove(c)
	return nil
}

// remove takes a claim out of its queue; if it was the owner, the next one becomes
// it.
func (s *Space) remove(c *claim) {
	queue := s.queues[c.name]
	i := slices.Index(queue, c)
	if i < 0 {
		return
	}
	s.revision++
	queue = slices.Delete(queue, i, i+1)
	s.queues[c.name] = queue
	if len(queue) == 0 {
		delete(s.queues, c.name)
		return
	}
	if queue[0].token == 0 {
		s.revision++
		queue[0].grant(s.revision)
	}
}

// holders returns the owners in the order of names.
func (s *Space) holders() []lockmgr.Holder {
	var all []lockmgr.Holder
	for _, name := range slices.Sorted(maps.Keys(s.queues)) {
		all = append(all, s.owner(name).holder())
	}
	return all
}

func (c *claim) grant(token int64) {
	c.token = token
	close(c.granted)
}

func (c *claim) isGranted() bool { return c.token != 0 }

// end tells the claim's owner. It returns false if it was told before.
func (c *claim) end(cause error) bool {
	if c.ctx.Err() != nil {
		return false
	}
	delete(c.manager.claims, c)
	c.cancel(cause)
	return true
}

func (c *claim) contend() {
	c.contended = true
	if c.ctx.Err() == nil {
		for _, f := range c.onContended {
			go f()
		}
	}
	c.onContended = nil
}

func (c *claim) holder() lockmgr.Holder {
	return lockmgr.Holder{Name: c.name, Owner: c.manager.owner, Token: c.token, Key: c.key()}
}

// key tells acquisitions apart.
func (c *claim) key() string { return fmt.Sprintf("%s/%d", c.name, c.lease) }

// all returns everybody who waits or owns.
func (s *Space) all() []*claim { return slices.Concat(slices.Collect(maps.Values(s.queues))...) }
