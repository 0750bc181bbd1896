package failover

import (
	"testing"
	"time"
)

const plenty = 1000 // room for more than is due

// What was due while the sender slept is sent at once, as due when it was, so
// that its wait is not forgotten.
func TestPaceSendsWhatIsDue(t *testing.T) {
	p := &pace{start: time.Unix(0, 0), rate: 100} // one every 10 ms
	for _, tt := range []struct {
		now  time.Duration
		want []time.Duration
	}{
		{-time.Millisecond, nil},
		{0, []time.Duration{0}},
		{5 * time.Millisecond, nil},
		{30 * time.Millisecond, []time.Duration{10 * time.Millisecond, 20 * time.Millisecond, 30 * time.Millisecond}},
		{39 * time.Millisecond, nil},
	} {
		sent := p.take(p.start.Add(tt.now), plenty)
		if len(sent) != len(tt.want) {
			t.Fatalf("after %v: %d sent, want %d", tt.now, len(sent), len(tt.want))
		}
		for i, due := range sent {
			if got := due.Sub(p.start); got != tt.want[i] {
				t.Errorf("after %v: due at %v, want %v", tt.now, got, tt.want[i])
			}
		}
	}
	if p.notSent != 0 {
		t.Errorf("%d not sent, want 0", p.notSent)
	}
	if wait := p.wait(p.start.Add(39 * time.Millisecond)); wait != time.Millisecond {
		t.Errorf("waits %v, want 1ms", wait)
	}
}

// A load that was not offered must not be taken for one that was served.
func TestPaceCountsWhatIsNotSent(t *testing.T) {
	for _, tt := range []struct {
		name          string
		now           time.Duration
		room          int
		sent, notSent int
	}{
		{"in time", 50 * time.Millisecond, plenty, 6, 0},
		{"just in time", maxLate, plenty, 11, 0},
		{"half of it too late", 2*maxLate + 5*time.Millisecond, plenty, 10, 11},
		{"no room", 50 * time.Millisecond, 0, 0, 6},
		{"less than no room", 50 * time.Millisecond, -1, 0, 6},
		{"room for two", 50 * time.Millisecond, 2, 2, 4},
	} {
		p := &pace{start: time.Unix(0, 0), rate: 100}
		sent := p.take(p.start.Add(tt.now), tt.room)
		if len(sent) != tt.sent || p.notSent != tt.notSent {
			t.Errorf("%s: %d sent and %d not, want %d and %d", tt.name, len(sent), p.notSent, tt.sent, tt.notSent)
		}
	}
}

// An hour at a rate that is no whole number of nanoseconds is still that rate.
func TestPaceDoesNotDrift(t *testing.T) {
	p := &pace{start: time.Unix(0, 0), rate: 300}
	if due := p.due(300 * 3600).Sub(p.start); due != time.Hour {
		t.Errorf("the last one is due after %v", due)
	}
}
