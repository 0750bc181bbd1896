package worker

import (
	"context"
	"sync"
	"time"
)

// queue gathers items while a batch of them is under way.
type queue[T any] struct {
	wake chan struct{} // has room for one: "there is something"
	full chan struct{} // has room for one: "there is a whole batch"
	over chan struct{} // closed when nothing is taken out any more

	mu    *sync.Mutex
	items []T
}

func newQueue[T any]() queue[T] {
	return queue[T]{wake: make(chan struct{}, 1), full: make(chan struct{}, 1), over: make(chan struct{}), mu: &sync.Mutex{}}
}

func (q *queue[T]) put(item T) {
	q.mu.Lock()
	q.items = append(q.items, item)
	n := len(q.items)
	q.mu.Unlock()
	poke(q.wake)
	if n >= maxBatch {
		poke(q.full)
	}
}

// depth is how many items wait.
func (q *queue[T]) depth() int {
	q.mu.Lock()
	defer q.mu.Unlock()
	return len(q.items)
}

func poke(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}

// take removes up to maxBatch items, the oldest first. It returns nil when there are fewer
// than least.
func (q *queue[T]) take(least int) []T {
	q.mu.Lock()
	defer q.mu.Unlock()
	n := min(len(q.items), maxBatch)
	if n < least {
		return nil
	}
	batch := q.items[:n:n]
	q.items = q.items[n:]
	return batch
}

// drain hands batches to work until ctx ends, and returns when work has. While one is under
// way, the next one is handed over when it is whole, or when the newest has ended, or has been
// under way for so long that its shard must be far away; at most so many at a time.
func (q *queue[T]) drain(ctx context.Context, most int, work func(context.Context, []T)) {
	defer close(q.over)
	var (
		underWay = 0
		newest   = 0                      // its number
		done     = make(chan int, most)   // numbers of batches
		late     = time.NewTimer(farAway) // runs while the newest batch is not
	)
	defer late.Stop()
	begin := func(batch []T) {
		underWay++
		newest++
		number := newest
		late.Reset(farAway)
		go func() { work(ctx, batch); done <- number }()
	}
	for isLate := false; ; {
		least, wake := maxBatch, q.full
		if underWay == 0 || isLate {
			least, wake = 1, q.wake
		}
		if underWay == most {
			wake = nil
		} else if batch := q.take(least); batch != nil {
			begin(batch)
			isLate = false
			continue
		}
		select {
		case <-ctx.Done():
			for ; underWay > 0; underWay-- {
				<-done
			}
			return
		case <-wake:
		case <-late.C:
			isLate = true
		case number := <-done:
			underWay--
			// The shard is not far away: it is an older batch that takes long.
			isLate = isLate || number == newest
		}
	}
}
