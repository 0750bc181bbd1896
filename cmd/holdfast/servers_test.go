package main

import (
	"context"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/prometheus/client_golang/prometheus"
	"go.opentelemetry.io/otel/trace"

	"github.com/holdfast-io/holdfast/api/certs"
	"github.com/holdfast-io/holdfast/api/certs/certstest"
	"github.com/holdfast-io/holdfast/api/cluster"
	"github.com/holdfast-io/holdfast/coordinator"
	"github.com/holdfast-io/holdfast/deploy/local/localtest"
	"github.com/holdfast-io/holdfast/worker"
	"github.com/holdfast-io/holdfast/worker/ledger"
)

// patience is how long a test waits for what must happen; only a test that fails waits
// this long.
const patience = 30 * time.Second

// servers are a worker and a coordinator that run in the test's process, over real etcd and
// real shards, so that the test sees what they tell of themselves.
type servers struct {
	worker, coordinator *prometheus.Registry
	url                 string
}

// startServers starts them. The provider of tracers may be nil.
func startServers(t *testing.T, provider trace.TracerProvider) *servers {
	t.Helper()
	client, prefix := localtest.Etcd(t)
	directory, id := cluster.Directory{Client: client, Prefix: prefix}, uuid.New()
	dsns := localtest.Databases(t, "eu", "us")
	for name, dsn := range dsns {
		migrateShard(t, name, dsn, id)
	}
	if _, err := directory.Init(t.Context(), id, cluster.Topology{Number: 1, Shards: []string{"eu", "us"}}); err != nil {
		t.Fatal(err)
	}
	s := &servers{worker: newRegistry(), coordinator: newRegistry()}
	log := localtest.Logger(t)
	at := listenLocally(t)
	peers := peerCerts(t)
	for _, r := range []*prometheus.Registry{s.worker, s.coordinator} {
		showExpiry(r, "peer", peers)
	}
	w, err := worker.New(t.Context(), worker.Config{
		Name: "w1", Advertise: at.Addr().String(), Directory: directory, DSNs: dsns, Logger: log, Metrics: s.worker,
		Traces: provider, Region: "eu", PeerCerts: peers,
	})
	if err != nil {
		t.Fatal(err)
	}
	untilTheEnd(t, func(ctx context.Context) error { return w.Run(ctx, at) })
	c, err := coordinator.New(coordinator.Config{Directory: directory, Logger: log, Metrics: s.coordinator, Traces: provider, PeerCerts: peers})
	if err != nil {
		t.Fatal(err)
	}
	overGRPC, overHTTP := listenLocally(t), listenLocally(t)
	untilTheEnd(t, func(ctx context.Context) error { return c.Run(ctx, overGRPC, overHTTP) })
	s.url = "http://" + overHTTP.Addr().String()
	return s
}

// peerCerts are those of a coordinator that is a worker too.
func peerCerts(t *testing.T) *certs.Source {
	t.Helper()
	authority := certstest.New(t)
	source, err := certs.Open(authority.Issue(t.TempDir(), time.Now().Add(time.Hour),
		[]*certstest.Authority{authority}, certs.Coordinator, certs.Worker))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(source.Close)
	return source
}

func migrateShard(t *testing.T, name, dsn string, id uuid.UUID) {
	t.Helper()
	s, err := ledger.Open(ledger.Config{Name: name, DSN: dsn})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	if _, err = s.Migrate(t.Context()); err == nil {
		err = s.Claim(t.Context(), id)
	}
	if err != nil {
		t.Fatal(err)
	}
}

func listenLocally(t *testing.T) net.Listener {
	t.Helper()
	l, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	return l
}

// untilTheEnd runs a server until the test ends.
func untilTheEnd(t *testing.T, run func(context.Context) error) {
	t.Helper()
	ctx, stop := context.WithCancel(context.Background())
	ran := make(chan error, 1)
	go func() { ran <- run(ctx) }()
	t.Cleanup(func() {
		stop()
		if err := <-ran; err != nil {
			t.Error(err)
		}
	})
}

// mustPost sends a request that is to be answered so.
func (s *servers) mustPost(t *testing.T, path, body string, want int, headers ...string) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, s.url+path, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	for i := 0; i < len(headers); i += 2 {
		req.Header.Set(headers[i], headers[i+1])
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = resp.Body.Close() }()
	if resp.StatusCode != want {
		t.Fatalf("%s %s: %s, want %d", path, body, resp.Status, want)
	}
}
