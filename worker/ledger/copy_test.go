package ledger

import (
	"context"
	"fmt"
	"io"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/holdfast-io/holdfast/deploy/local/localtest"
)

// What a client that stalled in the middle of a batch has sent must delay nobody who
// repeats these purchases under the next tenure.
func TestStalledCopyHoldsNothing(t *testing.T) {
	s, err := Open(Config{Name: "eu", DSN: localtest.Databases(t, "eu")["eu"]})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Close)
	if _, err := s.Migrate(t.Context()); err != nil {
		t.Fatal(err)
	}
	begin := func(token int64) *Fence {
		f := &Fence{ProductID: "p", Topology: 1, Token: token, TenureID: uuid.New()}
		if _, err := s.Raise(t.Context(), *f); err != nil {
			t.Fatal(err)
		}
		return f
	}
	rows := func(f *Fence, n int) []*Purchase {
		rows := make([]*Purchase, n)
		for i := range rows {
			rows[i] = &Purchase{PurchaseID: uuid.New(), ProductID: "p", RequestID: fmt.Sprint(i), Amount: 1, Fence: f}
		}
		return rows
	}

	conn, err := s.pool.Acquire(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Release()
	sent := newBatch(rows(begin(1), MaxBatch)).encode()
	reader, writer := io.Pipe()
	var stalled sync.WaitGroup
	stalled.Go(func() {
		_, err := conn.Conn().PgConn().CopyFrom(context.Background(), reader, copyPurchases)
		if !violates(err, oneOutcome) { // found at the end of it
			t.Errorf("the stalled batch: %v", err)
		}
	})
	if _, err := writer.Write(sent[:len(sent)-len(copyTrailer)]); err != nil {
		t.Fatal(err)
	}
	for arrived := int64(0); arrived < MaxBatch; time.Sleep(time.Millisecond) {
		err := s.list.QueryRow(t.Context(), "SELECT coalesce(max(tuples_processed), 0) FROM pg_stat_progress_copy").Scan(&arrived)
		if err != nil {
			t.Fatal(err)
		}
	}

	outcomes, err := s.Commit(t.Context(), rows(begin(2), 3))
	if err != nil || outcomes[0] != Inserted {
		t.Errorf("repeated under the next tenure: %v, %v", outcomes, err)
	}
	if _, err := writer.Write(sent[len(sent)-len(copyTrailer):]); err != nil {
		t.Fatal(err)
	}
	if err := writer.Close(); err != nil {
		t.Fatal(err)
	}
	stalled.Wait()
}

// A count that went below zero would never end.
func TestWaryShardCalmsDown(t *testing.T) {
	const batches, callers = 5, 8
	for range 1000 {
		s := &Shard{}
		s.wary.Store(batches)
		var asked sync.WaitGroup
		for range callers {
			asked.Go(func() { s.isWary() })
		}
		asked.Wait()
		if s.isWary() {
			t.Fatalf("after %d batches %d are left", callers, s.wary.Load())
		}
	}
}
