package locktest

import (
	"context"
	"errors"
	"fmt"

	"github.com/holdfast-io/holdfast/lockmgr"
)

// Manager is the in-memory lockmgr.Manager of one owner. It keeps the same promises,
// with one difference: locks end for want of renewals only when [Space.Expire] says so.
type Manager struct {
	space *Space
	owner string

	// Guarded by space.mu.
	draining bool
	claims   map[*claim]bool // those that have not ended as far as the owner knows
}

// Acquire is lockmgr.Manager.Acquire.
func (m *Manager) Acquire(ctx context.Context, name string) (*lockmgr.Lock, error) {
	for {
		lock, err := m.acquire(ctx, name)
		switch {
		case err == nil:
			return lock, nil
		case errors.Is(err, lockmgr.ErrLost) || errors.Is(err, lockmgr.ErrExpired):
		default:
			return nil, fmt.Errorf("acquire lock %q: %w", name, err)
		}
	}
}

func (m *Manager) acquire(ctx context.Context, name string) (*lockmgr.Lock, error) {
	c, err := m.claim(ctx, name, false)
	if err != nil {
		return nil, err
	}
	select {
	case <-c.granted:
		return m.lock(c), nil
	case <-c.ctx.Done():
		return nil, context.Cause(c.ctx)
	case <-ctx.Done():
		_ = m.give(c, ctx.Err()) // what is left, Interrupt(nil) removes
		return nil, ctx.Err()
	}
}

func (m *Manager) give(c *claim, cause error) error {
	m.space.mu.Lock()
	defer m.space.mu.Unlock()
	return m.space.give(c, cause)
}

// TryAcquire is lockmgr.Manager.TryAcquire.
func (m *Manager) TryAcquire(ctx context.Context, name string) (*lockmgr.Lock, error) {
	c, err := m.claim(ctx, name, true)
	if err != nil {
		return nil, fmt.Errorf("try to acquire lock %q: %w", name, err)
	}
	return m.lock(c), nil
}

// claim joins the queue of name, or only an empty one.
func (m *Manager) claim(ctx context.Context, name string, ifFree bool) (*claim, error) {
	s := m.space
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case name == "":
		return nil, errors.New("the name is empty")
	case m.draining:
		return nil, lockmgr.ErrDraining
	case s.down != nil:
		return nil, s.down
	case ctx.Err() != nil:
		return nil, ctx.Err()
	}
	if owner := s.owner(name); owner != nil && ifFree {
		return nil, &lockmgr.HeldError{Holder: owner.holder()}
	}
	return s.add(m, name), nil
}

func (m *Manager) lock(c *claim) *lockmgr.Lock {
	release := func(context.Context) error {
		if err := m.give(c, lockmgr.ErrReleased); err != nil {
			return fmt.Errorf("release lock %q: %w", c.name, err)
		}
		return nil
	}
	return lockmgr.NewLock(c.ctx, c.name, c.token, func(f func()) { m.onContended(c, f) }, release)
}

func (m *Manager) onContended(c *claim, f func()) {
	m.space.mu.Lock()
	defer m.space.mu.Unlock()
	c.onContended = append(c.onContended, f)
	if c.contended {
		c.contend()
	}
}

// Holder is lockmgr.Manager.Holder.
func (m *Manager) Holder(_ context.Context, name string) (lockmgr.Holder, error) {
	m.space.mu.Lock()
	defer m.space.mu.Unlock()
	if m.space.down != nil {
		return lockmgr.Holder{}, fmt.Errorf("read holder of lock %q: %w", name, m.space.down)
	}
	owner := m.space.owner(name)
	if owner == nil {
		return lockmgr.Holder{}, fmt.Errorf("lock %q: %w", name, lockmgr.ErrNotHeld)
	}
	return owner.holder(), nil
}

// Holders is lockmgr.Manager.Holders.
func (m *Manager) Holders(context.Context) ([]lockmgr.Holder, error) {
	m.space.mu.Lock()
	defer m.space.mu.Unlock()
	if m.space.down != nil {
		return nil, fmt.Errorf("read all locks: %w", m.space.down)
	}
	return m.space.holders(), nil
}

// Evict is lockmgr.Manager.Evict.
func (m *Manager) Evict(_ context.Context, h lockmgr.Holder) (evicted bool, err error) {
	m.space.mu.Lock()
	defer m.space.mu.Unlock()
	if m.space.down != nil {
		return false, fmt.Errorf("evict %s from lock %q: %w", h.Owner, h.Name, m.space.down)
	}
	owner := m.space.owner(h.Name)
	if owner != nil && owner.key() == h.Key && owner.token == h.Token {
		m.space.remove(owner)
		owner.end(lockmgr.ErrLost)
		return true, nil
	}
	return false, nil
}

// EvictOwner is lockmgr.Manager.EvictOwner.
func (m *Manager) EvictOwner(_ context.Context, owner string) (evicted int, err error) {
	m.space.mu.Lock()
	defer m.space.mu.Unlock()
	if m.space.down != nil {
		return 0, fmt.Errorf("evict %s: %w", owner, m.space.down)
	}
	for _, c := range m.space.all() {
		if c.manager.owner == owner {
			m.space.remove(c)
			c.end(lockmgr.ErrLost)
			evicted++
		}
	}
	return evicted, nil
}

// Drain is lockmgr.Manager.Drain.
func (m *Manager) Drain(context.Context) error {
	m.space.mu.Lock()
	defer m.space.mu.Unlock()
	m.draining = true
	var failure error
	for c := range m.claims {
		if !c.isGranted() {
			failure = errors.Join(failure, m.space.give(c, lockmgr.ErrDraining))
		}
	}
	// Only now, so that none of the waiters becomes the owner on the way.
	for c := range m.claims {
		failure = errors.Join(failure, m.space.give(c, lockmgr.ErrReleased))
	}
	if failure != nil {
		return fmt.Errorf("drain: %w", failure)
	}
	return nil
}
