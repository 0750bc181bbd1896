package bench

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/holdfast-io/holdfast/deploy/local"
)

// Every strategy really sells, none of those with a check sells too much, and the
// recount is not blind: it finds what the one without a check has oversold.
func TestAllStrategiesSellTheLastUnitsOnce(t *testing.T) {
	scarce, err := Choose([]string{"scarce"})
	if err != nil {
		t.Fatal(err)
	}
	figures, err := Run(t.Context(), Config{
		Stack: stackConfig(t), Workloads: scarce, Quick: true, Say: t.Logf,
		Buyers: 16, Duration: 150 * time.Millisecond, Repetitions: 1,
	})
	if err != nil {
		t.Fatal(err)
	}
	if len(figures) != len(contenders) {
		t.Fatalf("figures of %d strategies, want %d", len(figures), len(contenders))
	}
	for i, f := range figures {
		unguardedOversells := contenders[i].owner == unguarded
		if oversold := f.Oversold > 0; oversold != unguardedOversells {
			t.Errorf("%s: oversold %d units", f.Strategy, f.Oversold)
		}
		if f.stored > 100 && !unguardedOversells {
			t.Errorf("%s: sold %d of 100 units", f.Strategy, f.stored)
		}
		if f.stored == 0 {
			t.Errorf("%s: sold nothing", f.Strategy)
		}
	}
}

// stackConfig builds the binary whose processes sell.
func stackConfig(t *testing.T) local.StackConfig {
	t.Helper()
	dir, err := local.TempDir("holdfast-bench-*")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	binary := filepath.Join(dir, "holdfast")
	build := exec.CommandContext(t.Context(), "go", "build", "-o", binary, "../../cmd/holdfast")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("build: %v\n%s", err, out)
	}
	return local.StackConfig{Binary: binary, Dir: filepath.Join(dir, "run"), Workers: 2}
}

func TestConfigNamesTheFieldThatIsWrong(t *testing.T) {
	good := Config{Say: t.Logf, Stack: local.StackConfig{Binary: "b", Dir: "d", Workers: 1}}
	if _, err := good.complete(); err != nil {
		t.Fatalf("a good configuration: %v", err)
	}
	for field, spoil := range map[string]func(*Config){
		"Say":    func(c *Config) { c.Say = nil },
		"Buyers": func(c *Config) { c.Buyers = -1 },
		"Rate":   func(c *Config) { c.Rate = -1 },
		"Stack":  func(c *Config) { c.Stack.Binary = "" },
		"DSNs":   func(c *Config) { c.Target = &Target{Etcd: []string{"e"}, GRPC: "g"} },
		"GRPC":   func(c *Config) { c.Target = &Target{Etcd: []string{"e"}, DSNs: map[string]string{"eu": "dsn"}} },
	} {
		cfg := good
		spoil(&cfg)
		_, err := cfg.complete()
		if err == nil || !strings.Contains(err.Error(), field) {
			t.Errorf("%s: error %v, want one that names it", field, err)
		}
	}
}
