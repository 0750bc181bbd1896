package cluster_test

import (
	"context"
	"errors"
	"net"
	"strconv"
	"sync"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"go.uber.org/zap"
	"google.golang.org/grpc"

	"github.com/holdfast-io/holdfast/api/cluster"
	"github.com/holdfast-io/holdfast/deploy/local"
	"github.com/holdfast-io/holdfast/deploy/local/localtest"
)

// A coordinator that does not see a worker go asks it first, call after call.
func TestWatchSeesWorkersComeAndGo(t *testing.T) {
	d := directory(t)
	id := initialise(t, d).ID
	w := watch(t, d)
	stop2 := register(t, d, cluster.Worker{Name: "w2", Address: "127.0.0.1:2"})
	register(t, d, cluster.Worker{Name: "w1", Address: "127.0.0.1:1"})
	both := w.until("both are there", func(v cluster.View) bool { return len(v.Workers) == 2 })
	if both.Workers[0].Name != "w1" || both.Workers[1].Name != "w2" {
		t.Errorf("workers are not in the order of their names: %v", both.Workers)
	}
	if both.ID != id || both.Topology.Number != 1 {
		t.Errorf("got %+v, want all of the cluster", both)
	}
	stop2()
	w.until("w2 is gone", has("w2", ""))
}

// Members may be started before anyone has run migrate: they wait, and they do
// not take it for a failure.
func TestWatchBeforeTheClusterIsInitialised(t *testing.T) {
	d := directory(t)
	views := make(chan cluster.View, 100)
	background(t, func(ctx context.Context) error {
		return d.Watch(ctx, func(v cluster.View) { views <- v }, func(err error) { t.Error("told as a failure:", err) })
	})
	w := watcher{t, views}
	w.until("there is nothing", func(v cluster.View) bool { return len(v.Workers) == 0 })
	register(t, d, cluster.Worker{Name: "w1", Address: "127.0.0.1:1"})
	w.until("w1 is there", has("w1", "127.0.0.1:1"))
	initialise(t, d)
	w.until("there is a topology", func(v cluster.View) bool { return v.Topology.Has("eu") })
}

func TestWatchEndsWithItsContext(t *testing.T) {
	d := directory(t)
	ctx, cancel := context.WithCancel(t.Context())
	err := d.Watch(ctx, func(cluster.View) { cancel() }, func(err error) { t.Error("told as a failure:", err) })
	if !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
}

// A member that was cut off for longer than etcd keeps revisions resumes at one
// that is gone.
func TestWatchSurvivesCompaction(t *testing.T) {
	d := directory(t)
	initialise(t, d)
	other := cluster.Directory{Client: d.Client, Prefix: d.Prefix}
	var compact sync.Once
	client := dial(t, localtest.EtcdEndpoint(t), grpc.WithChainStreamInterceptor(func(
		ctx context.Context, desc *grpc.StreamDesc, cc *grpc.ClientConn, method string, streamer grpc.Streamer, opts ...grpc.CallOption,
	) (grpc.ClientStream, error) {
		// Between the read and the watch.
		compact.Do(func() {
			register(t, other, cluster.Worker{Name: "w1", Address: "127.0.0.1:1"})
			watch(t, other).until("w1 is there", has("w1", "127.0.0.1:1"))
			resp, err := other.Client.Put(ctx, other.Prefix+"unrelated", "")
			if err == nil {
				_, err = other.Client.Compact(ctx, resp.Header.Revision, clientv3.WithCompactPhysical())
			}
			if err != nil {
				t.Error(err)
			}
		})
		return streamer(ctx, desc, cc, method, opts...)
	}))
	w := watch(t, cluster.Directory{Client: client, Prefix: d.Prefix})
	w.until("w1 is there", has("w1", "127.0.0.1:1"))
	register(t, other, cluster.Worker{Name: "w2", Address: "127.0.0.1:2"})
	w.until("w2 is there", has("w2", "127.0.0.1:2"))
}

func TestWatchSurvivesARestartOfEtcd(t *testing.T) {
	t.Parallel()
	e := startEtcd(t)
	d := cluster.Directory{Client: e.client, Prefix: "/holdfast/"}
	initialise(t, d)
	w := watch(t, d)
	register(t, d, cluster.Worker{Name: "w1", Address: "127.0.0.1:1"})
	w.until("w1 is there", has("w1", "127.0.0.1:1"))
	e.Stop()
	e.start(e.dir)
	register(t, d, cluster.Worker{Name: "w2", Address: "127.0.0.1:2"})
	w.until("both are there", func(v cluster.View) bool { return len(v.Workers) == 2 })
}

// etcd restored from a backup counts its revisions anew, so what happens next
// has numbers that a watch has already passed.
func TestWatchSeesAnEtcdThatWasWiped(t *testing.T) {
	t.Parallel()
	e := startEtcd(t)
	d := cluster.Directory{Client: e.client, Prefix: "/holdfast/"}
	initialise(t, d)
	for range 100 {
		if _, err := d.Client.Put(t.Context(), "/unrelated", ""); err != nil {
			t.Fatal(err)
		}
	}
	w := watch(t, d)
	w.until("it began", func(cluster.View) bool { return true })
	e.Stop()
	e.start(t.TempDir())
	id := initialise(t, d).ID
	register(t, d, cluster.Worker{Name: "w1", Address: "127.0.0.1:1"})
	view := w.until("w1 is there", has("w1", "127.0.0.1:1"))
	if view.ID != id {
		t.Errorf("id %v, want %v", view.ID, id)
	}
}

// ownEtcd is a server of one test, which may stop it.
type ownEtcd struct {
	*local.Etcd
	t      testing.TB
	dir    string
	port   int
	client *clientv3.Client
}

func startEtcd(t testing.TB) *ownEtcd {
	t.Helper()
	e := &ownEtcd{t: t, dir: t.TempDir()}
	e.start(e.dir)
	e.client = dial(t, e.Endpoint())
	return e
}

// start starts the server on the data in a folder, at the port that it had.
func (e *ownEtcd) start(dir string) {
	e.t.Helper()
	ctx, cancel := context.WithTimeout(e.t.Context(), patience)
	defer cancel()
	etcd, err := local.StartEtcd(ctx, local.EtcdConfig{Dir: dir, ClientPort: e.port, Logger: localtest.Logger(e.t)})
	if err != nil {
		e.t.Fatal(err)
	}
	e.t.Cleanup(etcd.Stop)
	e.Etcd = etcd
	_, port, err := net.SplitHostPort(etcd.Endpoint())
	if err == nil {
		e.port, err = strconv.Atoi(port)
	}
	if err != nil {
		e.t.Fatal(err)
	}
}

func dial(t testing.TB, endpoint string, opts ...grpc.DialOption) *clientv3.Client {
	t.Helper()
	client, err := clientv3.New(clientv3.Config{
		Endpoints: []string{endpoint}, Logger: zap.NewNop(), DialTimeout: 5 * time.Second, DialOptions: opts,
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = client.Close() })
	return client
}
