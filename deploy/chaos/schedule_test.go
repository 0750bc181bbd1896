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

// A run of a minute has every kind of fault, whatever the seed.
func TestEveryFaultComesInAMinute(t *testing.T) {
	for seed := range uint64(200) {
		counts := map[string]int{}
		busyUntil := map[string]time.Duration{}
		for _, e := range Schedule(seed, time.Minute, Faults()) {
			counts[e.Fault.Name]++
			if e.At < busyUntil[e.Fault.Lane] || e.At+e.Hold > time.Minute {
				t.Fatalf("seed %d: %s at %v overlaps its lane", seed, e.Fault.Name, e.At)
			}
			busyUntil[e.Fault.Lane] = e.At + e.Hold
		}
		for _, f := range Faults() {
			if counts[f.Name] == 0 {
				t.Fatalf("seed %d: no %s in a minute", seed, f.Name)
			}
		}
	}
}

func TestUnknownFaultIsRefused(t *testing.T) {
	if _, err := Only("holder-killed,earthquake"); err == nil {
		t.Error("accepted")
	}
}
