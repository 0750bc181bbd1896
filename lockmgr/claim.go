package lockmgr

import (
	"context"
	"time"
)

// claim is one acquisition: its key, its place in the queue of the name, and later
// the ownership. There is one per lock, so it is kept small: no goroutine, no timer.
type claim struct {
	m         *Manager
	lease     *lease
	name, key string
	ctx       context.Context // ends with the acquisition, with its cause
	cancel    context.CancelCauseFunc

	// Guarded by Manager.mu.
	state  phase
	place  int64     // create revision of the key; 0 until the first Txn is answered
	missed int64     // revision of a read that did not find the key while place was 0
	rival  int64     // create revision of the newest key that others put under the name
	stuck  time.Time // since when Config.Alive says no; zero while it says yes

	giveUp      context.CancelFunc // ends what waits for the ownership; nil when nothing does
	onContended []func()           // to be called when there is a rival
}

// phase is how far an acquisition has come.
type phase int

const (
	waiting phase = iota
	owning
	ended
)

func newClaim(m *Manager, l *lease, name string, number uint64) *claim {
	c := &claim{m: m, lease: l, name: name, key: m.keys.key(name, l.id, number)}
	c.ctx, c.cancel = context.WithCancelCause(context.Background())
	return c
}

// bind returns a context that ends with ctx or with the acquisition. The lock's own
// context learns nothing of it: what hangs on that stays for as long as the lock.
func (m *Manager) bind(ctx context.Context, c *claim) (context.Context, context.CancelFunc) {
	ctx, cancel := context.WithCancel(ctx)
	m.mu.Lock()
	defer m.mu.Unlock()
	if c.state == ended {
		cancel()
	}
	c.giveUp = cancel
	return ctx, func() {
		cancel()
		m.mu.Lock()
		defer m.mu.Unlock()
		c.giveUp = nil
	}
}

// isContended reports whether somebody queued behind this place.
func (c *claim) isContended() bool { return c.state == owning && c.rival > c.place }

// tellContended calls those who want to know of a rival, if there is one. Caller
// holds Manager.mu.
func (c *claim) tellContended() {
	if !c.isContended() {
		return
	}
	for _, f := range c.onContended {
		go f()
	}
	c.onContended = nil
}

// lockContext is the context of a lock. It looks at the clock before it answers:
// in a process that was stopped, nothing else may have done so yet.
type lockContext struct{ c *claim }

func (x lockContext) Deadline() (time.Time, bool) { return time.Time{}, false }
func (x lockContext) Value(key any) any           { return x.c.ctx.Value(key) }

func (x lockContext) Done() <-chan struct{} {
	x.c.m.checkTrust(x.c.lease)
	return x.c.ctx.Done()
}

func (x lockContext) Err() error {
	x.c.m.checkTrust(x.c.lease)
	return x.c.ctx.Err()
}
