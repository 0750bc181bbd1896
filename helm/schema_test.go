package helm

import (
	"encoding/json"
	"maps"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"
)

type schema struct {
	Ref                  string             `json:"$ref"`
	Type                 any                `json:"type"`
	Pattern              string             `json:"pattern"`
	Properties           map[string]*schema `json:"properties"`
	AdditionalProperties json.RawMessage    `json:"additionalProperties"`
	Items                *schema            `json:"items"`
	AnyOf                []*schema          `json:"anyOf"`
	Definitions          map[string]*schema `json:"definitions"`
}

func readSchema(t *testing.T) *schema {
	t.Helper()
	file, err := os.ReadFile(chartDir + "/values.schema.json")
	if err != nil {
		t.Fatal(err)
	}
	root := new(schema)
	if err := json.Unmarshal(file, root); err != nil {
		t.Fatal(err)
	}
	return root
}

// A value that is misspelt, anywhere, is an error and not silently without effect.
func TestSchemaIsStrict(t *testing.T) {
	var walk func(path string, s *schema)
	walk = func(path string, s *schema) {
		if s == nil {
			return
		}
		if s.Type == "object" && s.AdditionalProperties == nil && path != "/global" { // which is Helm's
			t.Errorf("%s: takes any property", path)
		}
		for name, p := range s.Properties {
			walk(path+"/"+name, p)
		}
		for name, d := range s.Definitions {
			walk(path+"/definitions/"+name, d)
		}
		for _, a := range s.AnyOf {
			walk(path, a)
		}
		walk(path+"/items", s.Items)
	}
	walk("", readSchema(t))
}

// Every value of the schema is in values.yaml, where its comment is, and the other way round.
// Only what a component may have of its own is not, if it is among the shared values.
func TestSchemaHasTheValuesOfTheChart(t *testing.T) {
	root := readSchema(t)
	defaults := readValues(t, chartDir+"/values.yaml")
	shared := root.Properties["defaults"].Properties
	var walk func(path string, s *schema, value any)
	walk = func(path string, s *schema, value any) {
		if name, ok := strings.CutPrefix(s.Ref, "#/definitions/"); ok {
			if s = root.Definitions[name]; s == nil {
				t.Fatalf("%s: no definition %s", path, name)
			}
		}
		fields, ok := value.(map[string]any)
		if !ok || len(fields) == 0 || len(s.Properties) == 0 { // what is empty may be anything of its kind
			return
		}
		for name := range fields {
			if s.Properties[name] == nil {
				t.Errorf("%s/%s is not in the schema", path, name)
				continue
			}
			walk(path+"/"+name, s.Properties[name], fields[name])
		}
		for _, name := range slices.Sorted(maps.Keys(s.Properties)) {
			_, there := fields[name]
			inherited := shared[name] != nil && slices.Contains([]string{"/coordinator", "/worker", "/migrate"}, path)
			if !there && !inherited && path+"/"+name != "/global" && !strings.HasSuffix(path, "/resources") {
				t.Errorf("%s/%s is not in values.yaml", path, name)
			}
		}
	}
	walk("", root, defaults)
}

// The chart takes exactly the shards' names that the program takes.
func TestShardNamesAreThoseOfTheProgram(t *testing.T) {
	source, err := os.ReadFile("../api/cluster/topology.go")
	if err != nil {
		t.Fatal(err)
	}
	m := regexp.MustCompile("shardName = regexp.MustCompile\\(`(.*)`\\)").FindSubmatch(source)
	if m == nil {
		t.Fatal("no rule for the names of shards in api/cluster/topology.go")
	}
	program := regexp.MustCompile(string(m[1]))
	chart := regexp.MustCompile(readSchema(t).Properties["shards"].Items.Properties["name"].Pattern)
	for _, name := range []string{
		"", "a", "1", "-", "A", "eu", "eu-", "-eu", "eu-west", "eu--west", "eu_west", "e1", "1e", "eu west", "ü",
		strings.Repeat("x", 31), strings.Repeat("x", 32), strings.Repeat("x", 33),
	} {
		if program.MatchString(name) != chart.MatchString(name) {
			t.Errorf("%q: the program takes it: %v, the chart: %v", name, program.MatchString(name), chart.MatchString(name))
		}
	}
}
