package lockmgr

import (
	"testing"

	"go.etcd.io/etcd/api/v3/mvccpb"
	clientv3 "go.etcd.io/etcd/client/v3"
)

// A read of the keys may fall between the first Txn and its answer. If the key was put
// and deleted before the read, no event will ever tell.
func TestEvictionBeforeTheFirstAnswerIsSeen(t *testing.T) {
	for _, c := range []struct {
		name        string
		place, read int64
		lost        bool
	}{
		{"key put before the read", 5, 7, true},
		{"key put after the read", 9, 7, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			m, l := newIdleManager(t)
			defer m.end(l, ErrReleased)
			if lost := m.missing(nil, c.read); len(lost) > 0 {
				t.Error("ended a lease that may have put no key yet")
			}
			m.setPlace(l, c.place)
			if err := m.own(l); (err != nil) != c.lost {
				t.Errorf("owned: %v", err)
			}
		})
	}
}

// Keys come and go behind an owner; only the end of its own concerns it.
func TestOnlyTheOwnKeysDeletionEndsALease(t *testing.T) {
	m, l := newIdleManager(t)
	deleted := func(id clientv3.LeaseID) *clientv3.Event {
		return &clientv3.Event{Type: mvccpb.Event_DELETE, Kv: &mvccpb.KeyValue{Key: []byte(m.keys.key(l.name, id))}}
	}
	m.sawChange(deleted(l.id + 1))
	if l.ctx.Err() != nil {
		t.Error("ended by the deletion of another key")
	}
	m.sawChange(deleted(l.id))
	if l.ctx.Err() == nil {
		t.Error("goes on after the deletion of its key")
	}
}
