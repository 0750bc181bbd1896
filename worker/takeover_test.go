package worker

import (
	"bytes"
	"context"
	"encoding/json"
	"net"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/hashicorp/go-hclog"
	"github.com/prometheus/client_golang/prometheus"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/health"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"

	"github.com/holdfast-io/holdfast/api/cluster"
	"github.com/holdfast-io/holdfast/api/traces"
	"github.com/holdfast-io/holdfast/deploy/local/localtest"
	"github.com/holdfast-io/holdfast/lockmgr"
	"github.com/holdfast-io/holdfast/lockmgr/locktest"
)

// Evicting somebody who is alive costs a tenure, not doing it to
// somebody who is dead costs an outage of one TTL.
func TestIsDead(t *testing.T) {
	for _, tt := range []struct {
		found      signOfLife
		unanswered int
		want       bool
	}{
		{alive, 0, false},
		{silent, 1, false},
		{silent, 2, true},
		{silent, 3, true},
		{refused, 0, true},
		{replaced, 0, true},
	} {
		if got := isDead(tt.found, tt.unanswered); got != tt.want {
			t.Errorf("isDead(%s, %d) = %t", tt.found, tt.unanswered, got)
		}
	}
}

func newTakeover(t testing.TB, locks locks) *takeover {
	o := &takeover{
		base:  t.Context(),
		locks: locks, log: localtest.Logger(t), past: map[eviction]pastTakeovers{}, metrics: newMetrics(prometheus.NewRegistry()),
		dial: []grpc.DialOption{grpc.WithTransportCredentials(insecure.NewCredentials())},
	}
	t.Cleanup(o.background.Wait)
	return o
}

func listen(t testing.TB) net.Listener {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() })
	return l
}

// nobody returns an address where nobody listens.
func nobody(t testing.TB) string {
	l := listen(t)
	_ = l.Close()
	return l.Addr().String()
}

// serve runs a gRPC server until the test ends and returns its address.
func serve(t testing.TB, register func(*grpc.Server)) string {
	server, l := grpc.NewServer(), listen(t)
	register(server)
	done := make(chan struct{})
	go func() { defer close(done); _ = server.Serve(l) }()
	t.Cleanup(func() { server.Stop(); <-done })
	return l.Addr().String()
}

func serveHealth(t testing.TB, instance string) (string, *health.Server) {
	h := health.NewServer()
	h.SetServingStatus(instance, healthpb.HealthCheckResponse_SERVING)
	return serve(t, func(s *grpc.Server) { healthpb.RegisterHealthServer(s, h) }), h
}

func ownerAt(address string) string {
	encoded, _ := json.Marshal(cluster.Worker{Name: "w", Instance: "me", Address: address})
	return string(encoded)
}

// What is found at a holder's address decides whether its customers wait for a
// TTL, or its successor takes over at once.
func TestProbe(t *testing.T) {
	working, _ := serveHealth(t, "me")
	draining, h := serveHealth(t, "me")
	h.Shutdown()
	restarted, _ := serveHealth(t, "another")
	bare := serve(t, func(*grpc.Server) {})
	for _, tt := range []struct {
		name, owner string
		want        signOfLife
	}{
		{"a worker", ownerAt(working), alive},
		{"a worker that drains", ownerAt(draining), alive},
		{"a worker that was started again", ownerAt(restarted), replaced},
		{"a server of something else", ownerAt(bare), replaced},
		{"nobody listens", ownerAt(nobody(t)), refused},
		{"a stopped process: the kernel accepts, nobody answers", ownerAt(listen(t).Addr().String()), silent},
		{"no address", ownerAt(""), alive},
		{"no worker", "somebody", alive},
	} {
		t.Run(tt.name, func(t *testing.T) {
			o := newTakeover(t, nil)
			if got := o.probe(t.Context(), lockmgr.Holder{Owner: tt.owner}); got != tt.want {
				t.Errorf("found %q, want %q", got, tt.want)
			}
		})
	}
}

// A holder whose process was stopped looks like a slow network. One unanswered
// probe is an accident, two are a fact.
func TestStoppedHolderIsEvictedAfterTwoProbes(t *testing.T) {
	space := locktest.NewSpace()
	mustLock(t, space.Join(ownerAt(listen(t).Addr().String())), "p")
	me := space.Join("me")
	began := time.Now()
	b := &beginner{locks: me, takeover: newTakeover(t, me), tracer: traces.Tracer(nil)}
	lock, err := b.lock(patient(t), "p")
	if err != nil {
		t.Fatal(err)
	}
	defer release(t.Context(), lock)
	if took := time.Since(began); took < 2*probeTimeout {
		t.Errorf("evicted after %v, in which two probes cannot fail", took)
	}
}

// moody is a holder that answers every other probe.
type moody struct {
	healthpb.UnimplementedHealthServer
	asked atomic.Int64
	often chan struct{} // closed when it was asked often
}

func (m *moody) Check(ctx context.Context, _ *healthpb.HealthCheckRequest) (*healthpb.HealthCheckResponse, error) {
	n := m.asked.Add(1)
	if n == 6 {
		close(m.often)
	}
	if n%2 == 1 {
		<-ctx.Done()
	}
	return &healthpb.HealthCheckResponse{}, ctx.Err()
}

// A busy holder misses a probe now and then. Counted over the hour that somebody
// waits, that would be its death.
func TestHolderThatAnswersInBetweenIsAlive(t *testing.T) {
	m := &moody{often: make(chan struct{})}
	address := serve(t, func(s *grpc.Server) { healthpb.RegisterHealthServer(s, m) })
	space := locktest.NewSpace()
	holder, me := space.Join(ownerAt(address)), space.Join("me")
	lock, err := holder.Acquire(t.Context(), "p")
	if err != nil {
		t.Fatal(err)
	}
	stop := newTakeover(t, me).watch(t.Context(), "p")
	select {
	case <-m.often:
	case <-lock.Context().Done():
	}
	stop()
	if cause := context.Cause(lock.Context()); cause != nil {
		t.Errorf("evicted: %v", cause)
	}
}

// Whoever has got the lock waits for the last probe to end. Where that takes as long as a name
// server that does not answer, he has sold nothing when his buyers have left, and so has the next.
func TestProbeWaitsForNoNameServer(t *testing.T) {
	address, _ := serveHealth(t, "me")
	dial, answer := localtest.Unanswered()
	o := newTakeover(t, nil)
	o.dial = append(o.dial, dial)
	found := make(chan signOfLife)
	go func() { found <- o.probe(t.Context(), lockmgr.Holder{Owner: ownerAt(address)}) }()
	select {
	case got := <-found:
		answer()
		if got != alive {
			t.Errorf("found %q", got)
		}
	case <-time.After(10 * probeTimeout):
		answer()
		t.Errorf("a probe of %v took %v; found %q at last", probeTimeout, 10*probeTimeout, <-found)
	}
}

// evictingLate has the lock handed over while its holder is evicted.
type evictingLate struct {
	locks
	had context.CancelFunc
}

func (e evictingLate) Evict(ctx context.Context, _ lockmgr.Holder) (bool, error) {
	e.had()
	return false, ctx.Err()
}

// A warning is for what an operator has to know.
func TestEvictionThatCameTooLateIsNoWarning(t *testing.T) {
	ctx, had := context.WithCancel(t.Context())
	o := newTakeover(t, evictingLate{had: had})
	var logged bytes.Buffer
	o.log = hclog.New(&hclog.LoggerOptions{Output: &logged})
	if o.evict(ctx, lockmgr.Holder{Name: "p"}, refused) || logged.Len() > 0 {
		t.Errorf("evicted, or logged %q", logged.String())
	}
}

// Two workers that do not see each other would evict each other as
// fast as they can, and neither would sell.
func TestTakeoversOfOneProductBackOff(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		o := &takeover{past: map[eviction]pastTakeovers{}, log: hclog.NewNullLogger()}
		p := eviction{"p", "a"}
		for _, pause := range []int{0, 1, 2, 4, 8, 16, 32, 60, 60} {
			if pause > 0 {
				time.Sleep(time.Duration(pause)*time.Second - time.Nanosecond)
				if o.mayEvict(p) {
					t.Fatalf("again in less than %d s", pause)
				}
				time.Sleep(time.Nanosecond)
			}
			if !o.mayEvict(p) {
				t.Fatalf("not even after %d s", pause)
			}
			if o.mayEvict(p) {
				t.Fatal("twice at once")
			}
		}
		if !o.mayEvict(eviction{"q", "a"}) {
			t.Error("the first takeover of another product has to wait")
		}
		if !o.mayEvict(eviction{"p", "a, started again"}) {
			t.Error("the first takeover from another owner has to wait")
		}
		time.Sleep(3 * maxTakeoverPause) // long quiet: it is the first again
		for _, pause := range []time.Duration{0, takeoverPause} {
			time.Sleep(pause)
			if !o.mayEvict(p) {
				t.Errorf("after a long quiet and %v: not yet", pause)
			}
		}
		if len(o.past) > 1 {
			t.Errorf("%d products are remembered", len(o.past))
		}
	})
}
