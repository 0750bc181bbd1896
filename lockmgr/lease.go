package lockmgr

import (
	"context"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
)

// lease is one acquisition: its etcd lease, its place in the queue of the name,
// and later the ownership. There is one per lock, so it is kept small: no
// goroutine, no timer.
type lease struct {
	m         *Manager
	id        clientv3.LeaseID
	name, key string
	granted   time.Duration   // TTL as granted by the server
	ctx       context.Context // ends with the acquisition, with its cause
	cancel    context.CancelCauseFunc
	contended chan struct{}

	// Guarded by Manager.mu.
	state  phase
	place  int64 // create revision of the key; 0 until the first Txn is answered
	missed int64 // revision of a read that did not find the key while place was 0
	rival  int64 // create revision of the newest key that others put under the name

	// Guarded by renewer.mu.
	trust trust
	index int   // in the renewer's heap
	lane  *lane // renews this lease; nil before and after
}

// phase is how far an acquisition has come.
type phase int

const (
	waiting phase = iota
	owning
	ended
)

func newLease(m *Manager, id clientv3.LeaseID, name string, t trust) *lease {
	l := &lease{m: m, id: id, name: name, key: m.keys.key(name, id), granted: t.ttl, trust: t}
	l.contended = make(chan struct{})
	l.ctx, l.cancel = context.WithCancelCause(context.Background())
	return l
}

// bind returns a context that ends with ctx or with the acquisition.
func (l *lease) bind(ctx context.Context) (context.Context, context.CancelFunc) {
	ctx, cancel := context.WithCancel(ctx)
	stop := context.AfterFunc(l.ctx, cancel)
	return ctx, func() { stop(); cancel() }
}

// isContended reports whether somebody queued behind this place.
func (l *lease) isContended() bool { return l.state == owning && l.rival > l.place }

// lockContext is the context of a lock. It looks at the clock before it answers:
// in a process that was stopped, nothing else may have done so yet.
type lockContext struct{ l *lease }

func (c lockContext) Deadline() (time.Time, bool) { return time.Time{}, false }
func (c lockContext) Value(key any) any           { return c.l.ctx.Value(key) }

func (c lockContext) Done() <-chan struct{} {
	c.l.m.checkTrust(c.l)
	return c.l.ctx.Done()
}

func (c lockContext) Err() error {
	c.l.m.checkTrust(c.l)
	return c.l.ctx.Err()
}
