package lockmgr

import "context"

// Lock is the ownership of a name, from the moment it was confirmed until its
// context ends. All methods may be called from any goroutine.
type Lock struct {
	name        string
	token       int64
	ctx         context.Context
	onContended func(func())
	release     func(context.Context) error
}

// NewLock puts together a lock from what its issuer decides. [Manager] is one
// issuer, the in-memory implementation in locktest another; users of locks have
// no need of it.
//
// ctx must end, with a cause, when ownership is no longer certain. onContended
// and release must do what [Lock.OnContended] and [Lock.Release] promise; release must
// end ctx with [ErrReleased].
func NewLock(
	ctx context.Context, name string, token int64, onContended func(func()), release func(context.Context) error,
) *Lock {
	return &Lock{name: name, token: token, ctx: ctx, onContended: onContended, release: release}
}

// Name returns the name that was acquired.
func (l *Lock) Name() string { return l.name }

// Token returns the fencing token: the etcd revision of the write that confirmed
// this ownership. It is greater than the token of every earlier owner of the name.
func (l *Lock) Token() int64 { return l.token }

// Context returns a context that ends when ownership is no longer certain;
// [context.Cause] is then [ErrReleased], [ErrLost] or [ErrExpired]. It does not
// depend on the context of Acquire. Its Err and Done look at the clock when they
// are called.
func (l *Lock) Context() context.Context { return l.ctx }

// OnContended has f called, in a goroutine of its own, once somebody else has queued for
// the name, also within this process; at once if somebody has. It is not called if the
// lock ends first. A lock that nobody wants costs no goroutine so.
func (l *Lock) OnContended(f func()) { l.onContended(f) }

// Release gives the lock back. Its context ends at once; then etcd is told. An
// error means that etcd could not be told before ctx ended, or within one TTL:
// rivals may have to wait for the lease, but nothing is left for the caller to do.
// Only the first call does something. Releasing a lock that has ended is no error.
func (l *Lock) Release(ctx context.Context) error { return l.release(ctx) }
