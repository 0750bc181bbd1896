package locktest

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"

	"github.com/holdfast-io/holdfast/lockmgr"
)

func TestSpaceConforms(t *testing.T) {
	Conformance(t, func(*testing.T) Join {
		space := NewSpace()
		return func(owner string) Locks { return space.Join(owner) }
	})
}

func TestExpiredOwnerIsToldAndTheNextOwns(t *testing.T) {
	space := NewSpace()
	a, b := space.Join("a"), space.Join("b")
	space.Expire("x") // nobody's
	old := acquire(t, a, "x")
	next := wait(t, b, "x")
	awaitClosed(t, contention(old), "contention")
	space.Expire("x")
	wantEnd(t, old, lockmgr.ErrExpired)
	if lock := next.lock(t); lock.Token() <= old.Token() {
		t.Errorf("token went from %d to %d", old.Token(), lock.Token())
	}
}

func TestDeposedOwnerStillBelieves(t *testing.T) {
	space := NewSpace()
	a, b := space.Join("a"), space.Join("b")
	old := acquire(t, a, "x")
	space.Depose("x")
	newer := acquire(t, b, "x")
	if old.Context().Err() != nil || newer.Token() <= old.Token() {
		t.Errorf("deposed owner: %v, token went from %d to %d", old.Context().Err(), old.Token(), newer.Token())
	}
	release(t, old)
	wantHolder(t, a, "x", "b", newer.Token())
}

func TestInterruptedSpaceFailsAndKeepsLocks(t *testing.T) {
	space, away := NewSpace(), errors.New("away")
	a, b := space.Join("a"), space.Join("b")
	x, y := acquire(t, a, "x"), acquire(t, a, "y")
	waiter := wait(t, b, "x")
	awaitClosed(t, contention(x), "contention")
	space.Interrupt(away)
	if _, err := b.TryAcquire(t.Context(), "z"); !errors.Is(err, away) {
		t.Errorf("acquire: %v", err)
	}
	if _, err := b.Holders(t.Context()); !errors.Is(err, away) {
		t.Errorf("holders: %v", err)
	}
	if err := x.Release(t.Context()); !errors.Is(err, away) {
		t.Errorf("release: %v", err)
	}
	wantEnd(t, x, lockmgr.ErrReleased)
	waiter.wantNothing(t)
	space.Interrupt(nil)
	waiter.lock(t)
	if y.Context().Err() != nil {
		t.Errorf("lock ended by the interruption: %v", context.Cause(y.Context()))
	}
}

// Users test their logic in bubbles of their own time.
func TestSpaceWorksInABubble(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		space := NewSpace()
		a, b := space.Join("a"), space.Join("b")
		old := acquire(t, a, "x")
		next := wait(t, b, "x")
		synctest.Wait()
		if space.Waiters("x") != 1 {
			t.Fatal("nobody waits")
		}
		next.wantNothing(t)
		release(t, old)
		next.lock(t)
	})
}
