package helm

import (
	"bufio"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/prometheus/prometheus/promql/parser"
)

// One line for each metric that the program has: its name, type and labels, between tabs.
const metricsFile = "../cmd/holdfast/testdata/metrics.golden"

var (
	named  = regexp.MustCompile(`\b(?:holdfast|grpc_server|pgxpool)_[a-z0-9_]+[a-z0-9]\b`)
	series = regexp.MustCompile(`_(?:bucket|sum|count)$`)
)

// knownMetrics are the metrics of the program, with their labels.
func knownMetrics(t *testing.T) map[string][]string {
	t.Helper()
	file, err := os.Open(metricsFile)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = file.Close() }()
	known := map[string][]string{}
	for lines := bufio.NewScanner(file); lines.Scan(); {
		if fields := strings.Split(lines.Text(), "\t"); len(fields) > 2 && !strings.HasPrefix(fields[0], "#") {
			known[fields[0]] = strings.Split(fields[2], ",")
		}
	}
	if len(known) < 20 {
		t.Fatalf("%s: only %d metrics", metricsFile, len(known))
	}
	return known
}

// anybodys are metrics that others have too.
var anybodys = regexp.MustCompile(`^(?:go|process|kube)_|^up$`)

// labelsOf are the labels of what a selector reads: those of the metric, and those that
// Prometheus adds.
func labelsOf(known map[string][]string, name string) (labels []string, ok bool) {
	added := []string{"namespace", "job", "instance"}
	if labels, ok = known[name]; ok || anybodys.MatchString(name) {
		return slices.Concat(labels, added), true
	}
	labels, ok = known[series.ReplaceAllString(name, "")]
	return slices.Concat(labels, added, []string{"le"}), ok
}

// A metric or a label that was renamed would leave a panel empty and an alert silent, for good.
func TestQueriesReadWhatTheProgramHas(t *testing.T) {
	known := knownMetrics(t)
	for where, queries := range allQueries(t) {
		for _, q := range queries {
			expr, err := parser.ParseExpr(filledIn(q))
			if err != nil {
				t.Errorf("%s: %v", where, err)
				continue
			}
			var all []string // labels of anything that is read
			parser.Inspect(expr, func(n parser.Node, _ []parser.Node) error {
				s, ok := n.(*parser.VectorSelector)
				if !ok {
					return nil
				}
				labels, ok := labelsOf(known, s.Name)
				if !ok {
					t.Errorf("%s: holdfast has no metric %s", where, s.Name)
				}
				for _, m := range s.LabelMatchers {
					if m.Name != "__name__" && !slices.Contains(labels, m.Name) {
						t.Errorf("%s: %s has no label %s", where, s.Name, m.Name)
					}
				}
				all = append(all, labels...)
				return nil
			})
			parser.Inspect(expr, func(n parser.Node, _ []parser.Node) error {
				if a, ok := n.(*parser.AggregateExpr); ok {
					for _, l := range a.Grouping {
						if !slices.Contains(all, l) {
							t.Errorf("%s: nothing has a label %s to group by", where, l)
						}
					}
				}
				return nil
			})
		}
	}
}

// Who follows a page looks for a metric by its name.
func TestPagesNameMetricsOfTheProgram(t *testing.T) {
	known := knownMetrics(t)
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
			if _, ok := labelsOf(known, name); !ok {
				t.Errorf("%s: holdfast has no metric %s", page, name)
			}
		}
	}
}
