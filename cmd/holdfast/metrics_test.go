package main

import (
	"context"
	"flag"
	"fmt"
	"maps"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	dto "github.com/prometheus/client_model/go"
)

var update = flag.Bool("update", false, "write testdata anew")

// Dashboards, alerts and the documentation are tested against this list, so whoever changes a
// metric sees it here first. It is read before anything was sold: what is not there from the
// start has no rate when it happens first.
func TestMetricsAreAsPublished(t *testing.T) {
	s := startServers(t, nil)
	awaitMetric(t, s.worker, "holdfast_holds")
	awaitMetric(t, s.worker, "holdfast_tenures_moved_total") // by the worker that has just come on duty
	listed := map[string]*metric{}
	list(t, listed, "coordinator", s.coordinator)
	list(t, listed, "worker", s.worker)
	var lines strings.Builder
	lines.WriteString("# name\ttype\tlabels\tservers\thelp\n")
	for _, name := range slices.Sorted(maps.Keys(listed)) {
		m := listed[name]
		if m.help == "" {
			t.Errorf("%s says nothing of itself", name)
		}
		fmt.Fprintf(&lines, "%s\t%s\t%s\t%s\t%s\n", name, m.kind, strings.Join(slices.Sorted(maps.Keys(m.labels)), ","),
			strings.Join(m.servers, ","), m.help)
	}
	golden := filepath.Join("testdata", "metrics.golden")
	if *update {
		if err := os.WriteFile(golden, []byte(lines.String()), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(golden)
	if err != nil {
		t.Fatal(err)
	}
	if lines.String() != string(want) {
		t.Errorf("metrics are not those of %s; if that is meant, run the test with -update:\n%s", golden, lines.String())
	}
}

// metric is what a list says of one.
type metric struct {
	kind, help string
	labels     map[string]bool
	servers    []string
}

func list(t *testing.T, into map[string]*metric, server string, r *prometheus.Registry) {
	t.Helper()
	families, err := r.Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range families {
		m := into[f.GetName()]
		if m == nil {
			m = &metric{kind: strings.ToLower(f.GetType().String()), help: strings.TrimSpace(f.GetHelp()), labels: map[string]bool{}}
			into[f.GetName()] = m
		}
		m.servers = append(m.servers, server)
		for _, each := range f.GetMetric() {
			for _, label := range each.GetLabel() {
				m.labels[label.GetName()] = true
			}
		}
	}
}

// awaitMetric waits until a metric has at least one value.
func awaitMetric(t *testing.T, r *prometheus.Registry, name string) {
	t.Helper()
	for begun := time.Now(); len(read(t, r, name)) == 0; time.Sleep(10 * time.Millisecond) {
		if time.Since(begun) > patience {
			t.Fatalf("there is no %s", name)
		}
	}
}

// read returns the values of a metric by their labels, such as "shard=eu,pool=sales"; of a
// histogram the counts.
func read(t *testing.T, r *prometheus.Registry, name string) map[string]float64 {
	t.Helper()
	families, err := r.Gather()
	if err != nil {
		t.Fatal(err)
	}
	values := map[string]float64{}
	for _, f := range families {
		if f.GetName() != name {
			continue
		}
		for _, m := range f.GetMetric() {
			var labels []string
			for _, l := range m.GetLabel() {
				labels = append(labels, l.GetName()+"="+l.GetValue())
			}
			values[strings.Join(labels, ",")] = valueOf(m)
		}
	}
	return values
}

func valueOf(m *dto.Metric) float64 {
	return m.GetCounter().GetValue() + m.GetGauge().GetValue() + float64(m.GetHistogram().GetSampleCount())
}

// What is sold shows on both sides.
func TestPurchasesAreCounted(t *testing.T) {
	s := startServers(t, nil)
	s.mustPost(t, "/v1/products", `{"product_id":"p","amount_in_storage":5}`, http.StatusOK)
	for i, want := range []int{200, 200, 409} {
		s.mustPost(t, "/v1/purchases", fmt.Sprintf(`{"product_id":"p","amount":2,"customer_id":"ann","region":"eu","request_id":"r%d"}`, i), want)
	}
	s.mustPost(t, "/v1/purchases:batchCreate", `{"requests":[{"product_id":"p","amount":1,"customer_id":"ann","region":"us"},{"product_id":"q","amount":1,"customer_id":"ann","region":"us"}]}`, 200)
	for _, tt := range []struct {
		registry    *prometheus.Registry
		name, label string
		want        float64
	}{
		{s.coordinator, "holdfast_coordinator_purchases_total", "result=admitted", 3},
		{s.coordinator, "holdfast_coordinator_purchases_total", "result=refused", 2},
		{s.coordinator, "holdfast_coordinator_purchases_total", "result=failed", 0},
		{s.coordinator, "holdfast_coordinator_attempts_total", "outcome=answered", 6}, // with the product's creation
		{s.coordinator, "holdfast_coordinator_workers", "state=heard", 1},
		{s.worker, "holdfast_purchases_total", "result=admitted", 3},
		{s.worker, "holdfast_purchases_total", "result=refused", 2},
		{s.worker, "holdfast_purchase_seconds", "", 5},
		{s.worker, "holdfast_batch_purchases", "shard=eu", 2},
		{s.worker, "holdfast_commit_seconds", "shard=us", 1},
		{s.worker, "holdfast_shard_reachable", "shard=us", 1},
		{s.worker, "holdfast_queue_depth", "queue=commits,shard=eu", 0},
		{s.worker, "holdfast_lock_wait_seconds", "", 1},
		{s.worker, "holdfast_tenure_begin_seconds", "", 1},
	} {
		if got, there := read(t, tt.registry, tt.name)[tt.label]; !there || got != tt.want {
			t.Errorf("%s{%s} = %v (%v), want %v", tt.name, tt.label, got, there, tt.want)
		}
	}
}

// Profiles show what the memory holds: whoever asks for them has to be on the machine.
func TestProfilesAreForThisMachineOnly(t *testing.T) {
	for address, served := range map[string]bool{"127.0.0.1:0": true, "localhost:0": true, ":0": false, "0.0.0.0:0": false, "[::]:0": false} {
		stop, err := serveDebug(context.Background(), address)
		if (err == nil) != served {
			t.Errorf("%s: %v", address, err)
		}
		if err == nil {
			stop()
		} else if exitCode(err) != exitUsage {
			t.Errorf("%s: %v is no error of usage", address, err)
		}
	}
}
