package failover

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/holdfast-io/holdfast/deploy/local"
	"github.com/holdfast-io/holdfast/deploy/local/localtest"
)

func TestMain(m *testing.M) { localtest.Main(m) }

// Whatever dies, no buyer goes without an answer and the books are in order. The
// speed is not looked at: other tests may keep the machine busy.
func TestExperimentsLoseNothing(t *testing.T) {
	binary := buildHoldfast(t)
	t.Run("kill", func(t *testing.T) {
		f, err := Kill(t.Context(), KillConfig{
			Config: config(t, binary), Kills: 2, LockTTL: 2 * time.Second, Buyers: 4,
		})
		if err != nil {
			t.Fatal(err)
		}
		checkVerdict(t, f.Verdict)
		if f.P50MS <= 0 || f.WorstMS < f.P99MS || f.LongestWaitMS <= 0 || f.FirstAnswerWorstMS > f.WorstMS {
			t.Errorf("figures do not fit together: %+v", f)
		}
	})
	t.Run("drain", func(t *testing.T) {
		f, err := Drain(t.Context(), DrainConfig{
			Config: config(t, binary), Products: 10, Rate: 50, Before: time.Second,
		})
		if err != nil {
			t.Fatal(err)
		}
		checkVerdict(t, f.Verdict)
		if f.LongestWaitMS <= 0 || f.LongestWaitBeforeMS <= 0 || f.DrainedMS <= 0 || f.Held < 10 {
			t.Errorf("figures do not fit together: %+v", f)
		}
	})
	t.Run("quorum", func(t *testing.T) {
		f, err := Quorum(t.Context(), QuorumConfig{
			Config: config(t, binary), Outage: 3 * time.Second, LockTTL: 2 * time.Second, Products: 10, Before: time.Second,
		})
		if err != nil {
			t.Fatal(err)
		}
		checkVerdict(t, f.Verdict)
		if f.RateBefore <= 0 || f.RateDuring <= 0 || f.BackSinceHealMS <= 0 || f.BackMS > f.BackSinceHealMS {
			t.Errorf("figures do not fit together: %+v", f)
		}
	})
	t.Run("holds", func(t *testing.T) {
		f, err := Holds(t.Context(), HoldsConfig{
			Config: config(t, binary), Holds: 50, Hold: 3 * time.Second, Repetitions: 2,
		})
		if err != nil {
			t.Fatal(err)
		}
		checkVerdict(t, f.Verdict)
		if f.SoldAgain != 100 || f.Purchases != 200 || len(f.WaitsMS) != 2 || f.WorstMS < f.P50MS || f.P50MS <= 0 || f.RefusedWorstMS <= 0 {
			t.Errorf("figures do not fit together: %+v", f)
		}
	})
	t.Run("locks", func(t *testing.T) {
		f, err := Locks(t.Context(), LocksConfig{
			Config: config(t, binary), Products: 50, Duration: time.Second, Rate: 50,
		})
		if err != nil {
			t.Fatal(err)
		}
		checkVerdict(t, f.Verdict)
		if f.LeaseSamples == 0 || f.LowestTTLMS > f.LockTTLMS || f.Reached <= 0 || f.MemoryHeld <= 0 || f.TakeoverMS <= 0 {
			t.Errorf("figures do not fit together: %+v", f)
		}
	})
}

func checkVerdict(t *testing.T, v Verdict) {
	t.Helper()
	if v.Failed != 0 || v.Oversold != 0 || v.Purchases == 0 {
		t.Errorf("%d purchases, %d failed, %d oversold", v.Purchases, v.Failed, v.Oversold)
	}
}

// A promise that is broken in one repetition only is broken.
func TestHoldsPromiseIsOfTheWorstWait(t *testing.T) {
	kept := HoldsFigures{Holds: 10, Repetitions: 2, P50MS: 8, WorstMS: 99, SoldAgain: 20}
	if err := kept.Promise(); err != nil {
		t.Errorf("a promise that was kept: %v", err)
	}
	late, lost := kept, kept
	late.WorstMS, lost.SoldAgain = 100, 19
	for name, f := range map[string]HoldsFigures{"worst_ms": late, "sold_again": lost} {
		if err := f.Promise(); err == nil || !strings.Contains(err.Error(), name) {
			t.Errorf("%s: got %v", name, err)
		}
	}
}

// Who has mistyped a flag must be told which, and at once.
func TestFieldOutOfRangeIsNamed(t *testing.T) {
	for name, run := range map[string]func() error{
		"kills":    func() error { _, err := Kill(t.Context(), KillConfig{LockTTL: 1, Buyers: 1}); return err },
		"lock-ttl": func() error { _, err := Quorum(t.Context(), QuorumConfig{Outage: 1}); return err },
		"buyers":   func() error { _, err := Kill(t.Context(), KillConfig{Kills: 1, LockTTL: 1}); return err },
		"hold":     func() error { _, err := Holds(t.Context(), HoldsConfig{Holds: 1, Repetitions: 1}); return err },
		"products": func() error { _, err := Drain(t.Context(), DrainConfig{Rate: 1}); return err },
		"rate":     func() error { _, err := Drain(t.Context(), DrainConfig{Products: 1, Rate: -1}); return err },
		"outage":   func() error { _, err := Quorum(t.Context(), QuorumConfig{LockTTL: 1}); return err },
		"duration": func() error { _, err := Locks(t.Context(), LocksConfig{Products: 1, Rate: 1}); return err },
	} {
		field, ok := errors.AsType[*FieldError](run())
		if !ok || field.Field != name {
			t.Errorf("%s: got %v", name, field)
		}
	}
}

func config(t *testing.T, binary string) Config {
	return Config{Stack: local.StackConfig{Binary: binary, Dir: folder(t)}, Say: t.Logf}
}

// buildHoldfast builds the binary whose processes a test breaks.
func buildHoldfast(t *testing.T) string {
	binary := filepath.Join(folder(t), "holdfast")
	build := exec.CommandContext(t.Context(), "go", "build", "-o", binary, "github.com/holdfast-io/holdfast/cmd/holdfast")
	if output, err := build.CombinedOutput(); err != nil {
		t.Fatalf("build: %v\n%s", err, output)
	}
	return binary
}

// folder is one that Postgres can enter, which may run as another user.
func folder(t *testing.T) string {
	t.Helper()
	dir, err := local.TempDir("holdfast-failover-*")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	return dir
}
