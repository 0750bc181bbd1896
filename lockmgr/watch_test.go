package lockmgr

import (
	"testing"

	"go.etcd.io/etcd/api/v3/mvccpb"
	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/holdfast-io/holdfast/deploy/local/localtest"
)

// A read of the keys may fall between the first Txn and its answer. If the key was put
// and deleted before the read, no event will ever tell.
func TestEvictionBeforeTheFirstAnswerIsSeen(t *testing.T) {
	for _, tt := range []struct {
		name        string
		place, read int64
		lost        bool
	}{
		{"key put before the read", 5, 7, true},
		{"key put after the read", 9, 7, false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			m, c := newIdleManager(t)
			if lost := m.missing(nil, tt.read); len(lost) > 0 {
				t.Error("ended a claim that may have put no key yet")
			}
			m.setPlace(c, tt.place)
			if err := m.own(c); (err != nil) != tt.lost {
				t.Errorf("owned: %v", err)
			}
		})
	}
}

// Keys come and go behind an owner; only the end of its own concerns it.
func TestOnlyTheOwnKeysDeletionEndsAClaim(t *testing.T) {
	m, c := newIdleManager(t)
	deleted := func(key string) *clientv3.Event {
		return &clientv3.Event{Type: mvccpb.Event_DELETE, Kv: &mvccpb.KeyValue{Key: []byte(key)}}
	}
	m.sawChange(deleted(m.keys.key(c.name, c.lease.id, 1_000_000)))
	if c.ctx.Err() != nil {
		t.Error("ended by the deletion of another key")
	}
	m.sawChange(deleted(c.key))
	if c.ctx.Err() == nil {
		t.Error("goes on after the deletion of its key")
	}
}

// newIdleManager returns a manager that does not run, with a claim that waits.
func newIdleManager(t *testing.T) (*Manager, *claim) {
	t.Helper()
	client, prefix := localtest.Etcd(t)
	m, err := New(Config{Client: client, Prefix: prefix, Owner: "a"})
	if err != nil {
		t.Fatal(err)
	}
	m.begin()
	t.Cleanup(func() { m.freer.close(); m.reaper.close() })
	c, err := m.claim(t.Context(), "x")
	if err != nil {
		t.Fatal(err)
	}
	return m, c
}
