package coordinator

import (
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"

	"github.com/holdfast-io/holdfast/api/cluster"
	"github.com/holdfast-io/holdfast/deploy/local/localtest"
)

// soon is when nothing is waited for any more, on a busy machine.
const soon = 10 * time.Second

func openRouter(dial ...grpc.DialOption) *router {
	dial = append(dial, grpc.WithTransportCredentials(insecure.NewCredentials()))
	return newRouter(Config{Metrics: prometheus.NewRegistry(), AttemptTimeout: time.Second, MaxInFlight: 1}, dial)
}

func see(t *testing.T, r *router, workers ...cluster.Worker) {
	t.Helper()
	if err := r.update(cluster.View{Workers: workers}); err != nil {
		t.Fatal(err)
	}
}

// A worker that was started again may be somewhere else under its old name, and nobody could buy
// for half a minute when all of them are.
func TestWorkerThatWasStartedAgainIsLookedUpAgain(t *testing.T) {
	r := openRouter()
	defer r.close()
	w := cluster.Worker{Name: "w", Instance: "first", Address: "127.0.0.1:1"}
	see(t, r, w)
	first := r.peers["w"]
	w.Region = "eu"
	see(t, r, w)
	if r.peers["w"] != first {
		t.Error("the connection to a worker that is the same was closed")
	}
	w.Instance = "second"
	see(t, r, w)
	if r.peers["w"] == first {
		t.Error("the connection is still that to the process before")
	}
	select {
	case <-first.ended:
	case <-time.After(soon):
		t.Error("the connection before was not closed")
	}
}

// Else nobody would hear of the workers that came meanwhile.
func TestViewWaitsForNoNameServer(t *testing.T) {
	dial, answer := localtest.Unanswered()
	r := openRouter(dial)
	defer r.close()
	defer answer()
	see(t, r, cluster.Worker{Name: "w", Instance: "first", Address: "w:1"})
	seen := make(chan error, 1)
	go func() { seen <- r.update(cluster.View{}) }()
	select {
	case err := <-seen:
		if err != nil {
			t.Error(err)
		}
	case <-time.After(soon):
		t.Error("the connection to a worker that has gone is waited for")
	}
}
