package lockmgr

import (
	"context"
	"fmt"
	"maps"
	"slices"
)

// Drain ends all acquisitions: locks end with [ErrReleased], waiters and later
// callers get [ErrDraining]. It returns when all names are free, or when ctx ends,
// with an error that says how many leases may not be; their names become free when
// they end.
func (m *Manager) Drain(ctx context.Context) error {
	leases, empty := m.stopAcquiring()
	for _, l := range leases {
		m.leaseOver(l, ErrReleased) // whatever keys it has, and may yet get, go with it
	}
	select {
	case <-empty:
		return nil
	case <-ctx.Done():
		return fmt.Errorf("drain: %d leases remain: %w", m.remaining(), ctx.Err())
	}
}

func (m *Manager) stopAcquiring() (leases []*lease, empty <-chan struct{}) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.draining = true
	done := make(chan struct{})
	if len(m.leases) == 0 {
		close(done)
	} else {
		m.onEmpty = append(m.onEmpty, done)
	}
	return slices.Collect(maps.Values(m.leases)), done
}

func (m *Manager) remaining() int {
	m.mu.Lock()
	defer m.mu.Unlock()
	return len(m.leases)
}
