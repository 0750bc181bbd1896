package lockmgr

import (
	"context"
	"errors"
	"fmt"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
)

// claimsPerLease is how many acquisitions share a lease. They end together if it
// does, which they would anyway: what ends one lease of a process ends all. Many
// make renewals cheap, and the end of a dead process: etcd waits for its disk with
// each lease that ends.
const claimsPerLease = 1024

// lease is an etcd lease, shared by acquisitions of this manager.
type lease struct {
	id      clientv3.LeaseID
	granted time.Duration // TTL as granted by the server

	// Guarded by Manager.mu.
	claims map[*claim]struct{} // those that have not ended
	over   bool                // takes no more claims

	// Guarded by renewer.mu.
	trust trust
	index int   // in the renewer's heap
	lane  *lane // renews this lease; nil before and after
}

func newLease(id clientv3.LeaseID, t trust) *lease {
	return &lease{id: id, granted: t.ttl, trust: t, claims: map[*claim]struct{}{}}
}

// granting is a grant under way. Whoever needs it waits for it.
type granting struct {
	done chan struct{} // closed when err is set
	err  error
}

// claim begins an acquisition on a lease that has room and will last a while, and
// on a new one if there is none.
func (m *Manager) claim(ctx context.Context, name string) (*claim, error) {
	if name == "" {
		return nil, errors.New("the name is empty")
	}
	if err := m.awaitRun(ctx); err != nil {
		return nil, err
	}
	for {
		c, g, err := m.claimOrGrant(name)
		if c != nil || err != nil {
			return c, err
		}
		select {
		case <-g.done:
			if g.err != nil {
				return nil, fmt.Errorf("grant a lease: %w", g.err)
			}
		case <-ctx.Done():
			return nil, fmt.Errorf("grant a lease: %w", ctx.Err())
		}
	}
}

// claimOrGrant returns a claim, or what to wait for before there can be one.
func (m *Manager) claimOrGrant(name string) (*claim, *granting, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.draining {
		return nil, nil, ErrDraining
	}
	now := time.Now()
	for _, l := range m.leases {
		if !l.over && len(l.claims) < claimsPerLease && m.renewer.lasts(l, now) {
			m.numbered++
			c := newClaim(m, l, name, m.numbered)
			l.claims[c] = struct{}{}
			m.byName[name] = append(m.byName[name], c)
			return c, nil, nil
		}
	}
	if m.granting == nil {
		m.granting = &granting{done: make(chan struct{})}
		m.background.Go(m.grant)
	}
	return nil, m.granting, nil
}

// grant gets a lease for all who wait for one.
func (m *Manager) grant() {
	ctx, cancel := context.WithTimeout(m.base, m.ttl)
	defer cancel()
	asked := time.Now()
	resp, err := m.client.Grant(ctx, int64(m.ttl/time.Second))
	m.mu.Lock()
	defer m.mu.Unlock()
	g := m.granting
	m.granting, g.err = nil, err
	defer close(g.done)
	if err != nil {
		return
	}
	l := newLease(resp.ID, newTrust(asked, time.Duration(resp.TTL)*time.Second))
	m.leases[l.id] = l
	if m.draining {
		l.over = true
		m.reaper.reap(l.remains())
		return
	}
	m.renewer.add(l)
}

// leaseOver ends a lease and all its claims for the given cause, and has it revoked
// in the background.
func (m *Manager) leaseOver(l *lease, cause error) {
	m.mu.Lock()
	before := l.over
	l.over = true
	claims := make([]*claim, 0, len(l.claims))
	for c := range l.claims {
		claims = append(claims, c)
	}
	m.mu.Unlock()
	for _, c := range claims {
		m.retire(c, cause)
	}
	if !before {
		m.renewer.remove(l)
		m.reaper.reap(l.remains())
	}
}

// checkTrust ends l if its trust is over and nobody has noticed yet.
func (m *Manager) checkTrust(l *lease) {
	if m.renewer.expired(l, time.Now()) {
		m.leaseOver(l, ErrExpired)
	}
}

// checkAlive ends the locks of l whose work has not got on for almost one TTL. Those
// who wait are not asked: nobody works under their name.
func (m *Manager) checkAlive(l *lease) {
	m.mu.Lock()
	var owned []*claim
	for c := range l.claims {
		if c.state == owning {
			owned = append(owned, c)
		}
	}
	m.mu.Unlock()
	now := time.Now()
	for _, c := range owned {
		if m.hasGotStuck(c, m.alive(c.name), now) {
			m.end(c, ErrExpired)
		}
	}
}

func (m *Manager) hasGotStuck(c *claim, alive bool, now time.Time) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	switch {
	case alive:
		c.stuck = time.Time{}
	case c.stuck.IsZero():
		c.stuck = now
	}
	return !alive && now.Sub(c.stuck) >= c.lease.granted*9/10
}

// remains is what has to be revoked. A renewal that was answered to nobody may
// have kept the lease alive, until one TTL from now at the most.
func (l *lease) remains() remains {
	return remains{id: l.id, gone: time.Now().Add(l.granted)}
}
