//go:build chaos

package chaos

import (
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"github.com/holdfast-io/holdfast/deploy/local"
)

// A suite that finds nothing in a system that sells twice, and forgets what is given back,
// finds nothing at all.
func TestControlIsCaught(t *testing.T) {
	v, err := Control(t.Context(), Config{Stack: stackConfig(t), Seed: 1, Say: t.Logf})
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range v.Evidence {
		t.Log(e)
	}
	if v.Oversold == 0 {
		t.Errorf("nothing was oversold: %+v", v)
	}
	if v.FalseRefusals == 0 {
		t.Errorf("nobody was refused what was given back: %+v", v)
	}
}

// The promises of the system, while its parts die.
func TestNothingIsOversoldWhileHoldersDie(t *testing.T) {
	faults, err := Only("holder-killed,holder-paused,commit-replies-reset,etcd-leader-killed")
	if err != nil {
		t.Fatal(err)
	}
	r, err := Run(t.Context(), Config{
		Stack: stackConfig(t), Seed: 4, Duration: 16 * time.Second, Faults: faults, Say: t.Logf,
	})
	if err != nil {
		t.Fatal(err)
	}
	if err := r.Err(); err != nil {
		t.Error(err)
	}
	if len(r.Unexpected) > 0 || r.Purchases == 0 || r.Refused == 0 {
		t.Errorf("%d admitted, %d refused, unexpected answers %v", r.Purchases, r.Refused, r.Unexpected)
	}
	for name, times := range r.Faults {
		if times == 0 {
			t.Errorf("%s was not injected", name)
		}
	}
}

// stackConfig builds the binary whose processes a test breaks.
func stackConfig(t *testing.T) local.StackConfig {
	t.Helper()
	dir, err := local.TempDir("holdfast-chaos-*")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	binary := filepath.Join(dir, "holdfast")
	build := exec.CommandContext(t.Context(), "go", "build", "-o", binary, "github.com/holdfast-io/holdfast/cmd/holdfast")
	if output, err := build.CombinedOutput(); err != nil {
		t.Fatalf("build: %v\n%s", err, output)
	}
	return local.StackConfig{Binary: binary, Dir: filepath.Join(dir, "data")}
}
