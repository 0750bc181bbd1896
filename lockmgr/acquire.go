package lockmgr

import (
	"context"
	"errors"
	"fmt"
	"time"

	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"
)

// join tries to become the owner of the lease's name. It returns the token.
type join func(context.Context, *lease) (token int64, err error)

// Acquire waits until this manager owns name, in the order in which callers of all
// managers came. It fails when ctx ends, with [ErrDraining], or when etcd cannot
// be asked. It never fails because of waiting long: a place that was lost with its
// lease is taken again at the end of the queue.
func (m *Manager) Acquire(ctx context.Context, name string) (*Lock, error) {
	for {
		lock, err := m.attempt(ctx, name, m.queueUp)
		switch {
		case err == nil:
			return lock, nil
		case errors.Is(err, ErrLost) || errors.Is(err, ErrExpired):
			m.log.Warn("place in the queue lost, starting again at its end", "lock", name, "cause", err)
		default:
			return nil, fmt.Errorf("acquire lock %q: %w", name, err)
		}
	}
}

// TryAcquire is Acquire for those who do not want to wait. If name has an owner, or
// somebody who is about to own it, it returns a [*HeldError], which is an [ErrHeld].
func (m *Manager) TryAcquire(ctx context.Context, name string) (*Lock, error) {
	lock, err := m.attempt(ctx, name, m.takeFree)
	if err != nil {
		return nil, fmt.Errorf("try to acquire lock %q: %w", name, err)
	}
	return lock, nil
}

// attempt is one acquisition with one lease. Whatever goes wrong, also if nobody
// knows what did, the lease is revoked, and with it the key if there is one. Only if
// etcd said that there is none, the lease is kept for the next acquisition.
func (m *Manager) attempt(ctx context.Context, name string, join join) (*Lock, error) {
	l, err := m.grant(ctx, name)
	if err != nil {
		return nil, err
	}
	bound, cancel := l.bind(ctx)
	defer cancel()
	token, err := join(bound, l)
	if err == nil {
		err = m.own(l)
	}
	if err != nil {
		why := reason(ctx, l, err)
		if errors.Is(err, ErrHeld) {
			m.putAside(l, why)
		} else {
			m.end(l, why)
		}
		return nil, why
	}
	return m.lock(l, token), nil
}

// lock is what the caller gets.
func (m *Manager) lock(l *lease, token int64) *Lock {
	release := func(ctx context.Context) error { return m.release(ctx, l) }
	return NewLock(lockContext{l}, l.name, token, l.contended, release)
}

// reason says why an acquisition failed: it ended, its caller gave up, or err.
func reason(ctx context.Context, l *lease, err error) error {
	if l.ctx.Err() != nil {
		return context.Cause(l.ctx)
	}
	if ctx.Err() != nil {
		return ctx.Err()
	}
	return err
}

// grant gets a lease of its own for an acquisition, one that was granted for another
// in vain if there is one.
func (m *Manager) grant(ctx context.Context, name string) (*lease, error) {
	if name == "" {
		return nil, errors.New("the name is empty")
	}
	if err := m.awaitRun(ctx); err != nil {
		return nil, err
	}
	asked := time.Now()
	if s, ok := m.takeSpare(asked); ok {
		l := newLease(m, s.id, name, s.trust)
		return l, m.register(l)
	}
	ctx, cancel := context.WithTimeout(ctx, m.ttl)
	defer cancel()
	resp, err := m.client.Grant(ctx, int64(m.ttl/time.Second))
	if err != nil {
		return nil, fmt.Errorf("grant a lease: %w", err)
	}
	granted := newTrust(asked, time.Duration(resp.TTL)*time.Second)
	l := newLease(m, resp.ID, name, granted)
	return l, m.register(l)
}

// awaitRun waits until there is somebody who renews leases.
func (m *Manager) awaitRun(ctx context.Context) error {
	if m.isDraining() {
		return ErrDraining
	}
	select {
	case <-m.running:
		return nil
	case <-ctx.Done():
		return fmt.Errorf("the manager is not running: %w", ctx.Err())
	}
}

func (m *Manager) isDraining() bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.draining
}

// takeFree is how TryAcquire joins.
func (m *Manager) takeFree(ctx context.Context, l *lease) (token int64, err error) {
	resp, err := m.joinTxn(ctx, l, clientv3.OpGet(m.keys.queue(l.name), clientv3.WithFirstCreate()...))
	if err != nil {
		return 0, err
	}
	if !resp.Succeeded {
		holder := newHolder(l.name, resp.Responses[0].GetResponseRange().Kvs[0])
		return 0, &HeldError{Holder: holder}
	}
	m.setPlace(l, resp.Header.Revision)
	return resp.Header.Revision, nil
}

// joinTxn puts the lease's key if there is no other, which makes it the owner, and
// does what is in otherwise if there is one.
func (m *Manager) joinTxn(ctx context.Context, l *lease, otherwise ...clientv3.Op) (*clientv3.TxnResponse, error) {
	free := clientv3.Compare(clientv3.CreateRevision(m.keys.queue(l.name)).WithPrefix(), "=", 0)
	resp, err := m.client.Txn(ctx).If(free).Then(m.put(l)).Else(otherwise...).Commit()
	if errors.Is(err, rpctypes.ErrLeaseNotFound) {
		err = ErrLost
	}
	if err != nil {
		return nil, fmt.Errorf("join the queue: %w", err)
	}
	return resp, nil
}

// put writes the lease's key.
func (m *Manager) put(l *lease) clientv3.Op {
	return clientv3.OpPut(l.key, m.owner, clientv3.WithLease(l.id))
}

// setPlace records the create revision of the lease's key.
func (m *Manager) setPlace(l *lease, place int64) {
	m.mu.Lock()
	defer m.mu.Unlock()
	l.place = place
}

// own records that the ownership of l was confirmed, unless l has ended meanwhile.
func (m *Manager) own(l *lease) error {
	m.checkTrust(l)
	m.mu.Lock()
	defer m.mu.Unlock()
	if l.state == ended {
		return context.Cause(l.ctx)
	}
	if l.place <= l.missed && l.missed != 0 {
		return ErrLost
	}
	l.state = owning
	if l.isContended() {
		close(l.contended)
	}
	return nil
}
