package cluster_test

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/holdfast-io/holdfast/api/cluster"
	"github.com/holdfast-io/holdfast/deploy/local/localtest"
)

func TestMain(m *testing.M) { localtest.Main(m) }

// patience is how long a test waits for what must happen; only a test that
// fails waits this long.
const patience = 30 * time.Second

var euUS = cluster.Topology{Number: 1, Shards: []string{"eu", "us"}}

// directory is a cluster's on the shared etcd, not initialised.
func directory(t testing.TB) cluster.Directory {
	t.Helper()
	client, prefix := localtest.Etcd(t)
	return cluster.Directory{Client: client, Prefix: prefix}
}

func initialise(t testing.TB, d cluster.Directory) cluster.View {
	t.Helper()
	view, err := d.Init(t.Context(), uuid.New(), euUS)
	if err != nil {
		t.Fatal(err)
	}
	return view
}

// watcher follows a cluster until the end of the test.
type watcher struct {
	t     testing.TB
	views chan cluster.View
}

func watch(t testing.TB, d cluster.Directory) watcher {
	t.Helper()
	w := watcher{t: t, views: make(chan cluster.View)}
	background(t, func(ctx context.Context) error {
		return d.Watch(ctx, func(v cluster.View) {
			select {
			case w.views <- v:
			case <-ctx.Done():
			}
		}, func(err error) { t.Log("watch:", err) })
	})
	return w
}

// until returns the first view that is as wanted.
func (w watcher) until(what string, wanted func(cluster.View) bool) cluster.View {
	w.t.Helper()
	timeout := time.After(patience)
	for {
		select {
		case v := <-w.views:
			if wanted(v) {
				return v
			}
		case <-timeout:
			w.t.Fatalf("no view came in which %s", what)
		}
	}
}

// has tells whether a view has a worker at the address; "" is none.
func has(name, address string) func(cluster.View) bool {
	return func(v cluster.View) bool {
		for _, w := range v.Workers {
			if w.Name == name {
				return w.Address == address
			}
		}
		return address == ""
	}
}

// register keeps a worker in the cluster until the function returned is called.
func register(t testing.TB, d cluster.Directory, w cluster.Worker) (stop func()) {
	t.Helper()
	return background(t, func(ctx context.Context) error {
		return d.Register(ctx, w, time.Second, func(err error) { t.Log("register:", err) })
	})
}

// background runs until the test ends or stop is called, and checks that what
// ended it was that.
func background(t testing.TB, run func(context.Context) error) (stop func()) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- run(ctx); close(done) }()
	stop = func() {
		t.Helper()
		cancel()
		select {
		case err := <-done:
			if err != nil && !errors.Is(err, context.Canceled) {
				t.Error(err)
			}
		case <-time.After(patience):
			t.Error("it goes on after its context has ended")
		}
	}
	t.Cleanup(stop)
	return stop
}
