// Package model checks the fencing protocol in every order of events.
package model

import (
	_ "embed"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

//go:embed fence.pml
var fence []byte

// What can go wrong, as the checker prints the assertion.
const (
	oversold       = "(((row[0]+row[2])-row[3])+row[1])<=2"
	totalOff       = "purchased[0]==((row[0]+row[2])-row[3])"
	storedTwice    = "row[0]<=1"
	refusedFalsely = "none[me]"
	refusedStored  = "!(row[(asked-1)])"
)

// A search that stops short of its end proves nothing, and one that never
// reaches some line of the model proves nothing of that line.
func TestProtocolHoldsInEveryOrder(t *testing.T) {
	for name, flags := range map[string][]string{
		"two tenures":                        nil,
		"three tenures, etcd restored":       {"-DTENURES=3", "-DRETURNS=0", "-DNEW_SHARD=0"},
		"three tenures, old lists of shards": {"-DTENURES=3", "-DRETURNS=0", "-DRESTORE=0"},
	} {
		t.Run(name, func(t *testing.T) {
			c := build(t, flags, "-O2", "-DCOLLAPSE")
			out := c.run(t, "./pan", "-m100000")
			for _, bad := range []string{"Search not completed", "max search depth too small", "out of memory"} {
				if strings.Contains(out, bad) {
					t.Fatalf("the search was cut short: %s\n%s", bad, out)
				}
			}
			if !strings.Contains(out, "errors: 0") {
				t.Fatalf("the protocol is broken:\n%s", c.trace(t))
			}
			if flags == nil && !regexp.MustCompile(`unreached in proctype tenure\s+\(0 of`).MatchString(out) {
				t.Errorf("some lines of the model are never reached:\n%s", out)
			}
			t.Logf("errors: 0, %s, %s, MB: %s", find(t, out, `\d+ states, stored`),
				find(t, out, `elapsed time .* seconds`), find(t, out, `[\d.]+\s+total actual memory usage`))
		})
	}
}

// Each of these is a protocol that somebody could have built in good faith.
func TestEveryMutationIsFound(t *testing.T) {
	for _, m := range []struct {
		name   string
		flags  []string
		breaks string
	}{
		{"SELL_EARLY", nil, oversold},
		{"SAME_TOKEN_RESOLVE", []string{"-DTENURES=1", "-DRETURNS=0"}, oversold},
		{"EQUAL_TOKEN", nil, oversold},
		{"NO_TOPOLOGY", nil, oversold},
		{"STALE_TOTAL", nil, oversold},
		{"TOTAL_AS_ASKED", nil, totalOff},
		{"NO_REQUEST_ID", nil, storedTwice},
		{"REFUSE_UNVERIFIED", nil, refusedFalsely},
		{"REFUSE_IN_FLIGHT", nil, refusedFalsely},
		{"RETURN_NOT_AWAITED", nil, refusedFalsely},
		{"NO_FIRST_OUTCOME", nil, refusedStored},
	} {
		t.Run(m.name, func(t *testing.T) {
			// Breadth first, so that the trace is a shortest one.
			c := build(t, append(m.flags, "-DMUTATION_"+m.name), "-O0", "-DBFS")
			out := c.run(t, "./pan", "-E") // assertions only: what gets stuck is not the point
			if strings.Contains(out, "errors: 0") {
				t.Fatalf("not found:\n%s", out)
			}
			if got := find(t, out, `assertion violated .*`); !strings.Contains(got, m.breaks) {
				t.Errorf("found by another property, want %s: %s", m.breaks, got)
			}
			t.Logf("found:\n%s", c.trace(t))
		})
	}
}

// checker is a model that is compiled in a folder of its own.
type checker struct {
	dir   string
	flags []string
}

func build(t *testing.T, flags []string, gcc ...string) checker {
	t.Helper()
	for _, tool := range []string{"spin", "gcc"} {
		if _, err := exec.LookPath(tool); err != nil {
			t.Fatalf("%s is not installed: run worker/model/install-spin.sh", tool)
		}
	}
	c := checker{dir: t.TempDir(), flags: flags}
	if err := os.WriteFile(filepath.Join(c.dir, "fence.pml"), fence, 0o600); err != nil {
		t.Fatal(err)
	}
	c.run(t, "spin", append(flags, "-a", "fence.pml")...)
	c.run(t, "gcc", append(gcc, "-w", "-DSAFETY", "-DNOFAIR", "-DMEMLIM=2000", "-o", "pan", "pan.c")...)
	return c
}

func (c checker) run(t *testing.T, name string, args ...string) string {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), name, args...)
	cmd.Dir = c.dir
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("%s: %v\n%s", cmd, err, out)
	}
	return string(out)
}

// trace replays what the checker found, without the dump of all variables.
func (c checker) trace(t *testing.T) string {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), "spin", append(c.flags, "-t", "fence.pml")...)
	cmd.Dir = c.dir
	out, _ := cmd.CombinedOutput() // a failed assertion is what it is about
	events, _, _ := strings.Cut(string(out), "#processes")
	return events
}

func find(t *testing.T, out, pattern string) string {
	t.Helper()
	found := regexp.MustCompile(pattern).FindString(out)
	if found == "" {
		t.Fatalf("no %s in:\n%s", pattern, out)
	}
	return found
}
