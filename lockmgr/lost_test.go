package lockmgr_test

import (
	"context"
	"testing"

	"github.com/holdfast-io/holdfast/deploy/local/localtest"
)

// Every message can be lost in two ways. Afterwards a rival gets the lock without
// waiting for a TTL, and nothing stays behind.
func TestLostMessages(t *testing.T) {
	for _, c := range []struct {
		call    string
		match   func(req any) bool
		behind  bool // Acquire has to wait first
		succeed bool // Acquire copes with it
	}{
		{"grant", isGrant, false, false},
		{"first Txn", isJoin, false, false},
		{"first Txn of a waiter", isJoin, true, false},
		{"look of a waiter", isLook, true, true},
		{"confirmation", isConfirm, true, true},
	} {
		for _, lost := range []direction{request, reply} {
			t.Run(c.call+", "+string(lost), func(t *testing.T) {
				loseOnAcquire(t, lost, c.match, c.behind, c.succeed)
			})
		}
	}
}

func loseOnAcquire(t *testing.T, lost direction, match func(any) bool, behind, succeed bool) {
	direct, prefix := localtest.Etcd(t)
	w := new(wire)
	m := start(t, connect(t, localtest.EtcdEndpoint(t), w.option()), prefix, "a", longTTL)
	rival := start(t, direct, prefix, "b", longTTL)
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()

	w.lose(lost, match, nil)
	var got result
	if behind {
		first := acquire(t, rival, "x")
		results := goAcquire(ctx, m, "x")
		if succeed {
			awaitKeys(t, direct, prefix, 2)
			release(t, first)
		}
		got = <-results
		if !succeed {
			release(t, first)
		}
	} else {
		got = <-goAcquire(ctx, m, "x")
	}
	if succeed != (got.err == nil) {
		t.Fatalf("acquire: %v, want success: %v", got.err, succeed)
	}
	if succeed {
		wantToken(t, direct, prefix, got.lock)
		release(t, got.lock)
	}
	awaitKeys(t, direct, prefix, 0)
	release(t, acquire(t, rival, "x"))
}

// The caller has done its work, and can do nothing about a lock that was not given
// back. The manager can.
func TestLostReleaseIsRepeated(t *testing.T) {
	for _, lost := range []direction{request, reply} {
		t.Run(string(lost), func(t *testing.T) {
			direct, prefix := localtest.Etcd(t)
			w := new(wire)
			m := start(t, connect(t, localtest.EtcdEndpoint(t), w.option()), prefix, "a", longTTL)
			rival := start(t, direct, prefix, "b", longTTL)
			lock := acquire(t, m, "x")
			waiter := enqueue(t, rival, direct, prefix, "x")
			awaitClosed(t, contention(lock), "the waiter") // so the watch has passed the lock's own key
			w.lose(lost, isDelete, nil)
			if err := lock.Release(t.Context()); err == nil {
				t.Error("release did not say that it may have failed")
			}
			if lock.Context().Err() == nil {
				t.Error("the lock goes on")
			}
			release(t, await(t, waiter))
			awaitKeys(t, direct, prefix, 0)
		})
	}
}
