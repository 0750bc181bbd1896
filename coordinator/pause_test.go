package coordinator

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/holdfast-io/holdfast/api/cluster"
)

// A large cluster that restarts must not make callers wait longer than a small
// one does.
func TestPauseGrowsWithTheTimesThatAllWereAsked(t *testing.T) {
	for _, workers := range []int{1, 2, 7} {
		synctest.Test(t, func(t *testing.T) {
			r := newRouter(time.Second, nil)
			for turn, want := range []time.Duration{20, 40, 80, 160, 320, 500, 500} {
				for i := range workers {
					begun := time.Now()
					if err := r.pause(t.Context(), turn*workers+i, workers); err != nil {
						t.Fatal(err)
					}
					want := want * time.Millisecond
					if i < workers-1 {
						want = 0
					}
					if got := time.Since(begun); got != want {
						t.Errorf("%d workers, turn %d, worker %d: paused %v, want %v", workers, turn, i, got, want)
					}
				}
			}
		})
	}
}

// A worker that comes is asked at once.
func TestPauseEndsWhenTheViewChanges(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRouter(time.Second, nil)
		begun := time.Now()
		time.AfterFunc(time.Millisecond, func() { _ = r.update(cluster.View{}) })
		if err := r.pause(t.Context(), 100, 0); err != nil || time.Since(begun) != time.Millisecond {
			t.Errorf("paused %v, %v", time.Since(begun), err)
		}
	})
}
