package coordinator_test

import (
	"context"
	"encoding/json"
	"net"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/encoding/protojson"

	holdfastv1 "github.com/holdfast-io/holdfast/api/holdfast/v1"
	"github.com/holdfast-io/holdfast/coordinator"
)

// holding makes a worker hold its answers back until released.
func holding(w *worker) (reached <-chan struct{}, release func()) {
	arrived, open := make(chan struct{}, 100), make(chan struct{})
	w.set(func(ctx context.Context, _ *worker, handle func() (any, error)) (any, error) {
		arrived <- struct{}{}
		select {
		case <-open:
			return handle()
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	})
	return arrived, sync.OnceFunc(func() { close(open) })
}

// A coordinator that is replaced must not leave buyers without an answer.
func TestDrainAnswersWhatWasAcceptedAndAcceptsNoMore(t *testing.T) {
	f := openFront(t, coordinator.Config{DrainTimeout: patience}, "w1")
	f.stock("p", 10)
	reached, release := holding(f.workers["w1"])
	defer release()
	overGRPC, overHTTP := make(chan error, 1), make(chan int, 1)
	go func() {
		_, err := f.purchases.CreatePurchase(t.Context(), buy("p", 1))
		overGRPC <- err
	}()
	go func() {
		code, _ := f.do("POST", "/v1/purchases", `{"product_id":"p","amount":1,"customer_id":"c"}`)
		overHTTP <- code
	}()
	await(t, reached, "the first call to reach the worker")
	await(t, reached, "the second call to reach the worker")
	f.stop()
	f.awaitRefused(f.grpcAddr)
	f.awaitRefused(f.url[len("http://"):])
	select {
	case <-f.stopped:
		t.Error("stopped with calls in flight")
	default:
	}
	release()
	if err := await(t, overGRPC, "the answer over gRPC"); err != nil {
		t.Error(err)
	}
	if code := await(t, overHTTP, "the answer over HTTP"); code != http.StatusOK {
		t.Error(code)
	}
	await(t, f.stopped, "the end of Run")
	if n := len(f.shop.stored("p")); n != 2 {
		t.Errorf("%d purchases", n)
	}
}

// awaitRefused returns when the address takes no more connections.
func (f *front) awaitRefused(address string) {
	f.t.Helper()
	ctx, cancel := context.WithTimeout(f.t.Context(), patience)
	defer cancel()
	for {
		conn, err := new(net.Dialer).DialContext(ctx, "tcp", address)
		if err != nil {
			if ctx.Err() != nil {
				f.t.Errorf("%s still takes connections", address)
			}
			return
		}
		_ = conn.Close()
	}
}

// A worker that hangs must not keep the process from ending.
func TestDrainEndsAfterItsTimeout(t *testing.T) {
	f := openFront(t, coordinator.Config{DrainTimeout: 200 * time.Millisecond}, "w1")
	reached, release := holding(f.workers["w1"])
	defer release()
	done := make(chan error, 1)
	go func() {
		_, err := f.purchases.CreatePurchase(t.Context(), buy("p", 1))
		done <- err
	}()
	await(t, reached, "the call to reach the worker")
	begun := time.Now()
	f.stop()
	await(t, f.stopped, "the end of Run")
	if took := time.Since(begun); took < 200*time.Millisecond || took > 2*time.Second {
		t.Errorf("took %v", took)
	}
	if err := await(t, done, "the end of the call"); status.Code(err) != codes.Unavailable {
		t.Errorf("got %v", err)
	}
}

// Load balancers follow grpc.health; their streams never end by themselves.
func TestHealthWatchDoesNotHoldUpTheEnd(t *testing.T) {
	f := openFront(t, coordinator.Config{DrainTimeout: patience}, "w1")
	health := healthpb.NewHealthClient(f.conn)
	if resp, err := health.Check(t.Context(), &healthpb.HealthCheckRequest{}); err != nil || resp.GetStatus() != healthpb.HealthCheckResponse_SERVING {
		t.Errorf("check: %v, %v", resp, err)
	}
	stream, err := health.Watch(t.Context(), &healthpb.HealthCheckRequest{})
	if err != nil {
		t.Fatal(err)
	}
	if resp, err := stream.Recv(); err != nil || resp.GetStatus() != healthpb.HealthCheckResponse_SERVING {
		t.Fatalf("watch: %v, %v", resp, err)
	}
	f.stop()
	if resp, err := stream.Recv(); err == nil && resp.GetStatus() != healthpb.HealthCheckResponse_NOT_SERVING {
		t.Errorf("watch while draining: %v", resp)
	}
	begun := time.Now()
	await(t, f.stopped, "the end of Run")
	if took := time.Since(begun); took > 5*time.Second {
		t.Errorf("took %v", took)
	}
}

func TestProbesAndDocument(t *testing.T) {
	s := newShops(t)
	f := s.front(coordinator.Config{})
	for path, want := range map[string]int{"/healthz": 200, "/readyz": 503, "/openapi.json": 200, "/nowhere": 404} {
		if code, body := f.do("GET", path, ""); code != want {
			t.Errorf("%s without a worker: %d %s", path, code, body)
		}
	}
	_, document := f.do("GET", "/openapi.json", "")
	var openAPI struct {
		Paths map[string]any `json:"paths"`
	}
	if err := json.Unmarshal([]byte(document), &openAPI); err != nil || openAPI.Paths["/v1/purchases"] == nil {
		t.Errorf("openapi.json: %v, paths %v", err, openAPI.Paths)
	}
	s.open("w1")
	if _, err := f.products.ListProducts(t.Context(), &holdfastv1.ListProductsRequest{}); err != nil {
		t.Fatal(err)
	}
	if code, _ := f.do("GET", "/readyz", ""); code != http.StatusOK {
		t.Errorf("/readyz with a worker: %d", code)
	}
}

// What is too large is refused before it is read, with the limit.
func TestMessageOverTheLimitIsRefused(t *testing.T) {
	f := openFront(t, coordinator.Config{}, "w1")
	req := buy("p", 1)
	req.RequestId = string(make([]byte, 1<<20))
	_, err := f.purchases.CreatePurchase(t.Context(), req, grpc.MaxCallSendMsgSize(2<<20))
	if status.Code(err) != codes.ResourceExhausted || !strings.Contains(err.Error(), "1048576") {
		t.Errorf("got %v", err)
	}
	if calls := f.shop.takeCalls(); len(calls) > 0 {
		t.Errorf("reached a worker: %v", calls)
	}
}

// The largest batch that the rules allow must fit into the limit.
func TestLargestBatchFits(t *testing.T) {
	f := openFront(t, coordinator.Config{}, "w1", "w2")
	long := long[:128]
	f.stock(long, 1000)
	req := batchOf(1000)
	for i, r := range req.GetRequests() {
		r.ProductId, r.CustomerId, r.Region, r.PaymentMethod, r.RequestId = long, long, "eu", long, long[3:]+string(rune('0'+i%10))
	}
	if err := f.send(req); err != nil {
		t.Errorf("gRPC: %v", err)
	}
	body, err := protojson.Marshal(req)
	if err != nil {
		t.Fatal(err)
	}
	if code, answer := f.do("POST", "/v1/purchases:batchCreate", string(body)); code != http.StatusOK || strings.Count(answer, `"purchase"`) != 1000 {
		t.Errorf("HTTP: %d %.200s", code, answer)
	}
}
