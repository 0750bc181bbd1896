package lockmgr

import (
	"context"
	"errors"
	"fmt"
	"slices"

	clientv3 "go.etcd.io/etcd/client/v3"
)

// end ends an acquisition for the given cause, and has its key deleted in the
// background. The first cause counts.
func (m *Manager) end(c *claim, cause error) {
	if m.retire(c, cause) != ended {
		m.freer.later(c.lease, c.key)
	}
}

// retire ends an acquisition as far as this process is concerned. It returns how far
// it had come.
func (m *Manager) retire(c *claim, cause error) (before phase) {
	before = m.unlist(c)
	if before == ended {
		return ended
	}
	if before == waiting && errors.Is(cause, ErrReleased) {
		cause = ErrDraining
	}
	if before == owning && !errors.Is(cause, ErrReleased) {
		m.log.Warn("lock ended", "lock", c.name, "key", c.key, "cause", cause)
	}
	c.cancel(cause)
	return before
}

func (m *Manager) unlist(c *claim) (before phase) {
	m.mu.Lock()
	defer m.mu.Unlock()
	before, c.state = c.state, ended
	if before == ended {
		return before
	}
	c.onContended = nil
	if c.giveUp != nil {
		c.giveUp()
	}
	delete(c.lease.claims, c)
	others := slices.DeleteFunc(m.byName[c.name], func(other *claim) bool { return other == c })
	m.byName[c.name] = others
	if len(others) == 0 {
		delete(m.byName, c.name)
	}
	return before
}

// forget ends the responsibility for a lease that has been revoked.
func (m *Manager) forget(id clientv3.LeaseID) {
	m.mu.Lock()
	defer m.mu.Unlock()
	delete(m.leases, id)
	if len(m.leases) > 0 {
		return
	}
	for _, done := range m.onEmpty {
		close(done)
	}
	m.onEmpty = nil
}

// release is Lock.Release. It deletes the key, which carries the acquisition in its
// path and so is nobody else's. Releases made at the same time share a write: a worker
// that stops has thousands.
func (m *Manager) release(ctx context.Context, c *claim) error {
	if m.retire(c, ErrReleased) == ended {
		return nil
	}
	if err := m.freer.free(ctx, c.lease, c.key); err != nil {
		return fmt.Errorf("release lock %q: %w", c.name, err)
	}
	return nil
}
