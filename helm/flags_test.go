package helm

import (
	"fmt"
	"maps"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

var (
	flagOf    = regexp.MustCompile(`^--([a-z-]+)(=|$)`)
	inHelp    = regexp.MustCompile(`(?m)^ +(?:-[a-z], )?--([a-z-]+)`)
	described = []string{"coordinator", "worker", "migrate", "product create", "product get", "buy"}
)

// flagsOfProgram asks the program which flags each command has.
func flagsOfProgram(t *testing.T) map[string]map[string]bool {
	t.Helper()
	program := filepath.Join(t.TempDir(), "holdfast")
	if out, err := exec.CommandContext(t.Context(), "go", "build", "-C", "..", "-o", program, "./cmd/holdfast").CombinedOutput(); err != nil {
		t.Fatalf("go build: %v\n%s", err, out)
	}
	known := map[string]map[string]bool{}
	for _, command := range described {
		help, err := exec.CommandContext(t.Context(), program, append(strings.Fields(command), "--help")...).CombinedOutput()
		if err != nil {
			t.Fatalf("holdfast %s --help: %v\n%s", command, err, help)
		}
		known[command] = map[string]bool{}
		for _, m := range inHelp.FindAllSubmatch(help, -1) {
			known[command][string(m[1])] = true
		}
	}
	return known
}

// settingOf is the flag that a variable sets, or nothing.
func settingOf(variable string) string {
	name, ok := strings.CutPrefix(variable, "HOLDFAST_")
	if !ok || strings.HasPrefix(name, "SHARD_") || name == "TOKEN" { // which are no flags
		return ""
	}
	return strings.ReplaceAll(strings.ToLower(name), "_", "-")
}

// A flag that the program no longer has would keep every pod from starting; a variable that sets
// none would be without effect.
func TestFlagsAreThoseOfTheProgram(t *testing.T) {
	known := flagsOfProgram(t)
	settings := map[string]bool{}
	for _, flags := range known {
		maps.Copy(settings, flags)
	}
	forEach(t, func(t *testing.T, _ map[string]any, objects []metav1.Object) {
		for _, p := range pods(objects) {
			if p.component() == "etcd" || strings.HasPrefix(p.component(), "postgres") {
				continue
			}
			for _, c := range p.containers() {
				for _, problem := range unknownFlags(known, c.Args) {
					t.Errorf("%v, %s: %s", p, c.Name, problem)
				}
				for _, e := range c.Env {
					if name := settingOf(e.Name); name != "" && !settings[name] {
						t.Errorf("%v, %s: %s sets no flag", p, c.Name, e.Name)
					}
				}
			}
		}
	})
}

func unknownFlags(known map[string]map[string]bool, args []string) (problems []string) {
	at := slices.IndexFunc(described, func(c string) bool { return strings.HasPrefix(strings.Join(args, " ")+" ", c+" ") })
	if at < 0 {
		return []string{fmt.Sprintf("no command of %q in %q", described, args)}
	}
	for _, arg := range args {
		if m := flagOf.FindStringSubmatch(arg); m != nil && !known[described[at]][m[1]] {
			problems = append(problems, fmt.Sprintf("holdfast %s has no --%s", described[at], m[1]))
		}
	}
	return problems
}
