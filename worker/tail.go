package worker

import (
	"context"
	"slices"
	"sync"
	"time"

	"github.com/hashicorp/go-hclog"

	"github.com/holdfast-io/holdfast/worker/ledger"
)

const (
	// tailPause is between two looks at the end of a shard's events, while somebody watches.
	// NOTIFY would tell at once, and cost every sale: a transaction that notifies commits
	// under a lock of the whole server, one after the other.
	tailPause = 50 * time.Millisecond
	// tailPage is how many events one look takes at most, and tailKept how many of the newest
	// are kept for those who watch. Who is further behind reads the shard himself.
	tailPage = 1000
	tailKept = 8 * tailPage
	// tailTimeout is until a shard that does not answer those who watch has not answered.
	tailTimeout = 5 * time.Second
	// idleMove is how often a place in a shard moves on in which nothing happens that is
	// watched for.
	idleMove = time.Second
)

// events is what a tail needs of its shard.
type events interface {
	Name() string
	Events(ctx context.Context, after ledger.Cursor, productID string, limit int) (*ledger.Page, error)
	EventsEnd(ctx context.Context) (ledger.Cursor, error)
}

// tail follows the end of one shard's events, while somebody watches, for all who do.
type tail struct {
	shard events
	log   hclog.Logger
	base  context.Context // of the term; ends when its watches are to end
	uses  *uses

	mu      sync.Mutex
	watches int
	stop    context.CancelFunc // of the following; nil when nobody watches
	kept    []ledger.Event     // all that happened after from, up to to; only ever appended to
	from    ledger.Cursor
	to      ledger.Cursor
	started bool          // from and to are set
	moved   chan struct{} // closed when one of these has changed
	answer  time.Time     // the last one of the shard
	err     error         // why there is none for too long
}

func newTail(base context.Context, shard events, uses *uses, log hclog.Logger) *tail {
	return &tail{shard: shard, log: log.With("shard", shard.Name()), base: base, uses: uses, moved: make(chan struct{})}
}

// join has the tail followed from now on at least, until leave is called.
func (t *tail) join() (leave func()) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.watches++; t.watches == 1 {
		ctx, stop := context.WithCancel(t.base)
		t.stop, t.started, t.err, t.answer = stop, false, nil, time.Now()
		if t.uses.begin() {
			go func() { defer t.uses.end(); t.follow(ctx) }()
		}
	}
	return sync.OnceFunc(func() {
		t.mu.Lock()
		defer t.mu.Unlock()
		if t.watches--; t.watches == 0 {
			t.stop()
			t.kept, t.started = nil, false
		}
	})
}

// follow looks at the end again and again, until ctx ends.
func (t *tail) follow(ctx context.Context) {
	to, started := ledger.Cursor{}, false
	for told := time.Now(); ctx.Err() == nil; {
		page, err := t.look(ctx, to, started)
		if err != nil {
			t.failed(ctx, err)
			pause(ctx, 5*tailPause)
			continue
		}
		to = page.Next
		tell := !started || len(page.Events) > 0 || time.Since(told) > idleMove
		if t.add(ctx, page, !started, tell); tell {
			told = time.Now()
		}
		if started = true; page.End {
			pause(ctx, tailPause)
		}
	}
}

// look reads the next events, or at first only where they begin.
func (t *tail) look(ctx context.Context, to ledger.Cursor, started bool) (*ledger.Page, error) {
	ctx, cancel := context.WithTimeout(ctx, tailTimeout)
	defer cancel()
	if started {
		return t.shard.Events(ctx, to, "", tailPage)
	}
	end, err := t.shard.EventsEnd(ctx)
	return &ledger.Page{Next: end, End: true}, err
}

func (t *tail) failed(ctx context.Context, err error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if ctx.Err() == nil && t.err == nil && time.Since(t.answer) > tailTimeout {
		t.log.Warn("events not read", "error", err)
		t.err = err
		t.tell()
	}
}

func (t *tail) add(ctx context.Context, page *ledger.Page, first, tell bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if ctx.Err() != nil {
		return // another one may follow already
	}
	if first {
		t.from, t.kept, t.started = page.Next, nil, true
	}
	if drop := len(t.kept) + len(page.Events) - tailKept; drop > 0 {
		drop = min(max(drop, tailKept/2), len(t.kept))
		t.from = t.kept[drop-1].Cursor
		t.kept = slices.Clone(t.kept[drop:]) // what was given out stays as it is
	}
	t.kept, t.to = append(t.kept, page.Events...), page.Next
	t.answer, t.err = time.Now(), nil
	if tell {
		t.tell()
	}
}

// tell wakes those who wait. The caller holds mu.
func (t *tail) tell() {
	close(t.moved)
	t.moved = make(chan struct{})
}

// next returns the events of a product, or of all, that come next after a place, and waits
// until it can get further. The caller has joined.
func (t *tail) next(ctx context.Context, after ledger.Cursor, productID string) (*ledger.Page, error) {
	for {
		page, behind, moved, err := t.keptAfter(after, productID)
		if err == nil && behind {
			limited, cancel := context.WithTimeout(ctx, tailTimeout)
			page, err = t.shard.Events(limited, after, productID, tailPage)
			cancel()
		}
		if err != nil || after.Less(page.Next) {
			return page, err
		}
		select {
		case <-moved:
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
}

// keptAfter returns what is kept, or that it does not reach back that far.
func (t *tail) keptAfter(after ledger.Cursor, productID string) (page *ledger.Page, behind bool, moved <-chan struct{}, err error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	page = &ledger.Page{Next: after}
	if t.err != nil || !t.started || after.Less(t.from) {
		return page, t.err == nil, t.moved, t.err
	}
	first, _ := slices.BinarySearchFunc(t.kept, after, func(e ledger.Event, after ledger.Cursor) int {
		if after.Less(e.Cursor) {
			return 1
		}
		return -1
	})
	some := t.kept[first:]
	if after.Less(t.to) {
		page.Next = t.to
	}
	if len(some) > tailPage {
		some = some[:tailPage]
		page.Next = some[tailPage-1].Cursor
	}
	if page.Events = some; productID != "" {
		page.Events = slices.DeleteFunc(slices.Clone(some), func(e ledger.Event) bool { return e.ProductID != productID })
	}
	return page, false, t.moved, nil
}

// uses counts what uses the shards of a term besides its tenures, so that they are closed
// after it.
type uses struct {
	mu    sync.Mutex
	n     int
	over  bool
	ended chan struct{} // closed when over and n is 0
}

func newUses() *uses { return &uses{ended: make(chan struct{})} }

// begin reports whether the shards may be used, until end is called.
func (u *uses) begin() bool {
	u.mu.Lock()
	defer u.mu.Unlock()
	if !u.over {
		u.n++
	}
	return !u.over
}

func (u *uses) end() {
	u.mu.Lock()
	defer u.mu.Unlock()
	if u.n--; u.over && u.n == 0 {
		close(u.ended)
	}
}

// close lets nothing more begin, and returns when all has ended.
func (u *uses) close() {
	u.mu.Lock()
	if !u.over {
		if u.over = true; u.n == 0 {
			close(u.ended)
		}
	}
	u.mu.Unlock()
	<-u.ended
}
