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
	present := make(map[clientv3.LeaseID]bool)
	revision, err = m.scan(ctx, func(kv *mvccpb.KeyValue) {
		if name, id, ok := m.keys.parse(kv.Key); ok {
			present[id] = true
			m.sawRival(name, id, kv.CreateRevision)
		}
	}, clientv3.WithKeysOnly())
	if err != nil {
		return 0, err
	}
	for _, l := range m.missing(present, revision) {
		m.end(l, ErrLost)
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
		m.sawRival(name, id, event.Kv.CreateRevision)
	default:
		if l := m.listed(name, id); l != nil {
			m.end(l, ErrLost)
		}
	}
}

// sawRival records, for each lease of this manager with that name, that the key of
// the lease id queues behind it, if it does. An event may come before the answer that
// says which place the lease has, so waiting leases remember the newest rival.
func (m *Manager) sawRival(name string, id clientv3.LeaseID, place int64) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, l := range m.byName[name] {
		if l.id == id || l.rival >= place {
			continue
		}
		known := l.isContended()
		l.rival = place
		if l.isContended() && !known {
			close(l.contended)
		}
	}
}

// listed returns the lease if it is this manager's and waits or owns.
func (m *Manager) listed(name string, id clientv3.LeaseID) *lease {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, l := range m.byName[name] {
		if l.id == id {
			return l
		}
	}
	return nil
}

// missing returns the leases whose key was put before a read of all keys, which did
// not find it. Those of which that is not known yet remember the read for later.
func (m *Manager) missing(present map[clientv3.LeaseID]bool, read int64) (lost []*lease) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, leases := range m.byName {
		for _, l := range leases {
			switch {
			case present[l.id]:
			case l.place == 0:
				l.missed = read
			case l.place <= read:
				lost = append(lost, l)
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
