package lockmgr

import (
	"context"
	"errors"
	"fmt"

	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"
)

// join tries to become the owner of the claim's name. It returns the token.
type join func(context.Context, *claim) (token int64, err error)

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
	for {
		lock, err := m.attempt(ctx, name, m.takeFree)
		switch {
		case err == nil:
			return lock, nil
		case errors.Is(err, ErrLost) || errors.Is(err, ErrExpired): // with the lease it was to hang on
		default:
			return nil, fmt.Errorf("try to acquire lock %q: %w", name, err)
		}
	}
}

// attempt is one acquisition. Whatever goes wrong, also if nobody knows what did, its
// key is deleted, unless etcd said that it put none.
func (m *Manager) attempt(ctx context.Context, name string, join join) (*Lock, error) {
	c, err := m.claim(ctx, name)
	if err != nil {
		return nil, err
	}
	bound, cancel := m.bind(ctx, c)
	defer cancel()
	token, err := join(bound, c)
	if err == nil {
		err = m.own(c)
	}
	if err != nil {
		why := reason(ctx, c, err)
		if errors.Is(err, ErrHeld) {
			m.retire(c, why)
		} else {
			m.end(c, why)
		}
		return nil, why
	}
	return m.lock(c, token), nil
}

// lock is what the caller gets.
func (m *Manager) lock(c *claim, token int64) *Lock {
	release := func(ctx context.Context) error { return m.release(ctx, c) }
	return NewLock(lockContext{c}, c.name, token, func(f func()) { m.onContended(c, f) }, release)
}

// reason says why an acquisition failed: it ended, its caller gave up, or err.
func reason(ctx context.Context, c *claim, err error) error {
	if c.ctx.Err() != nil {
		return context.Cause(c.ctx)
	}
	if ctx.Err() != nil {
		return ctx.Err()
	}
	return err
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
func (m *Manager) takeFree(ctx context.Context, c *claim) (token int64, err error) {
	resp, err := m.joinTxn(ctx, c, clientv3.OpGet(m.keys.queue(c.name), clientv3.WithFirstCreate()...))
	if err != nil {
		return 0, err
	}
	if !resp.Succeeded {
		holder := newHolder(c.name, resp.Responses[0].GetResponseRange().Kvs[0])
		return 0, &HeldError{Holder: holder}
	}
	m.setPlace(c, resp.Header.Revision)
	return resp.Header.Revision, nil
}

// joinTxn puts the claim's key if there is no other, which makes it the owner, and
// does what is in otherwise if there is one.
func (m *Manager) joinTxn(ctx context.Context, c *claim, otherwise ...clientv3.Op) (*clientv3.TxnResponse, error) {
	free := clientv3.Compare(clientv3.CreateRevision(m.keys.queue(c.name)).WithPrefix(), "=", 0)
	resp, err := m.client.Txn(ctx).If(free).Then(m.put(c)).Else(otherwise...).Commit()
	if errors.Is(err, rpctypes.ErrLeaseNotFound) {
		m.leaseOver(c.lease, ErrLost)
		err = ErrLost
	}
	if err != nil {
		return nil, fmt.Errorf("join the queue: %w", err)
	}
	return resp, nil
}

// put writes the claim's key.
func (m *Manager) put(c *claim) clientv3.Op {
	return clientv3.OpPut(c.key, m.owner, clientv3.WithLease(c.lease.id))
}

// setPlace records the create revision of the claim's key.
func (m *Manager) setPlace(c *claim, place int64) {
	m.mu.Lock()
	defer m.mu.Unlock()
	c.place = place
}

// own records that the ownership of c was confirmed, unless c has ended meanwhile.
func (m *Manager) own(c *claim) error {
	m.checkTrust(c.lease)
	m.mu.Lock()
	defer m.mu.Unlock()
	if c.state == ended {
		return context.Cause(c.ctx)
	}
	if c.place <= c.missed && c.missed != 0 {
		return ErrLost
	}
	c.state = owning
	return nil
}

func (m *Manager) onContended(c *claim, f func()) {
	m.mu.Lock()
	defer m.mu.Unlock()
	c.onContended = append(c.onContended, f)
	c.tellContended()
}
