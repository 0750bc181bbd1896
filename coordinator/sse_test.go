package coordinator_test

import (
	"bufio"
	"context"
	"fmt"
	"net/http"
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/encoding/protojson"

	holdfastv1 "github.com/holdfast-io/holdfast/api/holdfast/v1"
	"github.com/holdfast-io/holdfast/coordinator"
)

// reader reads server-sent events, as a browser does.
type reader struct {
	t      *testing.T
	lines  *bufio.Scanner
	lastID string
}

func (f *front) read(t *testing.T, path, lastID string, header ...string) *reader {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	t.Cleanup(cancel)
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, f.url+path, nil)
	if err != nil {
		t.Fatal(err)
	}
	if lastID != "" {
		req.Header.Set("Last-Event-ID", lastID)
	}
	for i := 0; i+1 < len(header); i += 2 {
		req.Header.Set(header[i], header[i+1])
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = resp.Body.Close() })
	if resp.StatusCode != http.StatusOK || resp.Header.Get("Content-Type") != "text/event-stream" {
		t.Fatalf("%s: %v", path, resp)
	}
	return &reader{t: t, lines: bufio.NewScanner(resp.Body)}
}

// next returns the data of the next event that has any.
func (r *reader) next() (data string) {
	r.t.Helper()
	for r.lines.Scan() {
		line := r.lines.Text()
		switch {
		case strings.HasPrefix(line, "id: "):
			r.lastID = line[4:]
		case strings.HasPrefix(line, "data: "):
			data = line[6:]
		case line == "" && data != "":
			return data
		}
	}
	r.t.Fatalf("the stream has ended: %v", r.lines.Err())
	return ""
}

// A page in a browser knows neither gRPC nor cursors: its EventSource begins again with the
// last id by itself.
func TestServerSentEventsGoOnAfterTheLastID(t *testing.T) {
	f := openFront(t, coordinator.Config{}, "w1")
	f.stock("p", 10)
	r := f.read(t, "/v1/events:watch?product_id=p", "")
	for i := range 6 {
		req := buy("p", 1)
		req.RequestId = fmt.Sprint(i)
		if err := f.send(req); err != nil {
			t.Fatal(err)
		}
	}
	for i := range 6 {
		if i == 3 {
			r = f.read(t, "/v1/events:watch?product_id=p&from_now=true", r.lastID)
		}
		var e holdfastv1.Event
		if err := protojson.Unmarshal([]byte(r.next()), &e); err != nil || e.GetRequestId() != fmt.Sprint(i) {
			t.Fatalf("event %d is %v, %v", i, &e, err)
		}
	}
	product := f.read(t, "/v1/products:watch?product_id=p", "")
	for _, left := range []int64{4, 3} {
		var p holdfastv1.Product
		if err := protojson.Unmarshal([]byte(product.next()), &p); err != nil || p.GetAmountAvailableForPurchase() != left {
			t.Fatalf("%v, %v; want %d left", &p, err, left)
		}
		if err := f.send(buy("p", 1)); err != nil {
			t.Fatal(err)
		}
	}
	for path, want := range map[string]int{
		"/v1/products:watch": 400, "/v1/products:watch?product_id=unknown": 404, "/v1/events:watch?cursor=x": 400,
	} {
		if code, body := f.do("GET", path, ""); code != want || !strings.Contains(body, "reason") {
			t.Errorf("%s: %d %s", path, code, body)
		}
	}
	f.stop()
	for r.lines.Scan() {
		continue
	}
	await(t, f.stopped, "the end of Run with watches open")
}

// Operators must see what browsers do too.
func TestServerSentEventsAreMeasured(t *testing.T) {
	registry := prometheus.NewRegistry()
	f := openFront(t, coordinator.Config{Metrics: registry}, "w1")
	f.stock("p", 10)
	f.read(t, "/v1/products:watch?product_id=p", "").next()
	if got := calls(t, registry, "grpc_server_started_total", "WatchProduct", ""); got != 1 {
		t.Errorf("%v watches have begun", got)
	}
	f.do("GET", "/v1/events:watch?cursor=x", "")
	if got := calls(t, registry, "grpc_server_handled_total", "WatchEvents", codes.InvalidArgument.String()); got != 1 {
		t.Errorf("%v watches have failed", got)
	}
}

// calls is a counter of the calls of a method, with a code if it is not empty.
func calls(t *testing.T, from prometheus.Gatherer, name, method, code string) (sum float64) {
	t.Helper()
	families, err := from.Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, family := range families {
		for _, m := range family.GetMetric() {
			labels := map[string]string{}
			for _, l := range m.GetLabel() {
				labels[l.GetName()] = l.GetValue()
			}
			if family.GetName() == name && labels["grpc_method"] == method && labels["grpc_code"] == code {
				sum += m.GetCounter().GetValue()
			}
		}
	}
	return sum
}
