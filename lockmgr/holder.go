package lockmgr

import (
	"context"
	"fmt"
	"slices"

	"go.etcd.io/etcd/api/v3/mvccpb"
	clientv3 "go.etcd.io/etcd/client/v3"
)

// Holder is somebody who owns a name, as seen by reading etcd. When it is looked at
// it may be past.
type Holder struct {
	Name  string
	Owner string // Config.Owner of the holder's manager
	// Token is the holder's token. If the first in the queue has not confirmed its
	// ownership yet, it is the revision of its place, which is smaller than the
	// token it will get.
	Token int64
	// Key tells acquisitions apart. It is the etcd key of this one.
	Key string
}

func newHolder(name string, kv *mvccpb.KeyValue) Holder {
	return Holder{
		Name:  name,
		Owner: string(kv.Value),
		Token: kv.ModRevision,
		Key:   string(kv.Key),
	}
}

// Holder returns who owns name, or [ErrNotHeld].
func (m *Manager) Holder(ctx context.Context, name string) (Holder, error) {
	ctx, cancel := context.WithTimeout(ctx, m.ttl)
	defer cancel()
	resp, err := m.client.Get(ctx, m.keys.queue(name), clientv3.WithFirstCreate()...)
	if err != nil {
		return Holder{}, fmt.Errorf("read holder of lock %q: %w", name, err)
	}
	if len(resp.Kvs) == 0 {
		return Holder{}, fmt.Errorf("lock %q: %w", name, ErrNotHeld)
	}
	return newHolder(name, resp.Kvs[0]), nil
}

// Holders returns all owners below the prefix, without those who wait, in the order
// of their escaped names.
func (m *Manager) Holders(ctx context.Context) ([]Holder, error) {
	var holders []Holder
	var first int64 // create revision of the last holder's key
	_, err := m.scan(ctx, func(kv *mvccpb.KeyValue) {
		name, _, ok := m.keys.parse(kv.Key)
		last := len(holders) - 1
		switch {
		case !ok:
		case last < 0 || holders[last].Name != name:
			holders, first = append(holders, newHolder(name, kv)), kv.CreateRevision
		case kv.CreateRevision < first:
			holders[last], first = newHolder(name, kv), kv.CreateRevision
		}
	})
	return holders, err
}

// Evict takes a lock from a holder that is believed to be dead, by deleting its key;
// the next in the queue owns the name at once. A holder that is not dead goes on
// until it hears of it. That is safe only because the guarded work is fenced by the
// token: never evict where it is not. A holder that is not what h says any more is
// not affected, and that is no error: it has left, or acquired the name again, or
// confirmed its ownership since h was read, which the dead do not. Evict reports
// whether it was h that was evicted.
func (m *Manager) Evict(ctx context.Context, h Holder) (evicted bool, err error) {
	ctx, cancel := context.WithTimeout(ctx, m.ttl)
	defer cancel()
	unchanged := clientv3.Compare(clientv3.ModRevision(h.Key), "=", h.Token)
	resp, err := m.client.Txn(ctx).If(unchanged).Then(clientv3.OpDelete(h.Key)).Commit()
	if err != nil {
		return false, fmt.Errorf("evict %s from lock %q: %w", h.Owner, h.Name, err)
	}
	return resp.Succeeded, nil
}

// EvictOwner evicts an owner that is known to be dead from all that it holds and waits
// for, a hundred keys in a write, and returns how many there were. What Evict says of
// holders that are alive goes here too. Owner strings must then tell processes apart:
// whoever has the same is evicted as well.
func (m *Manager) EvictOwner(ctx context.Context, owner string) (evicted int, err error) {
	var keys []string
	_, err = m.scan(ctx, func(kv *mvccpb.KeyValue) {
		if string(kv.Value) == owner {
			keys = append(keys, string(kv.Key))
		}
	})
	if err != nil {
		return 0, fmt.Errorf("evict %s: %w", owner, err)
	}
	for some := range slices.Chunk(keys, keysPerTxn) {
		n, err := m.deleteKeys(ctx, some)
		evicted += n
		if err != nil {
			return evicted, fmt.Errorf("evict %s: %w", owner, err)
		}
	}
	return evicted, nil
}

// deleteKeys needs no guard: no key is ever put for a second claim.
func (m *Manager) deleteKeys(ctx context.Context, keys []string) (deleted int, err error) {
	ctx, cancel := context.WithTimeout(ctx, m.ttl)
	defer cancel()
	deletes := make([]clientv3.Op, len(keys))
	for i, key := range keys {
		deletes[i] = clientv3.OpDelete(key)
	}
	resp, err := m.client.Txn(ctx).Then(deletes...).Commit()
	if err != nil {
		return 0, err
	}
	for _, r := range resp.Responses {
		deleted += int(r.GetResponseDeleteRange().GetDeleted())
	}
	return deleted, nil
}
