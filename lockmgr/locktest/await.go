package locktest

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/holdfast-io/holdfast/lockmgr"
)

// acquire returns a lock that is released at the end of the test.
func acquire(t *testing.T, locks Locks, name string) *lockmgr.Lock {
	t.Helper()
	return wait(t, locks, name).lock(t)
}

// pending is a call of Acquire that may not have returned yet.
type pending struct{ outcome chan outcome }

type outcome struct {
	lock *lockmgr.Lock
	err  error
}

// wait calls Acquire. The test ends only after it has returned, and releases what it
// returned.
func wait(t *testing.T, locks Locks, name string) pending {
	return waitWith(t.Context(), t, locks, name)
}

func waitWith(ctx context.Context, t *testing.T, locks Locks, name string) pending {
	p := pending{make(chan outcome, 1)}
	done := make(chan struct{})
	go func() { //nolint:gosec // the release must not depend on a context that has ended
		defer close(done)
		lock, err := locks.Acquire(ctx, name)
		p.outcome <- outcome{lock, err}
		<-t.Context().Done()
		if lock != nil {
			_ = lock.Release(context.Background())
		}
	}()
	t.Cleanup(func() { <-done })
	return p
}

// lock waits for the lock.
func (p pending) lock(t *testing.T) *lockmgr.Lock {
	t.Helper()
	got := p.result(t)
	if got.err != nil {
		t.Fatal(got.err)
	}
	return got.lock
}

// err waits for the failure.
func (p pending) err(t *testing.T) error {
	t.Helper()
	got := p.result(t)
	if got.err == nil {
		t.Fatalf("got lock %q, want an error", got.lock.Name())
	}
	return got.err
}

func (p pending) result(t *testing.T) outcome {
	t.Helper()
	select {
	case got := <-p.outcome:
		return got
	case <-time.After(patience):
		t.Fatal("Acquire did not return")
		return outcome{}
	}
}

// wantNothing fails if the call has returned.
func (p pending) wantNothing(t *testing.T) {
	t.Helper()
	select {
	case got := <-p.outcome:
		t.Fatalf("Acquire returned %v, %v, want it to wait", got.lock, got.err)
	default:
	}
}

func release(t *testing.T, lock *lockmgr.Lock) {
	t.Helper()
	if err := lock.Release(t.Context()); err != nil {
		t.Fatal(err)
	}
}

// evict evicts whoever holds name.
func evict(t *testing.T, locks Locks, name string) {
	t.Helper()
	holder, err := locks.Holder(t.Context(), name)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := locks.Evict(t.Context(), holder); err != nil {
		t.Fatal(err)
	}
}

func awaitClosed(t *testing.T, c <-chan struct{}, what string) {
	t.Helper()
	select {
	case <-c:
	case <-time.After(patience):
		t.Fatalf("waited in vain for %s", what)
	}
}

// wantEnd waits for the end of a lock.
func wantEnd(t *testing.T, lock *lockmgr.Lock, cause error) {
	t.Helper()
	awaitClosed(t, lock.Context().Done(), "the end of the lock")
	if got := context.Cause(lock.Context()); !errors.Is(got, cause) {
		t.Errorf("lock ended with %v, want %v", got, cause)
	}
}

// wantHolder checks who holds name; a token of 0 is any token.
func wantHolder(t *testing.T, locks Locks, name, owner string, token int64) {
	t.Helper()
	got, err := locks.Holder(t.Context(), name)
	if err != nil {
		t.Fatal(err)
	}
	if got.Owner != owner || got.Name != name || token != 0 && got.Token != token {
		t.Errorf("holder of %q is %+v, want %s with token %d", name, got, owner, token)
	}
}

// wantRise checks that the token is greater than the last one, and replaces it.
func wantRise(t *testing.T, last *int64, lock *lockmgr.Lock) {
	t.Helper()
	if lock.Token() <= *last {
		t.Errorf("token %d after %d", lock.Token(), *last)
	}
	*last = lock.Token()
}

// contention returns a channel that is closed once the lock is contended.
func contention(lock *lockmgr.Lock) <-chan struct{} {
	contended := make(chan struct{})
	lock.OnContended(func() { close(contended) })
	return contended
}
