package main

import (
	"os"
	"strings"
	"testing"
)

// Who changes values.yaml sees here that the README says something else.
func TestReadmeIsCurrent(t *testing.T) {
	t.Chdir("..")
	old, err := os.ReadFile(readme)
	if err != nil {
		t.Fatal(err)
	}
	source, err := os.ReadFile(values)
	if err != nil {
		t.Fatal(err)
	}
	current, err := updated(old, source)
	if err != nil {
		t.Fatal(err)
	}
	if string(current) != string(old) {
		t.Errorf("%s is not current; run go generate", readme)
	}
}

func TestTables(t *testing.T) {
	made, err := tables([]byte(`# About the file.

# Plain.
a: 1
# A part,
# of two lines.
part:
  # Either | or.
  b: ["x"]
  resources:
    limits: {memory: 1Gi}
  inner:
    # Deep.
    c: ""
`))
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{
		"| `a` | `1` | Plain. |\n",
		"\n### `part`\n\nA part, of two lines.\n\n| value |",
		"| `part.b` | `[\"x\"]` | Either \\| or. |\n",
		"| `part.resources` | `{\"limits\":{\"memory\":\"1Gi\"}}` |  |\n",
		"| `part.inner.c` | `\"\"` | Deep. |\n",
	} {
		if !strings.Contains(made, want) {
			t.Errorf("no %q in:\n%s", want, made)
		}
	}
	if _, err := updated([]byte("no markers"), nil); err == nil {
		t.Error("a README without markers was taken")
	}
}
