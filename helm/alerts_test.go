package helm

import (
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/prometheus/common/model"
	"github.com/prometheus/prometheus/model/rulefmt"
)

const (
	alertsFile = chartDir + "/files/alerts.yaml"
	runbooks   = "../deploy/runbooks"
	runbookURL = "https://github.com/holdfast-io/holdfast/blob/main/deploy/runbooks/"
)

// readAlerts reads the alerts as Prometheus does, which refuses expressions and templates that
// it cannot parse.
func readAlerts(t *testing.T) (alerts []rulefmt.Rule) {
	t.Helper()
	groups, errs := rulefmt.ParseFile(alertsFile, false, model.UTF8Validation)
	if len(errs) > 0 {
		t.Fatal(errs)
	}
	for _, g := range groups.Groups {
		alerts = append(alerts, g.Rules...)
	}
	return alerts
}

// Who is woken up is told what it is, and finds a page that says what to do.
func TestEveryAlertHasWhatItTakesToActOnIt(t *testing.T) {
	seen := map[string]bool{}
	for _, a := range readAlerts(t) {
		if a.Record != "" || seen[a.Alert] || !strings.HasPrefix(a.Alert, "Holdfast") {
			t.Errorf("%q: no alert of holdfast, or there twice", a.Alert+a.Record)
		}
		seen[a.Alert] = true
		if s := a.Labels["severity"]; s != "critical" && s != "warning" {
			t.Errorf("%s: severity %q", a.Alert, s)
		}
		if a.For == 0 {
			t.Errorf("%s: fires at once, whatever one scrape says", a.Alert)
		}
		for _, name := range []string{"summary", "description"} {
			if !strings.HasSuffix(a.Annotations[name], ".") {
				t.Errorf("%s: %s is no sentence: %q", a.Alert, name, a.Annotations[name])
			}
		}
		if want := runbookURL + a.Alert + ".md"; a.Annotations["runbook_url"] != want {
			t.Errorf("%s: runbook_url %q, want %q", a.Alert, a.Annotations["runbook_url"], want)
		}
	}
}

var (
	heading = regexp.MustCompile(`(?m)^## (.*)$`)
	// What every page answers, in this order.
	headings = []string{"What it means", "What buyers see", "How to look", "What to do", "When it is over"}
)

func TestEveryAlertHasAPageAndEveryPageAnAlert(t *testing.T) {
	var want []string
	index, err := os.ReadFile(runbooks + "/README.md")
	if err != nil {
		t.Fatal(err)
	}
	for _, a := range readAlerts(t) {
		want = append(want, a.Alert+".md")
		if !strings.Contains(string(index), "["+a.Alert+"]("+a.Alert+".md)") {
			t.Errorf("%s is not in the index", a.Alert)
		}
	}
	var got []string
	pages, err := filepath.Glob(runbooks + "/Holdfast*.md")
	if err != nil {
		t.Fatal(err)
	}
	for _, page := range pages {
		got = append(got, filepath.Base(page))
		text, err := os.ReadFile(page)
		if err != nil {
			t.Fatal(err)
		}
		if title, _, _ := strings.Cut(string(text), "\n"); title != "# "+strings.TrimSuffix(filepath.Base(page), ".md") {
			t.Errorf("%s: the title is %q", page, title)
		}
		var has []string
		for _, m := range heading.FindAllStringSubmatch(string(text), -1) {
			has = append(has, m[1])
		}
		if !slices.Equal(has, headings) {
			t.Errorf("%s has %q, want %q", page, has, headings)
		}
	}
	slices.Sort(want)
	slices.Sort(got)
	if !slices.Equal(got, want) {
		t.Errorf("pages %q, alerts %q", got, want)
	}
}

var (
	usage    = regexp.MustCompile(`Use: +"([a-z-]+)`)
	commands = regexp.MustCompile("(?m)(?:^|`|/)holdfast ([a-z][a-z-]*)(?: ([a-z][a-z-]*))?")
)

// Nobody has the time to find out what a command is called today.
func TestPagesNameCommandsOfTheProgram(t *testing.T) {
	known := map[string]bool{"": true}
	sources, err := filepath.Glob("../cmd/holdfast/*.go")
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range sources {
		source, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		for _, m := range usage.FindAllStringSubmatch(string(source), -1) {
			known[m[1]] = true
		}
	}
	pages, err := filepath.Glob(runbooks + "/*.md")
	if err != nil {
		t.Fatal(err)
	}
	found := 0
	for _, page := range pages {
		text, err := os.ReadFile(page)
		if err != nil {
			t.Fatal(err)
		}
		for _, m := range commands.FindAllStringSubmatch(string(text), -1) {
			found++
			if !known[m[1]] || !known[m[2]] {
				t.Errorf("%s: there is no command %s %s", filepath.Base(page), m[1], m[2])
			}
		}
	}
	if found < 20 {
		t.Errorf("only %d commands found", found)
	}
}
