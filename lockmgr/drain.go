package lockmgr

import (
	"context"
	"fmt"
	"maps"
	"slices"

	clientv3 "go.etcd.io/etcd/client/v3"
)

// keysPerTxn is less than etcd's limit of 128 operations.
const keysPerTxn = 100

// Drain ends all acquisitions: locks end with [ErrReleased], waiters and later
// callers get [ErrDraining]. It returns when all names are free, or when ctx ends,
// with an error that says how many may not be; these become free when their leases
// end.
func (m *Manager) Drain(ctx context.Context) error {
	leases, empty := m.stopAcquiring()
	var owned []*lease
	for _, l := range leases {
		switch m.retire(l, ErrReleased) {
		case waiting:
			m.reaper.reap(l.remains()) // its key may yet arrive at etcd
		case owning:
			owned = append(owned, l)
		}
	}
	m.giveBack(ctx, owned)
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

// giveBack frees the names of retired locks, many at a time: etcd deletes a hundred
// keys faster than it revokes one lease, for which it waits for its disk. The leases,
// now empty, follow in the background, and nobody waits for them.
func (m *Manager) giveBack(ctx context.Context, owned []*lease) {
	for some := range slices.Chunk(owned, keysPerTxn) {
		deletes := make([]clientv3.Op, len(some))
		for i, l := range some {
			deletes[i] = clientv3.OpDelete(l.key)
		}
		if _, err := m.client.Txn(ctx).Then(deletes...).Commit(); err != nil {
			break // the revocations do the same, given time
		}
		for _, l := range some {
			m.forget(l.id)
		}
	}
	for _, l := range owned {
		m.reaper.reap(l.remains())
	}
}

func (m *Manager) remaining() int {
	m.mu.Lock()
	defer m.mu.Unlock()
	return len(m.leases)
}
