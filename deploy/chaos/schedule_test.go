package chaos

import (
	"fmt"
	"testing"
	"time"
)

// A seed that found something must find the same faults again.
func TestSeedDrawsOneSchedule(t *testing.T) {
	draw := func(seed uint64) string {
		text := ""
		for _, e := range Schedule(seed, time.Minute, Faults()) {
			text += fmt.Sprintln(e.At, e.Hold, e.Fault.Name, e.Pick)
		}
		return text
	}
	if first, second := draw(7), draw(7); first != second {
		t.Error("one seed drew two schedules")
	}
	if draw(7) == draw(8) {
		t.Error("two seeds drew one schedule")
	}
}

// A run of a minute has every kind of fault, whatever the seed: also when
// injecting and healing take longer than drawn, for which a third of it is left.
// And no kind is so rare that it is hardly tried.
func TestEveryFaultComesInAMinute(t *testing.T) {
	const seeds = 500
	total := map[string]int{}
	for seed := range uint64(seeds) {
		first := map[string]time.Duration{}
		busyUntil := map[string]time.Duration{}
		for _, e := range Schedule(seed, time.Minute, Faults()) {
			total[e.Fault.Name]++
			if _, again := first[e.Fault.Name]; !again {
				first[e.Fault.Name] = e.At
			}
			if e.At < busyUntil[e.Fault.Lane] || e.At+e.Hold > time.Minute {
				t.Fatalf("seed %d: %s at %v overlaps its lane", seed, e.Fault.Name, e.At)
			}
			busyUntil[e.Fault.Lane] = e.At + e.Hold
		}
		for _, f := range Faults() {
			if at, ok := first[f.Name]; !ok || at > 40*time.Second {
				t.Fatalf("seed %d: %s comes first at %v", seed, f.Name, at)
			}
		}
	}
	for name, times := range total {
		if mean := float64(times) / seeds; mean < 1.5 || mean > 3 {
			t.Errorf("%s comes %.1f times in a minute", name, mean)
		}
	}
}

func TestUnknownFaultIsRefused(t *testing.T) {
	if _, err := Only("holder-killed,earthquake"); err == nil {
		t.Error("accepted")
	}
}
