package lockmgr

import (
	"context"
	"fmt"
	"time"

	"go.etcd.io/etcd/api/v3/mvccpb"
	clientv3 "go.etcd.io/etcd/client/v3"
)

const (
	// rereadEvery is how often the contention watch begins again for no reason but
	// mistrust in watches.
	rereadEvery = time.Minute
	// pageSize is how many keys are read at a time.
	pageSize = 1000
)

// watchContention tells locks of those who queue behind them, until ctx ends. All
// names share one watch: etcd finds the watchers of a key by range, so one watch of
// everything is cheaper than ten thousand of one key each.
func (m *Manager) watchContention(ctx context.Context) {
	for ctx.Err() == nil {
		revision, err := m.scan(ctx, m.sawKey, clientv3.WithKeysOnly())
		if err == nil {
			err = m.followPuts(ctx, revision+1)
		}
		if err != nil && ctx.Err() == nil {
			m.log.Debug("contention watch interrupted", "error", err)
			pause(ctx, retryPause)
		}
	}
}

// followPuts looks at all keys that are put from revision on, for a while.
func (m *Manager) followPuts(ctx context.Context, revision int64) error {
	ctx, cancel := context.WithTimeout(clientv3.WithRequireLeader(ctx), rereadEvery)
	defer cancel()
	puts := m.client.Watch(ctx, string(m.keys), clientv3.WithPrefix(),
		clientv3.WithRev(revision), clientv3.WithFilterDelete())
	for resp := range puts {
		if resp.Err() != nil {
			return resp.Err()
		}
		for _, event := range resp.Events {
			m.sawKey(event.Kv)
		}
	}
	return nil
}

// sawKey records, for each lease of this manager with the name of the key, that the
// key queues behind it, if it does. An event may come before the answer that says
// which place the lease has, so waiting leases remember the newest rival.
func (m *Manager) sawKey(kv *mvccpb.KeyValue) {
	name, id, ok := m.keys.parse(kv.Key)
	if !ok {
		return
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, l := range m.byName[name] {
		if l.id == id || l.rival >= kv.CreateRevision {
			continue
		}
		known := l.isContended()
		l.rival = kv.CreateRevision
		if l.isContended() && !known {
			close(l.contended)
		}
	}
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
