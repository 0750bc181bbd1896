package payments

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"time"

	"github.com/holdfast-io/holdfast/worker/payment/simulated"
)

// point is where the provider stops a call.
type point int

const (
	arrived point = iota // it is not done
	done                 // it is not answered
)

// till is a provider of payments that stops calls. Each worker knows it under a path of its
// own, so it knows who asks.
type till struct {
	url    string
	client *simulated.Client
	server *simulated.Server
	web    http.Server
	served sync.WaitGroup // also calls that are stopped

	mu   sync.Mutex // guards:
	gate *gate      // nil when nothing is stopped
}

// gate stops the calls of one kind for some payments.
type gate struct {
	op     string
	point  point
	keys   map[string]bool
	opened chan struct{}

	mu     sync.Mutex        // guards:
	asker  map[string]string // by key, who asked first
	killed map[string]bool   // workers; set before opened is closed
}

func openTill(ctx context.Context) (*till, error) {
	server, err := simulated.NewServer(simulated.Faults{})
	if err != nil {
		return nil, err
	}
	listener, err := new(net.ListenConfig).Listen(ctx, "tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	t := &till{url: "http://" + listener.Addr().String(), server: server}
	t.web = http.Server{Handler: t, ReadHeaderTimeout: 5 * time.Second}
	if t.client, err = simulated.NewClient(simulated.Config{URL: t.url + "/harness"}); err != nil {
		return nil, errors.Join(err, listener.Close())
	}
	t.served.Go(func() { _ = t.web.Serve(listener) }) // ends with close
	return t, nil
}

func (t *till) close() {
	_ = t.web.Close()
	t.served.Wait()
}

// stop stops calls from now on, until the gate is opened.
func (t *till) stop(op string, at point, rounds []*round) *gate {
	g := &gate{op: op, point: at, keys: map[string]bool{}, opened: make(chan struct{}), asker: map[string]string{}}
	for _, r := range rounds {
		g.keys[r.id] = true
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	t.gate = g
	return g
}

// open lets calls pass from now on, and those that were stopped, but what the killed ones
// had asked for and was not done.
func (t *till) open(g *gate, killed ...string) {
	t.letPass(g)
	g.mu.Lock()
	g.killed = map[string]bool{}
	for _, name := range killed {
		g.killed[name] = true
	}
	g.mu.Unlock()
	close(g.opened)
}

// letPass lets calls pass from now on; those that were stopped go on waiting.
func (t *till) letPass(g *gate) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.gate == g {
		t.gate = nil
	}
}

// reached is who asked for each payment that was stopped.
func (g *gate) reached() map[string]string {
	g.mu.Lock()
	defer g.mu.Unlock()
	asker := map[string]string{}
	for key, name := range g.asker {
		asker[key] = name
	}
	return asker
}

// await waits until so many are stopped, or as long as somebody waits at most.
func (g *gate) await(ctx context.Context, n int, most time.Duration) {
	ctx, cancel := context.WithTimeout(ctx, most)
	defer cancel()
	for len(g.reached()) < n && sleep(ctx, 5*time.Millisecond) {
	}
}

// ServeHTTP answers a call that has the worker's name before its path.
func (t *till) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	t.served.Add(1)
	defer t.served.Done()
	worker, path, _ := strings.Cut(strings.TrimPrefix(r.URL.Path, "/"), "/")
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, 1<<16))
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	call := r.Clone(context.WithoutCancel(r.Context()))
	call.URL.Path, call.Body = "/"+path, io.NopCloser(bytes.NewReader(body))
	var asked struct {
		Key string `json:"key"`
	}
	_ = json.Unmarshal(body, &asked) // what has no key is not stopped
	g := t.gateOf(strings.TrimPrefix(path, "payments/"), asked.Key)
	switch {
	case g == nil:
		t.server.ServeHTTP(w, call)
	case g.point == arrived:
		if g.hold(asked.Key, worker) {
			panic(http.ErrAbortHandler) // net/http's way to drop a connection
		}
		t.server.ServeHTTP(w, call)
	default:
		answer := httptest.NewRecorder()
		t.server.ServeHTTP(answer, call)
		if g.hold(asked.Key, worker) {
			panic(http.ErrAbortHandler)
		}
		w.WriteHeader(answer.Code)
		_, _ = w.Write(answer.Body.Bytes()) // whoever asked may be gone
	}
}

func (t *till) gateOf(op, key string) *gate {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.gate == nil || t.gate.op != op || !t.gate.keys[key] {
		return nil
	}
	return t.gate
}

// hold keeps a call until the gate is opened, and tells whether its asker was killed.
func (g *gate) hold(key, worker string) (killed bool) {
	g.mu.Lock()
	if g.asker[key] == "" {
		g.asker[key] = worker
	}
	g.mu.Unlock()
	<-g.opened
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.killed[worker]
}

func sleep(ctx context.Context, d time.Duration) (slept bool) {
	select {
	case <-ctx.Done():
		return false
	case <-time.After(d):
		return true
	}
}
