package lockmgr

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
)

// register makes the manager responsible for a lease. It fails if it should not
// have been granted any more; then it is only revoked.
func (m *Manager) register(l *lease) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.leases[l.id] = l
	if m.draining {
		l.state = ended
		l.cancel(ErrDraining)
		m.reaper.reap(l.remains())
		return ErrDraining
	}
	m.byName[l.name] = append(m.byName[l.name], l)
	m.renewer.add(l)
	return nil
}

// end ends an acquisition for the given cause, and has its lease revoked in the
// background. The first cause counts.
func (m *Manager) end(l *lease, cause error) {
	if m.retire(l, cause) != ended {
		m.reaper.reap(l.remains())
	}
}

// retire ends an acquisition as far as this process is concerned. It returns how far
// it had come.
func (m *Manager) retire(l *lease, cause error) (before phase) {
	before = m.unlist(l)
	if before == ended {
		return ended
	}
	m.renewer.remove(l)
	if before == waiting && errors.Is(cause, ErrReleased) {
		cause = ErrDraining
	}
	if before == owning && !errors.Is(cause, ErrReleased) {
		m.log.Warn("lock ended", "lock", l.name, "lease", l.id, "cause", cause)
	}
	l.cancel(cause)
	return before
}

func (m *Manager) unlist(l *lease) (before phase) {
	m.mu.Lock()
	defer m.mu.Unlock()
	before, l.state = l.state, ended
	if before == ended {
		return before
	}
	others := slices.DeleteFunc(m.byName[l.name], func(other *lease) bool { return other == l })
	m.byName[l.name] = others
	if len(others) == 0 {
		delete(m.byName, l.name)
	}
	return before
}

// forget ends the responsibility for a lease when it keeps no name from others any
// more. It may be called more than once.
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

// release is Lock.Release. It deletes the key, which carries the lease in its path
// and so is nobody else's. The lease, now empty, is revoked in the background: that
// takes etcd longer, and nobody waits for it.
func (m *Manager) release(ctx context.Context, l *lease) error {
	if m.retire(l, ErrReleased) == ended {
		return nil
	}
	rem := l.remains()
	ctx, cancel := context.WithDeadline(ctx, rem.gone)
	defer cancel()
	defer m.reaper.reap(rem)
	if _, err := m.client.Delete(ctx, l.key); err != nil {
		return fmt.Errorf("release lock %q: %w", l.name, err)
	}
	m.forget(l.id)
	return nil
}

// checkTrust ends l if its trust is over and nobody has noticed yet.
func (m *Manager) checkTrust(l *lease) {
	if m.renewer.expired(l, time.Now()) {
		m.end(l, ErrExpired)
	}
}

// isAlive asks the user of a lock whether it should be renewed. Waiters are not
// asked: nobody works under their name.
func (m *Manager) isAlive(l *lease) bool {
	m.mu.Lock()
	owned := l.state == owning
	m.mu.Unlock()
	return !owned || m.alive(l.name)
}

// remains is what has to be revoked. A renewal that was answered to nobody may
// have kept the lease alive, until one TTL from now at the most.
func (l *lease) remains() remains {
	return remains{id: l.id, name: l.name, gone: time.Now().Add(l.granted)}
}
