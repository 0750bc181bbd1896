package lockmgr

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"time"

	"go.etcd.io/etcd/api/v3/mvccpb"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"
)

const (
	// pollEvery is how soon a waiter finds out about a delete that its watch did
	// not tell it of.
	pollEvery = time.Second
	// retryPause is the time between two tries after an error.
	retryPause = 100 * time.Millisecond
)

// view is what a waiter knows of its queue.
type view struct {
	revision    int64  // at which this was true
	predecessor string // the key right before the waiter's own; empty if none is
}

// queueUp is how Acquire joins. Once in the queue, a waiter outlives all errors but
// the end of its lease: its place is kept by etcd.
func (m *Manager) queueUp(ctx context.Context, c *claim) (token int64, err error) {
	token, seen, err := m.enqueue(ctx, c)
	if err != nil {
		return 0, err
	}
	for token == 0 {
		if seen.predecessor == "" {
			token, err = m.confirm(ctx, c)
		} else {
			err = m.awaitDelete(ctx, c, seen)
		}
		if token != 0 {
			break
		}
		if err != nil {
			m.retryLater(ctx, c, err)
		}
		if seen, err = m.lookAgain(ctx, c); err != nil {
			return 0, err
		}
	}
	return token, nil
}

// lookAgain looks until it succeeds, the claim's key is found to be gone, or ctx
// ends.
func (m *Manager) lookAgain(ctx context.Context, c *claim) (view, error) {
	for {
		seen, err := m.look(ctx, c)
		if err == nil || errors.Is(err, ErrLost) || ctx.Err() != nil {
			return seen, err
		}
		m.retryLater(ctx, c, err)
	}
}

func (m *Manager) retryLater(ctx context.Context, c *claim, err error) {
	m.log.Debug("waiting for lock goes on after an error", "lock", c.name, "error", err)
	pause(ctx, retryPause)
}

// enqueue is the first Txn. It returns a token if the name was free.
func (m *Manager) enqueue(ctx context.Context, c *claim) (token int64, seen view, err error) {
	lastTwo := clientv3.OpGet(m.keys.queue(c.name), clientv3.WithPrefix(), clientv3.WithKeysOnly(),
		clientv3.WithSort(clientv3.SortByCreateRevision, clientv3.SortDescend), clientv3.WithLimit(2))
	resp, err := m.joinTxn(ctx, c, m.put(c), lastTwo)
	if err != nil {
		return 0, view{}, err
	}
	m.setPlace(c, resp.Header.Revision)
	if resp.Succeeded {
		return resp.Header.Revision, view{}, nil
	}
	// The queue was not empty, so the last but one is there.
	before := resp.Responses[1].GetResponseRange().Kvs[1]
	return 0, view{resp.Header.Revision, string(before.Key)}, nil
}

// look reads the claim's key and the one right before it. It returns ErrLost if the
// lease's key is gone.
func (m *Manager) look(ctx context.Context, c *claim) (view, error) {
	ctx, cancel := context.WithTimeout(ctx, c.lease.granted/4)
	defer cancel()
	before := append(clientv3.WithLastCreate(), clientv3.WithMaxCreateRev(c.place-1), clientv3.WithKeysOnly())
	resp, err := m.client.Txn(ctx).Then(
		clientv3.OpGet(c.key, clientv3.WithCountOnly()),
		clientv3.OpGet(m.keys.queue(c.name), before...),
	).Commit()
	if err != nil {
		return view{}, fmt.Errorf("read the queue: %w", err)
	}
	if resp.Responses[0].GetResponseRange().Count == 0 {
		return view{}, ErrLost
	}
	seen := view{revision: resp.Header.Revision}
	for _, kv := range resp.Responses[1].GetResponseRange().Kvs {
		seen.predecessor = string(kv.Key)
	}
	return seen, nil
}

// awaitDelete returns when the predecessor or the claim's own key was deleted after
// what was seen, when it is time to look anyway, or when the watch failed.
func (m *Manager) awaitDelete(ctx context.Context, c *claim, seen view) error {
	jittered := pollEvery*3/4 + rand.N(pollEvery/2)
	ctx, cancel := context.WithTimeout(clientv3.WithRequireLeader(ctx), jittered)
	defer cancel()
	deletes := m.client.Watch(ctx, m.keys.queue(c.name), clientv3.WithPrefix(),
		clientv3.WithRev(seen.revision+1), clientv3.WithFilterPut())
	for resp := range deletes {
		if errors.Is(resp.Err(), rpctypes.ErrCompacted) {
			return nil // only the news are lost, not the place
		}
		if resp.Err() != nil {
			return fmt.Errorf("watch the queue: %w", resp.Err())
		}
		for _, event := range resp.Events {
			key := string(event.Kv.Key)
			if event.Type == mvccpb.Event_DELETE && (key == seen.predecessor || key == c.key) {
				return nil
			}
		}
	}
	return nil
}

// confirm makes the claim the owner if its key is still the one that was put in the
// queue, and no key is older. Otherwise it returns no token.
func (m *Manager) confirm(ctx context.Context, c *claim) (token int64, err error) {
	ctx, cancel := context.WithTimeout(ctx, c.lease.granted/4)
	defer cancel()
	queue := m.keys.queue(c.name)
	mine := clientv3.Compare(clientv3.CreateRevision(c.key), "=", c.place)
	first := clientv3.Compare(clientv3.CreateRevision(queue).WithPrefix(), ">", c.place-1)
	newest := clientv3.OpGet(queue, append(clientv3.WithLastCreate(), clientv3.WithKeysOnly())...)
	resp, err := m.client.Txn(ctx).If(mine, first).Then(m.put(c), newest).Commit()
	if err != nil {
		return 0, fmt.Errorf("confirm the ownership: %w", err)
	}
	if !resp.Succeeded {
		return 0, nil
	}
	last := resp.Responses[1].GetResponseRange().Kvs[0]
	if name, _, ok := m.keys.parse(last.Key); ok {
		m.sawRival(name, string(last.Key), last.CreateRevision)
	}
	return resp.Header.Revision, nil
}
