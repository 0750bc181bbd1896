package failover

import (
	"testing"
	"time"
)

// A percentile that is interpolated is a wait that nobody had, and of few samples
// it hides the worst.
func TestPercentileIsAWaitThatSomebodyHad(t *testing.T) {
	fifty := make([]time.Duration, 50) // 50, 49, … 1 seconds
	for i := range fifty {
		fifty[i] = time.Duration(50-i) * time.Second
	}
	for _, tt := range []struct {
		name  string
		waits []time.Duration
		p     float64
		want  time.Duration
	}{
		{"none", nil, 99, 0},
		{"one, median", fifty[:1], 50, 50 * time.Second},
		{"one, worst", fifty[:1], 100, 50 * time.Second},
		{"two, median", fifty[:2], 50, 49 * time.Second},
		{"fifty, least", fifty, 0, time.Second},
		{"fifty, median", fifty, 50, 25 * time.Second},
		{"fifty, 98", fifty, 98, 49 * time.Second},
		{"fifty, 99 is the worst", fifty, 99, 50 * time.Second},
		{"fifty, worst", fifty, 100, 50 * time.Second},
	} {
		if got := percentile(tt.waits, tt.p); got != tt.want {
			t.Errorf("%s: %v, want %v", tt.name, got, tt.want)
		}
	}
	if fifty[0] != 50*time.Second {
		t.Error("the waits were sorted in place")
	}
}
