package carts

import (
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/holdfast-io/holdfast/deploy/local"
	"github.com/holdfast-io/holdfast/deploy/replay"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// Money and units agree to the penny, whoever dies meanwhile. The first carts of the file
// are enough to meet every outcome but the last units of what sells best.
func TestMoneyAndUnitsAgreeWhileWorkersDie(t *testing.T) {
	carts, err := replay.RealCarts()
	if err != nil {
		t.Fatal(err)
	}
	faults := Faults(1)
	faults.Decline = 0.2 // of a few orders some
	f, err := Run(t.Context(), Config{
		Stack: stack(t), Carts: carts.First(60), Faults: faults, KillEvery: 2 * time.Second, Scarce: 10,
		Say: t.Logf, Progress: func(int, int) {},
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("%+v, books %+v", f, f.Books)
	if f.Confirmed == 0 || f.Declined == 0 || f.FailedForStock == 0 || f.Books.Provider.Captured == 0 {
		t.Errorf("not every outcome was met: %+v", f)
	}
	if got := f.Confirmed + f.Declined + f.FailedForStock + f.FailedOtherwise + f.Expired; got != f.Orders {
		t.Errorf("%d of %d orders have an outcome", got, f.Orders)
	}
}

func stack(t *testing.T) local.StackConfig {
	t.Helper()
	dir, err := local.TempDir("holdfast-carts-*")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	binary := filepath.Join(dir, "holdfast")
	build := exec.CommandContext(t.Context(), "go", "build", "-o", binary, "github.com/holdfast-io/holdfast/cmd/holdfast")
	if output, err := build.CombinedOutput(); err != nil {
		t.Fatalf("build: %v\n%s", err, output)
	}
	return local.StackConfig{Binary: binary, Dir: filepath.Join(dir, "data"), Workers: 2}
}
