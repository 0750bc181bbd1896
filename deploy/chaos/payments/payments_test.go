//go:build chaos

package payments

import (
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/holdfast-io/holdfast/deploy/local"
	"github.com/holdfast-io/holdfast/deploy/local/localtest"
)

func TestMain(m *testing.M) { localtest.Main(m) }

// Wherever a worker dies, nobody pays for what he does not have, and nobody has what he
// did not pay for.
func TestBooksAgreeWhereverAWorkerDies(t *testing.T) {
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
	r, err := Run(t.Context(), Config{
		Stack: local.StackConfig{Binary: binary, Dir: filepath.Join(dir, "data")}, Each: 4, AtOnce: 4, Steps: Steps, Say: t.Logf,
	})
	if err != nil {
		t.Fatal(err)
	}
	if err := r.Err(); err != nil {
		t.Error(err)
	}
}
