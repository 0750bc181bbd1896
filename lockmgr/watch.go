package lockmgr

import (
	"context"
	"fmt"
	"time"

	"go.etcd.io/etcd/api/v3/mvccpb"
	clientv3 "go.etcd.io/etcd/client/v3"
)

const (
	// rereadEvery is how often the watch of all keys begins again for no reason but
	// mistrust in watches.
	rereadEvery = time.Minute
	// pageSize is how many keys are read at a time.
	pageSize = 1000
)

// watchKeys tells locks of those who queue behind them, and of the end of their own
// keys, until ctx ends. All names share one watch: etcd finds the watchers of a key
// by range, so one watch of everything is cheaper than ten thousand of one key each.
func (m *Manager) watchKeys(ctx context.Context) {
	for ctx.Err() == nil {
		revision, err := m.readKeys(ctx)
		if err == nil {
			err = m.followKeys(ctx, revision+1)
		}
		if err != nil && ctx.Err() == nil {
			m.log.Debug("watch of the locks interrupted", "error", err)
			pause(ctx, retryPause)
		}
	}
}

// readKeys finds out what a watch from the returned revision on would not tell.
func (m *Manager) readKeys(ctx context.Context) (revision int64, err error) {
	present := make(map[string]bool)
	revision, err = m.scan(ctx, func(kv *mvccpb.KeyValue) {
		if name, id, ok := m.keys.parse(kv.Key); ok {
			present[string(kv.Key)] = m.sawKey(name, id, kv)
		}
	}, clientv3.WithKeysOnly())
	if err != nil {
		return 0, err
	}
	for _, c := range m.missing(present, revision) {
		m.retire(c, ErrLost)
	}
	return revision, nil
}

// followKeys looks at all changes from revision on, for a while.
func (m *Manager) followKeys(ctx context.Context, revision int64) error {
	ctx, cancel := context.WithTimeout(clientv3.WithRequireLeader(ctx), rereadEvery)
	defer cancel()
	changes := m.client.Watch(ctx, string(m.keys), clientv3.WithPrefix(), clientv3.WithRev(revision))
	for resp := range changes {
		if resp.Err() != nil {
			return resp.Err()
		}
		for _, event := range resp.Events {
			m.sawChange(event)
		}
	}
	return nil
}

func (m *Manager) sawChange(event *clientv3.Event) {
	name, id, ok := m.keys.parse(event.Kv.Key)
	switch {
	case !ok:
	case event.Type == mvccpb.Event_PUT:
		m.sawKey(name, id, event.Kv)
	default:
		if c := m.listed(name, string(event.Kv.Key)); c != nil {
			m.retire(c, ErrLost)
		}
	}
}

// sawKey looks at a key that is there. It reports whether it is that of a claim of this
// manager. A key under a lease of this manager that no claim has is a leftover: its
// request was given up, and etcd took it later. Nobody else would delete it as long
// as the lease lives.
func (m *Manager) sawKey(name string, id clientv3.LeaseID, kv *mvccpb.KeyValue) (mine bool) {
	key := string(kv.Key)
	m.sawRival(name, key, kv.CreateRevision)
	mine = m.listed(name, key) != nil
	if l := m.living(id); l != nil && !mine {
		m.freer.later(l, key)
	}
	return mine
}

// lives reports whether a lease may still keep its keys.
func (m *Manager) lives(l *lease) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	return !l.over
}

func (m *Manager) living(id clientv3.LeaseID) *lease {
	m.mu.Lock()
	defer m.mu.Unlock()
	if l := m.leases[id]; l != nil && !l.over {
		return l
	}
	return nil
}

// sawRival records, for each claim of this manager with that name, that a key queues
// behind it, if it does. An event may come before the answer that says which place the
// claim has, so those that wait remember the newest rival.
func (m *Manager) sawRival(name, key string, place int64) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, c := range m.byName[name] {
		if c.key == key || c.rival >= place {
			continue
		}
		c.rival = place
		c.tellContended()
	}
}

// listed returns the claim if it is this manager's and waits or owns.
func (m *Manager) listed(name, key string) *claim {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, c := range m.byName[name] {
		if c.key == key {
			return c
		}
	}
	return nil
}

// missing returns the claims whose key was put before a read of all keys, which did
// not find it. Those of which that is not known yet remember the read for later.
func (m *Manager) missing(present map[string]bool, read int64) (lost []*claim) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, claims := range m.byName {
		for _, c := range claims {
			switch {
			case present[c.key]:
			case c.place == 0:
				c.missed = read
			case c.place <= read:
				lost = append(lost, c)
			}
		}
	}
	return lost
}

// scan calls see for each key of the keyspace, in the order of names, all as of one
// revision, which it returns.
func (m *Manager) scan(ctx context.Context, see func(*mvccpb.KeyValue), opts ...clientv3.OpOption) (revision int64, err error) {
	from, end := string(m.keys), clientv3.GetPrefixRangeEnd(string(m.keys))
	opts = append(opts, clientv3.WithRange(end), clientv3.WithLimit(pageSize))
	for {
		resp, err := m.readPage(ctx, from, append(opts, clientv3.WithRev(revision)))
		if err != nil {
			return 0, fmt.Errorf("read all locks: %w", err)
		}
		for _, kv := range resp.Kvs {
			see(kv)
		}
		if revision == 0 {
			revision = resp.Header.Revision
		}
		if !resp.More {
			return revision, nil
		}
		from = string(resp.Kvs[len(resp.Kvs)-1].Key) + "\x00"
	}
}

func (m *Manager) readPage(ctx context.Context, from string, opts []clientv3.OpOption) (*clientv3.GetResponse, error) {
	ctx, cancel := context.WithTimeout(ctx, m.ttl)
	defer cancel()
	return m.client.Get(ctx, from, opts...)
}
