package lockmgr

import (
	"errors"
	"fmt"
)

var (
	// ErrHeld is what TryAcquire returns, as a [HeldError], when the name has an
	// owner.
	ErrHeld = errors.New("lock is held")
	// ErrNotHeld is returned by Holder when nobody owns the name.
	ErrNotHeld = errors.New("lock is not held")
	// ErrDraining is returned to everybody who acquires, or waits to, after Drain
	// was called or Run has ended.
	ErrDraining = errors.New("lock manager is draining")

	// ErrReleased is the cause of a lock's end when its owner gave it back, by
	// Release or by Drain.
	ErrReleased = errors.New("lock was released")
	// ErrLost is the cause of a lock's end when etcd no longer has its key or its
	// lease.
	ErrLost = errors.New("lock was lost: its key or its lease is gone")
	// ErrExpired is the cause of a lock's end when no renewal was answered in
	// time. etcd may keep the lock a little longer than that, never shorter.
	ErrExpired = errors.New("lock expired: its lease was not renewed in time")
)

// HeldError says who owns the name that TryAcquire did not get. It is an
// [ErrHeld].
type HeldError struct {
	Holder Holder
}

func (e *HeldError) Error() string {
	return fmt.Sprintf("%v by %s (token %d)", ErrHeld, e.Holder.Owner, e.Holder.Token)
}

// Unwrap makes errors.Is(err, ErrHeld) true.
func (e *HeldError) Unwrap() error { return ErrHeld }
