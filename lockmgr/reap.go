package lockmgr

import (
	"context"
	"errors"
	"sync"
	"time"

	"github.com/hashicorp/go-hclog"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"
)

const (
	// reapers is how many revocations are in flight at most. Nobody waits for them,
	// and etcd waits for its disk with each, while others want to acquire.
	reapers = 2
	// reapPause is the time between two tries to revoke the same lease.
	reapPause = 250 * time.Millisecond
)

// reaper revokes leases in the background. It gives up on a lease after one TTL,
// when etcd has forgotten it anyway.
type reaper struct {
	client *clientv3.Client
	done   func(id clientv3.LeaseID) // is called for each lease that was revoked or given up
	log    hclog.Logger

	ctx     context.Context // ends when nothing is tried any more
	stop    context.CancelFunc
	workers sync.WaitGroup

	mu    sync.Mutex
	queue []remains
	busy  int // workers that run
}

// remains is what is left of a lease.
type remains struct {
	id   clientv3.LeaseID
	gone time.Time // when the lease has ended by itself
}

func newReaper(client *clientv3.Client, done func(clientv3.LeaseID), log hclog.Logger) *reaper {
	r := &reaper{client: client, done: done, log: log}
	r.ctx, r.stop = context.WithCancel(context.Background())
	return r
}

// reap has the lease revoked soon.
func (r *reaper) reap(rem remains) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.queue = append(r.queue, rem)
	if r.busy < reapers && r.ctx.Err() == nil {
		r.busy++
		r.workers.Go(r.work)
	}
}

// close gives up what is not yet revoked, and waits for the workers.
func (r *reaper) close() {
	r.mu.Lock()
	r.stop() // under mu: reap starts no worker afterwards
	r.mu.Unlock()
	r.workers.Wait()
}

// work revokes until the queue is empty.
func (r *reaper) work() {
	for {
		rem, ok := r.next()
		if !ok {
			return
		}
		if err := r.revokeUntilGone(rem); err != nil && r.ctx.Err() == nil {
			r.log.Warn("lease not revoked, it expires by itself", "lease", rem.id, "error", err)
		}
		r.done(rem.id)
	}
}

func (r *reaper) next() (remains, bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if len(r.queue) == 0 || r.ctx.Err() != nil {
		r.busy--
		return remains{}, false
	}
	rem := r.queue[0]
	r.queue = r.queue[1:]
	return rem, true
}

func (r *reaper) revokeUntilGone(rem remains) error {
	ctx, cancel := context.WithDeadline(r.ctx, rem.gone)
	defer cancel()
	for {
		err := revoke(ctx, r.client, rem.id)
		if err == nil || ctx.Err() != nil {
			return err
		}
		pause(ctx, reapPause)
	}
}

// revoke ends a lease; one that has ended already is no error.
func revoke(ctx context.Context, client *clientv3.Client, id clientv3.LeaseID) error {
	_, err := client.Revoke(ctx, id)
	if errors.Is(err, rpctypes.ErrLeaseNotFound) {
		return nil
	}
	return err
}
