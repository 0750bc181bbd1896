package helm

import (
	"bufio"
	"encoding/json"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/prometheus/prometheus/promql/parser"
)

const (
	dashboardFile = chartDir + "/files/dashboard.json"
	// One line for each metric that the program has, which begins with its name.
	metricsFile = "../cmd/holdfast/testdata/metrics.golden"
)

type target struct {
	RefID        string `json:"refId"`
	Expr         string `json:"expr"`
	LegendFormat string `json:"legendFormat"`
}

type panel struct {
	ID          int      `json:"id"`
	Type        string   `json:"type"`
	Title       string   `json:"title"`
	Description string   `json:"description"`
	Targets     []target `json:"targets"`
	GridPos     struct {
		H, W, X, Y int
	} `json:"gridPos"`
	FieldConfig struct {
		Defaults struct {
			Unit string `json:"unit"`
		} `json:"defaults"`
	} `json:"fieldConfig"`
}

type dashboard struct {
	UID        string  `json:"uid"`
	Panels     []panel `json:"panels"`
	Templating struct {
		List []struct {
			Name       string `json:"name"`
			Definition string `json:"definition"`
		} `json:"list"`
	} `json:"templating"`
}

func readDashboard(t *testing.T) (d dashboard) {
	t.Helper()
	file, err := os.ReadFile(dashboardFile)
	if err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(file, &d); err != nil {
		t.Fatal(err)
	}
	return d
}

// Who sees a panel for the first time is told what it shows, in what unit.
func TestEveryPanelSaysWhatItShows(t *testing.T) {
	d := readDashboard(t)
	ids, titles := map[int]bool{}, map[string]bool{}
	for _, p := range d.Panels {
		if ids[p.ID] || titles[p.Title] || p.Title == "" {
			t.Errorf("panel %d, %q: no title, or there twice", p.ID, p.Title)
		}
		ids[p.ID], titles[p.Title] = true, true
		if g := p.GridPos; g.W < 1 || g.H < 1 || g.X+g.W > 24 {
			t.Errorf("%s: does not fit: %v", p.Title, g)
		}
		if p.Type == "row" {
			continue
		}
		if !strings.HasSuffix(p.Description, ".") || p.FieldConfig.Defaults.Unit == "" || len(p.Targets) == 0 {
			t.Errorf("%s: description %q, unit %q, %d queries", p.Title, p.Description, p.FieldConfig.Defaults.Unit, len(p.Targets))
		}
	}
	if d.UID != "holdfast" || len(titles) < 30 {
		t.Errorf("dashboard %q with %d panels", d.UID, len(titles))
	}
}

var variable = regexp.MustCompile(`\$\{?([a-z_]+)\}?`)

// Every query is one that Prometheus understands, and names only variables that are there.
func TestQueriesOfTheDashboardParse(t *testing.T) {
	d := readDashboard(t)
	known := map[string]bool{"__rate_interval": true}
	for _, v := range d.Templating.List {
		known[v.Name] = true
	}
	for _, p := range d.Panels {
		for _, q := range p.Targets {
			for _, m := range variable.FindAllStringSubmatch(q.Expr, -1) {
				if !known[m[1]] {
					t.Errorf("%s: no variable %s", p.Title, m[1])
				}
			}
			if _, err := parser.ParseExpr(filledIn(q.Expr)); err != nil {
				t.Errorf("%s: %s: %v", p.Title, q.Expr, err)
			}
		}
	}
}

// filledIn is a query with something for each variable.
func filledIn(query string) string {
	return variable.ReplaceAllString(strings.ReplaceAll(query, "$__rate_interval", "2m"), "x")
}

var (
	named  = regexp.MustCompile(`\b(?:holdfast|grpc_server|pgxpool)_[a-z0-9_]+[a-z0-9]\b`)
	series = regexp.MustCompile(`_(?:bucket|sum|count)$`)
)

// known are the metrics of the program.
func knownMetrics(t *testing.T) map[string]bool {
	t.Helper()
	file, err := os.Open(metricsFile)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = file.Close() }()
	known := map[string]bool{}
	for lines := bufio.NewScanner(file); lines.Scan(); {
		if name := regexp.MustCompile(`^[a-zA-Z_:][a-zA-Z0-9_:]*`).FindString(lines.Text()); name != "" {
			known[name] = true
		}
	}
	if len(known) < 20 {
		t.Fatalf("%s: only %d metrics", metricsFile, len(known))
	}
	return known
}

// A metric that was renamed would leave a panel empty and an alert silent, for good.
func TestMetricsAreThoseOfTheProgram(t *testing.T) {
	known := knownMetrics(t)
	exists := func(name string) bool {
		return known[name] || known[series.ReplaceAllString(name, "")] ||
			regexp.MustCompile(`^(?:go|process|kube)_|^up$`).MatchString(name)
	}
	for where, queries := range allQueries(t) {
		for _, q := range queries {
			expr, err := parser.ParseExpr(filledIn(q))
			if err != nil {
				t.Errorf("%s: %v", where, err)
				continue
			}
			parser.Inspect(expr, func(n parser.Node, _ []parser.Node) error {
				if s, ok := n.(*parser.VectorSelector); ok && !exists(s.Name) {
					t.Errorf("%s: holdfast has no metric %s", where, s.Name)
				}
				return nil
			})
		}
	}
	pages, err := filepath.Glob(runbooks + "/*.md")
	if err != nil || len(pages) == 0 {
		t.Fatal(pages, err)
	}
	for _, page := range slices.Concat(pages, []string{"../README.md", chartDir + "/README.md"}) {
		text, err := os.ReadFile(page)
		if err != nil {
			t.Fatal(err)
		}
		for _, name := range named.FindAllString(string(text), -1) {
			if !exists(name) {
				t.Errorf("%s: holdfast has no metric %s", page, name)
			}
		}
	}
}

// allQueries are those of the panels, of the variables and of the alerts.
func allQueries(t *testing.T) map[string][]string {
	t.Helper()
	all := map[string][]string{}
	d := readDashboard(t)
	for _, p := range d.Panels {
		for _, q := range p.Targets {
			all[p.Title] = append(all[p.Title], q.Expr)
		}
	}
	for _, v := range d.Templating.List {
		if inner, ok := strings.CutPrefix(v.Definition, "label_values("); ok {
			all["variable "+v.Name] = []string{inner[:strings.LastIndex(inner, ",")]}
		}
	}
	for _, a := range readAlerts(t) {
		all[a.Alert] = []string{a.Expr}
	}
	return all
}
