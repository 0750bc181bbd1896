package main

import (
	"context"
	"image/png"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

func TestValuesAreToldInTheirUnit(t *testing.T) {
	for _, c := range []struct {
		value      float64
		unit, want string
	}{
		{0, "s", "0"}, {0.00025, "s", "250µs"}, {0.0123, "s", "12.3ms"}, {42, "s", "42s"}, {600, "s", "10min"},
		{90 * 86400, "s", "90d"}, {0.0512, "percentunit", "5.12%"}, {1536, "bytes", "1.5 KiB"}, {12500, "ops", "12.5k/s"},
		{3, "none", "3"}, {-1500, "none", "-1.5k"},
	} {
		if got := format(c.value, c.unit); got != c.want {
			t.Errorf("%v %s: %q, want %q", c.value, c.unit, got, c.want)
		}
	}
}

// A gap in what was read is a gap in the picture, and not a line across it.
func TestGapsStay(t *testing.T) {
	parts := pieces(line{step: 5, points: []point{{0, 1}, {5, 2}, {20, 3}, {25, 4}}})
	if len(parts) != 2 || len(parts[0]) != 2 || len(parts[1]) != 2 {
		t.Errorf("%v", parts)
	}
}

// The dashboard of the chart is drawn, with all that it asks, whatever the answers are.
func TestDashboardIsDrawn(t *testing.T) {
	now := time.Now().Truncate(time.Second)
	var queries []string
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		queries = append(queries, r.FormValue("query"))
		answer := `{"data":{"result":[]}}`
		if len(queries)%3 > 0 {
			at := r.FormValue("start")
			answer = `{"data":{"result":[{"metric":{"shard":"eu"},"values":[[` + at + `,"1"]]},{"metric":{},"values":[[` + at + `,"NaN"]]}]}}`
		}
		_, _ = w.Write([]byte(answer))
	}))
	defer server.Close()
	out := filepath.Join(t.TempDir(), "all.png")
	err := run(context.Background(), []string{
		"--dashboard", "../../../helm/holdfast/files/dashboard.json", "--prometheus", server.URL, "--out", out,
		"--set", "job=shop", "--mark", now.Add(-time.Minute).Format(time.RFC3339) + "=killed",
	})
	if err != nil {
		t.Fatal(err)
	}
	if len(queries) < 40 {
		t.Errorf("%d queries", len(queries))
	}
	for _, q := range queries {
		if strings.Contains(q, "$") || !strings.Contains(q, `job=~"shop"`) {
			t.Errorf("not filled in: %s", q)
		}
	}
	file, err := os.Open(out)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = file.Close() }()
	picture, err := png.DecodeConfig(file)
	if err != nil || picture.Width < 1000 || picture.Height < 1000 {
		t.Errorf("%v, %v", picture, err)
	}
}

func TestErrorsOfPrometheusAreTold(t *testing.T) {
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.WriteHeader(http.StatusBadRequest)
		_, _ = w.Write([]byte(`{"status":"error","error":"too many points"}`))
	}))
	defer server.Close()
	err := run(context.Background(), []string{"--dashboard", "../../../helm/holdfast/files/dashboard.json", "--prometheus", server.URL})
	if err == nil || !strings.Contains(err.Error(), `panel "Admitted": too many points`) {
		t.Error(err)
	}
}
