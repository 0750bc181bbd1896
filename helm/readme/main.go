// Command readme writes the tables of values in the chart's README.md, from values.yaml and
// the comments in it. It is run in the folder above the chart.
package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"strings"

	"go.yaml.in/yaml/v3"
)

const (
	values = "holdfast/values.yaml"
	readme = "holdfast/README.md"

	begin = "<!-- made by go generate: begin -->\n"
	end   = "<!-- made by go generate: end -->\n"
)

func main() {
	if err := run(); err != nil {
		fmt.Fprintln(os.Stderr, "readme:", err)
		os.Exit(1)
	}
}

func run() error {
	source, err := os.ReadFile(values)
	if err != nil {
		return err
	}
	old, err := os.ReadFile(readme)
	if err != nil {
		return err
	}
	current, err := updated(old, source)
	if err != nil || bytes.Equal(current, old) {
		return err
	}
	return os.WriteFile(readme, current, 0o600) //nolint:gosec // the path is a constant; its file is there, and keeps its mode
}

// updated is a README with the tables of these values.
func updated(old, source []byte) ([]byte, error) {
	before, rest, ok := strings.Cut(string(old), begin)
	_, after, closed := strings.Cut(rest, end)
	if !ok || !closed {
		return nil, fmt.Errorf("%s: no lines %q and %q", readme, begin, end)
	}
	made, err := tables(source)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", values, err)
	}
	return []byte(before + begin + made + "\n" + end + after), nil
}

// tables has a table for each map of the values, and one for the rest.
func tables(source []byte) (string, error) {
	var document yaml.Node
	if err := yaml.Unmarshal(source, &document); err != nil {
		return "", err
	}
	var rest, parts strings.Builder
	for key, value := range entries(document.Content[0]) {
		if isLeaf(key.Value, value) {
			if err := writeRows(&rest, key.Value, key, value); err != nil {
				return "", err
			}
			continue
		}
		fmt.Fprintf(&parts, "\n### `%s`\n\n%s\n", key.Value, strings.TrimLeft(comment(key)+"\n\n", "\n")+heading)
		for k, v := range entries(value) {
			if err := writeRows(&parts, key.Value+"."+k.Value, k, v); err != nil {
				return "", err
			}
		}
	}
	return "\n" + heading + "\n" + rest.String() + parts.String(), nil
}

const heading = "| value | default | |\n|---|---|---|"

// writeRows writes a value, and what is below it.
func writeRows(out *strings.Builder, path string, key, value *yaml.Node) error {
	if isLeaf(key.Value, value) {
		def, err := inline(value)
		fmt.Fprintf(out, "| `%s` | `%s` | %s |\n", path, def, comment(key))
		return err
	}
	if comment(key) != "" {
		fmt.Fprintf(out, "| `%s` | | %s |\n", path, comment(key))
	}
	for k, v := range entries(value) {
		if err := writeRows(out, path+"."+k.Value, k, v); err != nil {
			return err
		}
	}
	return nil
}

// isLeaf tells whether a value has a row of its own, with all that is in it.
func isLeaf(name string, value *yaml.Node) bool {
	return value.Kind != yaml.MappingNode || len(value.Content) == 0 || name == "resources"
}

// entries are the keys and values of a map, in order.
func entries(n *yaml.Node) func(yield func(key, value *yaml.Node) bool) {
	return func(yield func(key, value *yaml.Node) bool) {
		for i := 0; i+1 < len(n.Content); i += 2 {
			if !yield(n.Content[i], n.Content[i+1]) {
				return
			}
		}
	}
}

// comment is what stands above a key. What an empty line separates from it is not about it.
func comment(key *yaml.Node) string {
	about := key.HeadComment[strings.LastIndex(key.HeadComment, "\n\n")+1:]
	var lines []string
	for line := range strings.Lines(strings.TrimSpace(about)) {
		lines = append(lines, strings.TrimSpace(strings.TrimPrefix(line, "#")))
	}
	return strings.ReplaceAll(strings.Join(lines, " "), "|", `\|`)
}

func inline(value *yaml.Node) (string, error) {
	var v any
	if err := value.Decode(&v); err != nil {
		return "", err
	}
	encoded, err := json.Marshal(v)
	return string(encoded), err
}
