package coordinator

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/holdfast-io/holdfast/api/cluster"
)

// A large cluster that restarts must not make callers wait longer than a small
// one does: all workers are asked before anybody waits.
func TestPauseGrowsWithTheTimesThatAllWereAsked(t *testing.T) {
	for _, names := range [][]string{{}, {"w1"}, {"w1", "w2", "w3"}} {
		synctest.Test(t, func(t *testing.T) {
			r := newRouter(Config{Metrics: prometheus.NewRegistry(), AttemptTimeout: time.Second, MaxInFlight: 1}, nil)
			r.names, r.peers = names, map[string]*peer{}
			for _, name := range names {
				p := &peer{}
				p.heard.Store(hear(t.Context()))
				r.peers[name] = p
			}
			w := &way{}
			for turn, want := range []time.Duration{20, 40, 80, 160, 320, 500, 500} {
				asked := map[*peer]bool{}
				for p := r.next("p", w); p != nil; p = r.next("p", w) {
					asked[p] = true
				}
				if len(asked) != len(names) {
					t.Fatalf("turn %d: %d of %d workers were asked", turn, len(asked), len(names))
				}
				begun := time.Now()
				r.pause(t.Context(), time.Now().Add(time.Hour), w)
				if got := time.Since(begun); got != want*time.Millisecond {
					t.Errorf("%d workers, turn %d: paused %v, want %v ms", len(names), turn, got, int64(want))
				}
			}
		})
	}
}

// A worker that comes is asked at once.
func TestPauseEndsWhenTheViewChanges(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRouter(Config{Metrics: prometheus.NewRegistry(), AttemptTimeout: time.Second, MaxInFlight: 1}, nil)
		begun := time.Now()
		time.AfterFunc(time.Millisecond, func() { _ = r.update(cluster.View{}) })
		r.pause(t.Context(), time.Now().Add(time.Hour), &way{turn: 100})
		if time.Since(begun) != time.Millisecond {
			t.Errorf("paused %v", time.Since(begun))
		}
	})
}
