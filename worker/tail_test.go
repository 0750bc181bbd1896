package worker

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/hashicorp/go-hclog"

	"github.com/holdfast-io/holdfast/worker/ledger"
)

// eventLog is a shard of which only the events are looked at.
type eventLog struct {
	mu     sync.Mutex
	events []ledger.Event
	fail   error
	reads  atomic.Int64
}

func (l *eventLog) Name() string { return "eu" }

func (l *eventLog) grow(n int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for range n {
		at := ledger.Cursor{XID: uint64(len(l.events)/10 + 1), ID: uuid.UUID{byte(len(l.events)%10 + 1)}}
		l.events = append(l.events, ledger.Event{Cursor: at, ProductID: []string{"p", "q"}[len(l.events)%2], Kind: ledger.EventPurchased, Units: 1})
	}
}

func (l *eventLog) Events(_ context.Context, after ledger.Cursor, product string, limit int) (*ledger.Page, error) {
	l.reads.Add(1)
	l.mu.Lock()
	defer l.mu.Unlock()
	page := &ledger.Page{Next: after, End: true}
	for _, e := range l.events {
		if !after.Less(e.Cursor) {
			continue
		}
		if limit--; limit < 0 {
			page.End = false
			break
		}
		if page.Next = e.Cursor; product == "" || e.ProductID == product {
			page.Events = append(page.Events, e)
		}
	}
	return page, l.fail
}

func (l *eventLog) EventsEnd(context.Context) (ledger.Cursor, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return ledger.Cursor{XID: uint64(len(l.events)/10 + 1)}, l.fail
}

func newTestTail(t *testing.T, l *eventLog) *tail {
	t.Helper()
	ctx, end := context.WithCancel(t.Context())
	u := newUses()
	t.Cleanup(func() { end(); u.close() })
	return newTail(ctx, l, u, hclog.NewNullLogger())
}

// Whoever takes his time must cost the worker no memory, and lose nothing.
func TestSlowWatcherReadsForItselfAndMissesNothing(t *testing.T) {
	l := &eventLog{}
	l.grow(100)
	tail := newTestTail(t, l)
	defer tail.join()()
	const rounds, each = 60, 500
	done := make(chan struct{})
	go func() {
		defer close(done)
		for range rounds {
			l.grow(each)
			time.Sleep(2 * time.Millisecond)
		}
	}()
	var at ledger.Cursor
	for seen := 0; seen < (100+rounds*each)/2; {
		page, err := tail.next(t.Context(), at, "q")
		if err != nil {
			t.Fatal(err)
		}
		for _, e := range page.Events {
			if want := l.nth(2*seen + 1); e.Cursor != want {
				t.Fatalf("event %d is %v, want %v", seen, e.Cursor, want)
			}
			seen++
		}
		at = page.Next
		tail.mu.Lock()
		kept := len(tail.kept)
		tail.mu.Unlock()
		if kept > tailKept {
			t.Fatalf("%d events are kept", kept)
		}
		time.Sleep(time.Millisecond)
	}
	<-done
}

func (l *eventLog) nth(n int) ledger.Cursor {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.events[n].Cursor
}

// A shard that nobody watches is asked nothing, and one that a hundred watch as often as
// one that one does.
func TestShardIsAskedOnceForAllWatchersAndNotWithoutThem(t *testing.T) {
	l := &eventLog{}
	l.grow(10)
	tail := newTestTail(t, l)
	time.Sleep(3 * tailPause)
	if n := l.reads.Load(); n > 0 {
		t.Errorf("%d reads and nobody watches", n)
	}
	var leave []func()
	for range 100 {
		leave = append(leave, tail.join())
	}
	end, _ := l.EventsEnd(t.Context())
	for range 100 { // they wait for what comes, like watches "from now on"
		go func() {
			for at, err := end, error(nil); err == nil; {
				var page *ledger.Page
				if page, err = tail.next(t.Context(), at, ""); err == nil {
					at = page.Next
				}
			}
		}()
	}
	time.Sleep(4 * tailPause)
	before := l.reads.Load()
	for range 10 {
		l.grow(5)
		time.Sleep(tailPause)
	}
	if n := l.reads.Load() - before; n > 15 {
		t.Errorf("%d reads in %v", n, 10*tailPause)
	}
	for _, f := range leave {
		f()
	}
	time.Sleep(2 * tailPause)
	before = l.reads.Load()
	time.Sleep(4 * tailPause)
	if n := l.reads.Load() - before; n > 0 {
		t.Errorf("%d reads after all have left", n)
	}
}

// A worker that alone is cut off from a shard must not keep those who watch it.
func TestWatchersOfAShardThatDoesNotAnswerAreTold(t *testing.T) {
	l := &eventLog{fail: errors.New("cut off")}
	tail := newTestTail(t, l)
	defer tail.join()()
	tail.mu.Lock()
	tail.answer = time.Now().Add(-tailTimeout)
	tail.mu.Unlock()
	for {
		_, err := tail.next(t.Context(), ledger.Cursor{XID: 1}, "")
		if errors.Is(err, l.fail) {
			return
		}
	}
}

func TestCursorsAreReadAsTheyWereWritten(t *testing.T) {
	for _, c := range []cursors{
		{}, {"eu": {}}, {"eu": {XID: 1<<63 + 5, ID: uuid.New()}, "us-east-1": {XID: 7, ID: uuid.New()}, "": {XID: 1}},
	} {
		got, ok := decodeCursors(c.encode())
		if !ok || len(got) != len(c) {
			t.Fatalf("%v became %v", c, got)
		}
		for shard, at := range c {
			if got[shard] != at {
				t.Errorf("%v became %v", c, got)
			}
		}
	}
}

func FuzzNoTextIsACursorByChance(f *testing.F) {
	f.Add("")
	f.Add("AQ")
	f.Add(cursors{"eu": {XID: 1}, "us": {XID: 2}}.encode())
	f.Fuzz(func(t *testing.T, text string) {
		if c, ok := decodeCursors(text); ok && text != "" && c.encode() != text {
			t.Errorf("%q became %v", text, c)
		}
	})
}
