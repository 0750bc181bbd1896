package locktest

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/holdfast-io/holdfast/lockmgr"
)

// patience is how long a test waits for what must happen. It is no measure of
// speed: tests run on busy machines.
const patience = 30 * time.Second

// Join returns the locks of one more owner in the space of one test.
type Join func(owner string) Locks

// Conformance tests the promises of package lockmgr that hold for every
// implementation. open begins an empty space; it is called once per subtest. Leases, if
// there are any, must be so long that none is renewed or ends within a minute.
func Conformance(t *testing.T, open func(t *testing.T) Join) {
	promises := []struct {
		name string
		keep func(t *testing.T, join Join)
	}{
		{"FreeLockIsGranted", freeLockIsGranted},
		{"EmptyNameIsRefused", emptyNameIsRefused},
		{"NamesDoNotMix", namesDoNotMix},
		{"HeldLockIsRefused", heldLockIsRefused},
		{"WaitersAreServedInOrder", waitersAreServedInOrder},
		{"TokensRise", tokensRise},
		{"CancelledWaiterLeavesTheQueue", cancelledWaiterLeavesTheQueue},
		{"ReleaseEndsTheLockOnce", releaseEndsTheLockOnce},
		{"ReleaseNeverFreesANewerLock", releaseNeverFreesANewerLock},
		{"EvictLetsTheWaiterIn", evictLetsTheWaiterIn},
		{"EvictNeverHitsANewerLock", evictNeverHitsANewerLock},
		{"EvictHitsOnlyWhatWasSeen", evictHitsOnlyWhatWasSeen},
		{"EvictedOwnerLearnsItAtOnce", evictedOwnerLearnsItAtOnce},
		{"EvictedOwnerMayComeAgain", evictedOwnerMayComeAgain},
		{"EvictOwnerTakesAllOfIt", evictOwnerTakesAllOfIt},
		{"ContentionIsSeen", contentionIsSeen},
		{"ContentionBeforeOwnershipIsSeen", contentionBeforeOwnershipIsSeen},
		{"ContentionWithinOneOwnerIsSeen", contentionWithinOneOwnerIsSeen},
		{"HoldersAreListedWithoutWaiters", holdersAreListedWithoutWaiters},
		{"DrainEndsEverything", drainEndsEverything},
	}
	for _, p := range promises {
		t.Run(p.name, func(t *testing.T) { p.keep(t, open(t)) })
	}
}

func freeLockIsGranted(t *testing.T, join Join) {
	a := join("a")
	if _, err := a.Holder(t.Context(), "x"); !errors.Is(err, lockmgr.ErrNotHeld) {
		t.Errorf("holder before: %v, want ErrNotHeld", err)
	}
	lock := acquire(t, a, "x")
	if lock.Name() != "x" || lock.Token() <= 0 || lock.Context().Err() != nil {
		t.Errorf("got name %q, token %d, context %v", lock.Name(), lock.Token(), lock.Context().Err())
	}
	wantHolder(t, a, "x", "a", lock.Token())
}

func emptyNameIsRefused(t *testing.T, join Join) {
	if _, err := join("a").TryAcquire(t.Context(), ""); err == nil {
		t.Error("acquired a lock without a name")
	}
}

func namesDoNotMix(t *testing.T, join Join) {
	a, b := join("a"), join("b")
	names := []string{"a", "a/", "a/b", "a%2Fb", "/", "%", ".", "..", " ", "ä\x00\n", "\xff"}
	for _, name := range names {
		acquire(t, a, name)
	}
	for _, name := range names {
		if _, err := b.TryAcquire(t.Context(), name); !errors.Is(err, lockmgr.ErrHeld) {
			t.Errorf("second owner of %q: %v, want ErrHeld", name, err)
		}
	}
	acquire(t, b, "b")
}

func heldLockIsRefused(t *testing.T, join Join) {
	a, b := join("a"), join("b")
	lock := acquire(t, a, "x")
	_, err := b.TryAcquire(t.Context(), "x")
	var held *lockmgr.HeldError
	if !errors.As(err, &held) || !errors.Is(err, lockmgr.ErrHeld) {
		t.Fatalf("got %v, want a HeldError", err)
	}
	if h := held.Holder; h.Name != "x" || h.Owner != "a" || h.Token != lock.Token() {
		t.Errorf("refused because of %+v, want a with token %d", h, lock.Token())
	}
}

func waitersAreServedInOrder(t *testing.T, join Join) {
	a, b, c := join("a"), join("b"), join("c")
	first := acquire(t, a, "x")
	second := wait(t, b, "x")
	awaitClosed(t, contention(first), "a sees b")
	third := wait(t, c, "x")
	release(t, first)
	lock := second.lock(t)
	awaitClosed(t, contention(lock), "b sees c")
	third.wantNothing(t)
	release(t, lock)
	wantHolder(t, a, "x", "c", third.lock(t).Token())
}

func tokensRise(t *testing.T, join Join) {
	a, b := join("a"), join("b")
	lock, last := acquire(t, a, "x"), int64(0)
	for range 5 {
		next := wait(t, b, "x")
		awaitClosed(t, contention(lock), "contention")
		release(t, lock)
		lock = next.lock(t)
		wantRise(t, &last, lock)
		release(t, lock)
		lock = acquire(t, a, "x")
		wantRise(t, &last, lock)
	}
}

func cancelledWaiterLeavesTheQueue(t *testing.T, join Join) {
	a, b := join("a"), join("b")
	lock := acquire(t, a, "x")
	ctx, cancel := context.WithCancel(t.Context())
	abandoned := waitWith(ctx, t, b, "x")
	awaitClosed(t, contention(lock), "contention")
	cancel()
	if err := abandoned.err(t); !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled waiter got %v", err)
	}
	release(t, lock)
	acquire(t, a, "x")
}

func releaseEndsTheLockOnce(t *testing.T, join Join) {
	a, b := join("a"), join("b")
	lock := acquire(t, a, "x")
	child, cancel := context.WithCancel(lock.Context())
	defer cancel()
	release(t, lock)
	wantEnd(t, lock, lockmgr.ErrReleased)
	awaitClosed(t, child.Done(), "the end of a derived context")
	acquire(t, b, "x")
	release(t, lock)
	wantHolder(t, a, "x", "b", 0)
}

func releaseNeverFreesANewerLock(t *testing.T, join Join) {
	a, b := join("a"), join("b")
	old := acquire(t, a, "x")
	evict(t, b, "x")
	newer := acquire(t, b, "x")
	release(t, old)
	wantHolder(t, a, "x", "b", newer.Token())
	if newer.Context().Err() != nil {
		t.Errorf("newer lock ended: %v", context.Cause(newer.Context()))
	}
}

func evictLetsTheWaiterIn(t *testing.T, join Join) {
	a, b := join("a"), join("b")
	old := acquire(t, a, "x")
	next := wait(t, b, "x")
	awaitClosed(t, contention(old), "contention")
	evict(t, b, "x")
	if lock := next.lock(t); lock.Token() <= old.Token() {
		t.Errorf("token went from %d to %d", old.Token(), lock.Token())
	}
	wantEnd(t, old, lockmgr.ErrLost)
}

func evictNeverHitsANewerLock(t *testing.T, join Join) {
	a := join("a")
	old := acquire(t, a, "x")
	stale, err := a.Holder(t.Context(), "x")
	if err != nil {
		t.Fatal(err)
	}
	release(t, old)
	newer := acquire(t, a, "x")
	if evicted, err := a.Evict(t.Context(), stale); evicted || err != nil {
		t.Errorf("evict who has left: %t, %v", evicted, err)
	}
	wantHolder(t, a, "x", "a", newer.Token())
}

func evictHitsOnlyWhatWasSeen(t *testing.T, join Join) {
	a, b := join("a"), join("b")
	lock := acquire(t, a, "x")
	seen, err := b.Holder(t.Context(), "x")
	if err != nil {
		t.Fatal(err)
	}
	before := seen
	before.Token--
	if evicted, err := b.Evict(t.Context(), before); evicted || err != nil {
		t.Errorf("evict who has confirmed since: %t, %v", evicted, err)
	}
	wantHolder(t, b, "x", "a", lock.Token())
	if evicted, err := b.Evict(t.Context(), seen); !evicted || err != nil {
		t.Errorf("evict the holder: %t, %v", evicted, err)
	}
	acquire(t, b, "x")
}

// A dead process may have held ten thousand.
func evictOwnerTakesAllOfIt(t *testing.T, join Join) {
	dead, heir := join("dead"), join("heir")
	x, y := acquire(t, dead, "x"), acquire(t, dead, "y")
	kept := acquire(t, heir, "z")
	if n, err := heir.EvictOwner(t.Context(), "dead"); n != 2 || err != nil {
		t.Errorf("evicted %d, %v; want 2", n, err)
	}
	for _, lock := range []*lockmgr.Lock{x, y} {
		awaitClosed(t, lock.Context().Done(), "the end of "+lock.Name())
		acquire(t, heir, lock.Name())
	}
	if err := kept.Context().Err(); err != nil {
		t.Errorf("the other owner's lock has ended: %v", err)
	}
	if n, err := heir.EvictOwner(t.Context(), "nobody"); n != 0 || err != nil {
		t.Errorf("evicted %d of nobody's, %v", n, err)
	}
}

// No renewal can tell it, and no waiter.
func evictedOwnerLearnsItAtOnce(t *testing.T, join Join) {
	a, b := join("a"), join("b")
	x, y := acquire(t, a, "x"), acquire(t, a, "y")
	evict(t, b, "x")
	wantEnd(t, x, lockmgr.ErrLost)
	if y.Context().Err() != nil {
		t.Errorf("the other lock ended too: %v", context.Cause(y.Context()))
	}
}

func evictedOwnerMayComeAgain(t *testing.T, join Join) {
	a, b := join("a"), join("b")
	last := int64(0)
	for range 3 {
		lock := acquire(t, a, "x")
		wantRise(t, &last, lock)
		evict(t, b, "x")
		wantEnd(t, lock, lockmgr.ErrLost)
	}
	wantRise(t, &last, acquire(t, b, "x"))
}

func contentionIsSeen(t *testing.T, join Join) {
	a, b := join("a"), join("b")
	x, y := acquire(t, a, "x"), acquire(t, a, "y")
	other := contention(y)
	wait(t, b, "x")
	awaitClosed(t, contention(x), "contention")
	select {
	case <-other:
		t.Error("the other lock is contended too")
	default:
	}
}

func contentionBeforeOwnershipIsSeen(t *testing.T, join Join) {
	a, b, c := join("a"), join("b"), join("c")
	first := acquire(t, a, "x")
	second := wait(t, b, "x")
	awaitClosed(t, contention(first), "contention")
	wait(t, c, "x")
	release(t, first)
	awaitClosed(t, contention(second.lock(t)), "contention from before")
}

func contentionWithinOneOwnerIsSeen(t *testing.T, join Join) {
	a := join("a")
	first := acquire(t, a, "x")
	second := wait(t, a, "x")
	awaitClosed(t, contention(first), "contention")
	second.wantNothing(t)
	release(t, first)
	second.lock(t)
}

func holdersAreListedWithoutWaiters(t *testing.T, join Join) {
	a, b := join("a"), join("b")
	x := acquire(t, a, "x")
	y := acquire(t, b, "y/z")
	wait(t, b, "x")
	awaitClosed(t, contention(x), "contention")
	got, err := a.Holders(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for i, want := range []*lockmgr.Lock{x, y} {
		if len(got) != 2 || got[i].Name != want.Name() || got[i].Token != want.Token() {
			t.Fatalf("got holders %+v, want those of x and y/z", got)
		}
	}
}

func drainEndsEverything(t *testing.T, join Join) {
	a, b := join("a"), join("b")
	mine, theirs := acquire(t, a, "x"), acquire(t, b, "y")
	waiter := wait(t, a, "y")
	awaitClosed(t, contention(theirs), "contention")
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	if err := a.Drain(ctx); err != nil {
		t.Fatalf("drain: %v", err)
	}
	wantEnd(t, mine, lockmgr.ErrReleased)
	if err := waiter.err(t); !errors.Is(err, lockmgr.ErrDraining) {
		t.Errorf("waiter got %v, want ErrDraining", err)
	}
	if _, err := a.Acquire(t.Context(), "z"); !errors.Is(err, lockmgr.ErrDraining) {
		t.Errorf("later caller got %v, want ErrDraining", err)
	}
	if _, err := b.TryAcquire(t.Context(), "x"); err != nil {
		t.Errorf("lock is not free after drain: %v", err)
	}
}
