package local

import (
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// targets are where coordinators and workers serve their metrics. A name keeps its address, so
// that a worker that is started again goes on with its series.
type targets struct {
	file      string // for Prometheus (file_sd_configs); none of it is done when empty
	addresses map[string]string
}

// args are the flags of a process with this name.
func (t *targets) args(name string) ([]string, error) {
	if t.file == "" {
		return nil, nil
	}
	if t.addresses == nil {
		t.addresses = map[string]string{}
	}
	if t.addresses[name] == "" {
		port, err := FreePort()
		if err != nil {
			return nil, err
		}
		t.addresses[name] = hostPort(port)
		if err := t.write(); err != nil {
			return nil, fmt.Errorf("targets of metrics: %w", err)
		}
	}
	return []string{"--metrics-listen", t.addresses[name]}, nil
}

// write replaces the file, which Prometheus reads when it changes.
func (t *targets) write() error {
	type group struct {
		Targets []string          `json:"targets"`
		Labels  map[string]string `json:"labels"`
	}
	var groups []group
	for _, name := range slices.Sorted(maps.Keys(t.addresses)) {
		job, _, _ := strings.Cut(name, "-")
		groups = append(groups, group{[]string{t.addresses[name]}, map[string]string{
			"job": "holdfast-" + job, "instance": name, "namespace": "local",
		}})
	}
	content, err := json.MarshalIndent(groups, "", "  ")
	if err != nil {
		return err
	}
	temp, err := os.CreateTemp(filepath.Dir(t.file), ".targets-*")
	if err != nil {
		return err
	}
	_, err = temp.Write(content)
	if closed := temp.Close(); err == nil {
		err = closed
	}
	if err != nil {
		_ = os.Remove(temp.Name())
		return err
	}
	return os.Rename(temp.Name(), t.file)
}
