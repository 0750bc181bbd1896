package failover

import (
	"testing"
	"time"
)

func TestProcessorTimeOfAnyProgram(t *testing.T) {
	for _, tt := range []struct {
		stat string
		want time.Duration
	}{
		{"7 (holdfast) S 1 7 7 0 -1 4194304 100 0 0 0 1234 66 0 0 20 0 9 0 5 6 7", 13 * time.Second},
		{"7 (a (b) c 1 2) R 1 7 7 0 -1 4194304 100 0 0 0 5 0 0 0 20 0 9 0 5 6 7", 50 * time.Millisecond},
	} {
		if got, err := parseProcessorTime([]byte(tt.stat)); err != nil || got != tt.want {
			t.Errorf("%s: %v, %v, want %v", tt.stat, got, err, tt.want)
		}
	}
	for _, stat := range []string{"", "7 (holdfast) S 1", "7 (holdfast) S 1 7 7 0 -1 4194304 100 0 0 0 x 66 0"} {
		if got, err := parseProcessorTime([]byte(stat)); err == nil {
			t.Errorf("%q: %v and no error", stat, got)
		}
	}
}

func TestResidentPages(t *testing.T) {
	if got, err := parseResident([]byte("1000 250 30 4 0 5 0\n")); err != nil || got != 250 {
		t.Errorf("%v, %v, want 250", got, err)
	}
	for _, statm := range []string{"", "1000", "1000 many"} {
		if got, err := parseResident([]byte(statm)); err == nil {
			t.Errorf("%q: %v and no error", statm, got)
		}
	}
}
