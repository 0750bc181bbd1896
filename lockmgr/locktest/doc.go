// Package locktest tests users of package lockmgr, and package lockmgr. It owns an
// in-memory implementation of the locks, with faults that are to order, and the
// conformance suite that it and the real one pass.
//
// A [Space] stands for an etcd prefix; each owner joins it with a manager of its
// own. Nothing in it waits for time or runs in the background, so it may be used
// within testing/synctest.
package locktest

import (
	"context"

	"github.com/holdfast-io/holdfast/lockmgr"
)

// Locks is what both implementations offer. Users declare the part they need.
type Locks interface {
	Acquire(ctx context.Context, name string) (*lockmgr.Lock, error)
	TryAcquire(ctx context.Context, name string) (*lockmgr.Lock, error)
	Holder(ctx context.Context, name string) (lockmgr.Holder, error)
	Holders(ctx context.Context) ([]lockmgr.Holder, error)
	Evict(ctx context.Context, h lockmgr.Holder) (evicted bool, err error)
	EvictOwner(ctx context.Context, owner string) (evicted int, err error)
	Drain(ctx context.Context) error
}

var (
	_ Locks = (*lockmgr.Manager)(nil)
	_ Locks = (*Manager)(nil)
)
