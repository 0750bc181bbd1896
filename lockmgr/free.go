package lockmgr

import (
	"context"
	"sync"
)

// keysPerTxn is less than etcd's limit of 128 operations.
const keysPerTxn = 100

// freer deletes keys. What comes while one write is under way is in the next one, and
// what could not be written is tried again while the key's lease lives: after that
// there is no key.
type freer struct {
	deleteKeys func(context.Context, []string) (int, error)
	lives      func(*lease) bool

	ctx     context.Context // ends when nothing is tried any more
	stop    context.CancelFunc
	workers sync.WaitGroup

	mu    sync.Mutex
	queue []freeing
	busy  bool // a worker runs
}

// freeing is a key to be deleted.
type freeing struct {
	lease *lease
	key   string
	done  chan error // has room for the first answer; nil when nobody waits
}

func newFreer(deleteKeys func(context.Context, []string) (int, error), lives func(*lease) bool) *freer {
	f := &freer{deleteKeys: deleteKeys, lives: lives}
	f.ctx, f.stop = context.WithCancel(context.Background())
	return f
}

// later has a key deleted.
func (f *freer) later(l *lease, key string) {
	_ = f.enqueue(freeing{l, key, nil}) // fails when the leases are revoked anyway
}

// free deletes a key. When it fails, or when ctx ends first, the key is deleted later.
func (f *freer) free(ctx context.Context, l *lease, key string) error {
	it := freeing{l, key, make(chan error, 1)}
	if err := f.enqueue(it); err != nil {
		return err
	}
	select {
	case err := <-it.done:
		return err
	case <-ctx.Done():
		return ctx.Err()
	}
}

func (f *freer) enqueue(it freeing) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if err := f.ctx.Err(); err != nil {
		return err
	}
	f.queue = append(f.queue, it)
	if !f.busy {
		f.busy = true
		f.workers.Go(f.work)
	}
	return nil
}

// work writes until the queue is empty.
func (f *freer) work() {
	for {
		some := f.next()
		if some == nil {
			return
		}
		err := f.write(some)
		for _, it := range some {
			if it.done != nil {
				it.done <- err
			}
		}
		if err != nil {
			f.again(some)
			pause(f.ctx, retryPause)
		}
	}
}

func (f *freer) write(some []freeing) error {
	keys := make([]string, len(some))
	for i, it := range some {
		keys[i] = it.key
	}
	_, err := f.deleteKeys(f.ctx, keys)
	return err
}

// again queues keys that could not be deleted and whose leases live.
func (f *freer) again(some []freeing) {
	for _, it := range some {
		if f.lives(it.lease) {
			f.mu.Lock()
			f.queue = append(f.queue, freeing{it.lease, it.key, nil})
			f.mu.Unlock()
		}
	}
}

// next returns some keys, or nil when the worker is to end.
func (f *freer) next() []freeing {
	f.mu.Lock()
	defer f.mu.Unlock()
	if len(f.queue) == 0 || f.ctx.Err() != nil {
		f.busy, f.queue = false, nil
		return nil
	}
	n := min(len(f.queue), keysPerTxn)
	some := f.queue[:n:n]
	f.queue = f.queue[n:]
	return some
}

// close gives up what is not yet deleted, and waits for the worker.
func (f *freer) close() {
	f.mu.Lock()
	f.stop() // under mu: enqueue starts no worker afterwards
	f.mu.Unlock()
	f.workers.Wait()
}
