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
	contended chan struct{}

	// Guarded by Manager.mu.
	state  phase
	place  int64     // create revision of the key; 0 until the first Txn is answered
	missed int64     // revision of a read that did not find the key while place was 0
	rival  int64     // create revision of the newest key that others put under the name
	stuck  time.Time // since when Config.Alive says no; zero while it says yes
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
	c.contended = make(chan struct{})
	c.ctx, c.cancel = context.WithCancelCause(context.Background())
	return c
}

// bind returns a context that ends with ctx or with the acquisition.
func (c *claim) bind(ctx context.Context) (context.Context, context.CancelFunc) {
	ctx, cancel := context.WithCancel(ctx)
	stop := context.AfterFunc(c.ctx, cancel)
	return ctx, func() { stop(); cancel() }
}

// isContended reports whether somebody queued behind this place.
func (c *claim) isContended() bool { return c.state == owning && c.rival > c.place }

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
