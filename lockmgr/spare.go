package lockmgr

import (
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
)

// maxSpares is more than a manager fails to acquire at a time, usually.
const maxSpares = 64

// spare is a lease that was granted for an acquisition which found the name held, and
// so never put a key. Nothing hangs on it, and no path contains it: the next
// acquisition may have it instead of a grant, with the trust that it began with.
type spare struct {
	id    clientv3.LeaseID
	trust trust
}

// putAside ends an acquisition of which etcd said that it put no key, and keeps its
// lease. It does not if a renewal is in flight, since the answer could be taken for
// that to a later one, which would count trust from too late.
func (m *Manager) putAside(l *lease, cause error) {
	if m.retire(l, cause) == ended {
		return
	}
	m.forget(l.id)
	if !l.trust.asked.IsZero() || !m.keepSpare(spare{l.id, l.trust}) {
		m.reaper.reap(l.remains())
	}
}

func (m *Manager) keepSpare(s spare) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.draining || len(m.spares) >= maxSpares {
		return false
	}
	m.spares = append(m.spares, s)
	return true
}

// takeSpare returns a spare lease that needs no renewal yet. Those that do are left to
// expire, which they do without help.
func (m *Manager) takeSpare(now time.Time) (spare, bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for len(m.spares) > 0 {
		last := len(m.spares) - 1
		s := m.spares[last]
		m.spares = m.spares[:last]
		if s.trust.decide(now) == rest {
			return s, true
		}
	}
	return spare{}, false
}
