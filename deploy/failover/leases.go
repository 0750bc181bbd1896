package failover

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"golang.org/x/sync/errgroup"

	"github.com/holdfast-io/holdfast/deploy/local"
)

// samplesPerSecond is how many leases are asked for their remaining TTL, in turn.
const (
	samplesPerSecond = 300
	samplers         = 4
)

// lockWatch looks at the locks from outside: at what happens to their keys, and at
// how long their leases would yet live.
type lockWatch struct {
	client  *clientv3.Client // of the leader: others would ask it, for each lease anew
	prefix  string
	leases  []clientv3.LeaseID
	stop    context.CancelFunc
	parts   errgroup.Group
	lost    atomic.Int64 // keys that were deleted or written again
	samples atomic.Int64
	lowest  atomic.Int64 // remaining TTL, in whole seconds as etcd says it
}

// watchLocks reads all locks and looks at them until end is called.
func (w *world) watchLocks(ctx context.Context, leader *local.EtcdProcess) (*lockWatch, error) {
	client, err := newClient(leader.Endpoint())
	if err != nil {
		return nil, err
	}
	ctx, stop := context.WithCancel(ctx)
	l := &lockWatch{client: client, prefix: w.directory.LockPrefix(), stop: stop}
	l.lowest.Store(1 << 30)
	now, err := client.Get(ctx, l.prefix, clientv3.WithPrefix())
	if err != nil {
		stop()
		return nil, errors.Join(err, client.Close())
	}
	for _, kv := range now.Kvs {
		l.leases = append(l.leases, clientv3.LeaseID(kv.Lease))
	}
	l.parts.Go(func() error { return l.watchKeys(ctx, now.Header.Revision+1) })
	for i := range samplers {
		l.parts.Go(func() error { return l.sample(ctx, i) })
	}
	return l, nil
}

// watchKeys counts all that happens to keys of locks: nobody else acquires one, so
// each event is the end of one, or a second write.
func (l *lockWatch) watchKeys(ctx context.Context, revision int64) error {
	events := l.client.Watch(clientv3.WithRequireLeader(ctx), l.prefix, clientv3.WithPrefix(), clientv3.WithRev(revision))
	for resp := range events {
		if err := resp.Err(); err != nil && ctx.Err() == nil {
			return fmt.Errorf("watch locks: %w", err)
		}
		l.lost.Add(int64(len(resp.Events)))
	}
	if ctx.Err() == nil {
		return errors.New("watch locks: the watch ended")
	}
	return nil
}

// sample asks for the remaining TTL of every lease whose turn it is.
func (l *lockWatch) sample(ctx context.Context, first int) error {
	turn := time.NewTicker(samplers * time.Second / samplesPerSecond)
	defer turn.Stop()
	for i := first; ; i += samplers {
		select {
		case <-ctx.Done():
			return nil
		case <-turn.C:
		}
		lease := l.leases[i%len(l.leases)]
		answer, err := l.client.TimeToLive(ctx, lease)
		if ctx.Err() != nil {
			return nil
		}
		if err != nil {
			return fmt.Errorf("read lease %x: %w", int64(lease), err)
		}
		l.samples.Add(1)
		l.notice(answer.TTL)
	}
}

func (l *lockWatch) notice(remaining int64) {
	for {
		lowest := l.lowest.Load()
		if remaining >= lowest || l.lowest.CompareAndSwap(lowest, remaining) {
			return
		}
	}
}

// end stops looking, and returns an error when it could not look all the time.
func (l *lockWatch) end() error {
	l.stop()
	return errors.Join(l.parts.Wait(), l.client.Close())
}
