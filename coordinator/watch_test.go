package coordinator_test

import (
	"context"
	"fmt"
	"strconv"
	"sync/atomic"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	holdfastv1 "github.com/holdfast-io/holdfast/api/holdfast/v1"
	"github.com/holdfast-io/holdfast/coordinator"
)

// events are the purchases of the shop, as a worker tells them. A cursor is their number.
type events struct {
	holdfastv1.UnsafeEventServiceServer
	worker *worker
	shop   *shop
}

func (e events) WatchEvents(req *holdfastv1.WatchEventsRequest, stream grpc.ServerStreamingServer[holdfastv1.WatchEventsResponse]) error {
	e.shop.record(e.worker.name, req)
	_, err := e.worker.faulty(stream.Context(), func() (any, error) { return nil, e.watch(req, stream) })
	return err
}

func (e events) watch(req *holdfastv1.WatchEventsRequest, stream grpc.ServerStreamingServer[holdfastv1.WatchEventsResponse]) error {
	at, err := strconv.Atoi("0" + req.GetCursor())
	if err != nil {
		return holdfastv1.FieldError(holdfastv1.ReasonInvalidField, "cursor", "is not a cursor of this service")
	}
	if req.GetFromNow() {
		at = len(e.shop.stored(req.GetProductId()))
	}
	if err := stream.Send(&holdfastv1.WatchEventsResponse{Cursor: strconv.Itoa(at)}); err != nil {
		return err
	}
	for ; stream.Context().Err() == nil; time.Sleep(time.Millisecond) {
		for _, p := range e.shop.stored(req.GetProductId())[at:] {
			at++
			if err := stream.Send(&holdfastv1.WatchEventsResponse{Event: eventOf(p), Cursor: strconv.Itoa(at)}); err != nil {
				return err
			}
		}
	}
	return stream.Context().Err()
}

func eventOf(p *holdfastv1.Purchase) *holdfastv1.Event {
	return &holdfastv1.Event{
		EventId: p.GetPurchaseId(), Kind: holdfastv1.EventKind_EVENT_KIND_PURCHASED, ProductId: p.GetProductId(),
		PurchaseId: p.GetPurchaseId(), CustomerId: p.GetCustomerId(), Region: p.GetRegion(), Amount: p.GetAmount(), Units: p.GetAmount(),
		State: p.GetState(), RequestId: p.GetRequestId(), CreateTime: p.GetCreateTime(),
	}
}

func (e events) ListMovements(_ context.Context, req *holdfastv1.ListMovementsRequest) (*holdfastv1.ListMovementsResponse, error) {
	resp := &holdfastv1.ListMovementsResponse{}
	for _, p := range e.shop.stored(req.GetProductId()) {
		resp.Movements = append(resp.Movements, eventOf(p))
	}
	return resp, nil
}

// A worker that goes away in whatever manner costs those who watch a moment, no event, and
// nothing twice.
func TestWatchOutlivesWorkersWithoutLossOrRepetition(t *testing.T) {
	for _, tt := range []struct {
		name string
		harm func(f *front, w *worker)
	}{
		{"cut off", func(_ *front, w *worker) { w.listener.cut() }},
		{"stopped", func(_ *front, w *worker) { w.server.Stop() }},
		{"paused", func(f *front, w *worker) { w.frost.freeze(); f.t.Cleanup(w.frost.thaw) }},
	} {
		t.Run(tt.name, func(t *testing.T) {
			f := openFront(t, quick, "w1", "w2", "w3")
			f.stock("p", 5000)
			stream, err := f.events.WatchEvents(t.Context(), &holdfastv1.WatchEventsRequest{ProductId: "p", FromNow: true})
			if err == nil {
				_, err = stream.Recv()
			}
			if err != nil {
				t.Fatal(err)
			}
			ranked := f.ranked("p")
			bought := 0
			for round := range 3 {
				for range 20 {
					req := buy("p", 1)
					req.RequestId, req.Region = fmt.Sprint(bought), "eu"
					if _, err := f.shop.CreatePurchase(t.Context(), req); err != nil {
						t.Fatal(err)
					}
					bought++
				}
				for told := 20 * round; told < bought; {
					m, err := stream.Recv()
					if err != nil {
						t.Fatalf("after %d events: %v", told, err)
					}
					if m.GetEvent() == nil {
						continue
					}
					if id := m.GetEvent().GetRequestId(); id != fmt.Sprint(told) {
						t.Fatalf("event %d is of %s", told, id)
					}
					if told++; told == 20*round+7 && round < 2 {
						tt.harm(f, ranked[round])
					}
				}
			}
		})
	}
}

// faulty does what the worker's fault does with a stream.
func (w *worker) faulty(ctx context.Context, handle func() (any, error)) (any, error) {
	w.mu.Lock()
	f := w.fault
	w.mu.Unlock()
	if f == nil {
		return handle()
	}
	return f(ctx, w, handle)
}

// Whoever watches the stock of a product is told once of each change, also when the worker
// is another one.
func TestWatchedProductIsToldOnceOfEachChange(t *testing.T) {
	f := openFront(t, quick, "w1", "w2")
	f.stock("p", 10)
	stream, err := f.products.WatchProduct(t.Context(), &holdfastv1.WatchProductRequest{ProductId: "p"})
	if err != nil {
		t.Fatal(err)
	}
	for left := int64(10); left > 0; left-- {
		p, err := stream.Recv()
		if err != nil || p.GetAmountAvailableForPurchase() != left {
			t.Fatalf("told %v, %v; want %d left", p, err, left)
		}
		if left == 5 {
			f.ranked("p")[0].listener.cut()
			time.Sleep(100 * time.Millisecond)
		}
		if err := f.send(buy("p", 1)); err != nil {
			t.Fatal(err)
		}
	}
	missing, err := f.products.WatchProduct(t.Context(), &holdfastv1.WatchProductRequest{ProductId: "unknown"})
	if err == nil {
		_, err = missing.Recv()
	}
	if holdfastv1.Reason(err) != holdfastv1.ReasonProductNotFound {
		t.Errorf("unknown product: %v", err)
	}
}

// Watches end with what went wrong, and not with what another worker could do.
func TestWatchEndsAsItShould(t *testing.T) {
	f := openFront(t, coordinator.Config{MaxWatches: 1, Deadline: time.Second, AttemptTimeout: 200 * time.Millisecond}, "w1")
	open := func(req *holdfastv1.WatchEventsRequest) error {
		stream, err := f.events.WatchEvents(t.Context(), req)
		for err == nil {
			_, err = stream.Recv()
		}
		return err
	}
	for _, tt := range []struct {
		name   string
		req    *holdfastv1.WatchEventsRequest
		fault  fault
		code   codes.Code
		reason string
	}{
		{"no cursor", &holdfastv1.WatchEventsRequest{Cursor: "x"}, nil, codes.InvalidArgument, holdfastv1.ReasonInvalidField},
		{"cursor and from now", &holdfastv1.WatchEventsRequest{Cursor: "1", FromNow: true}, nil, codes.InvalidArgument, holdfastv1.ReasonInvalidField},
		{"product too long", &holdfastv1.WatchEventsRequest{ProductId: long}, nil, codes.InvalidArgument, holdfastv1.ReasonInvalidField},
		{"worker hangs", &holdfastv1.WatchEventsRequest{}, hang, codes.Unavailable, holdfastv1.ReasonNoWorker},
		{"worker drains", &holdfastv1.WatchEventsRequest{}, answer(errDraining), codes.Unavailable, holdfastv1.ReasonNoWorker},
	} {
		f.workers["w1"].set(tt.fault)
		if err := open(tt.req); status.Code(err) != tt.code || holdfastv1.Reason(err) != tt.reason {
			t.Errorf("%s: %v", tt.name, err)
		}
	}
	f.workers["w1"].set(nil)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	first, err := f.events.WatchEvents(ctx, &holdfastv1.WatchEventsRequest{})
	if err == nil {
		_, err = first.Recv()
	}
	if err != nil {
		t.Fatal(err)
	}
	if err := open(&holdfastv1.WatchEventsRequest{}); status.Code(err) != codes.ResourceExhausted {
		t.Errorf("a second watch: %v", err)
	}
}

// A worker that answers each watch with an error at once must not be asked without end.
func TestWatchOfAShardThatIsAwayIsPatient(t *testing.T) {
	f := openFront(t, coordinator.Config{Deadline: time.Second}, "w1", "w2")
	var asked atomic.Int64
	for _, w := range f.workers {
		w.set(func(context.Context, *worker, func() (any, error)) (any, error) {
			asked.Add(1)
			return nil, holdfastv1.Error(codes.Unavailable, holdfastv1.ReasonShardUnavailable, "shard us did not answer", nil)
		})
	}
	stream, err := f.events.WatchEvents(t.Context(), &holdfastv1.WatchEventsRequest{})
	if err == nil {
		_, err = stream.Recv()
	}
	if status.Code(err) != codes.Unavailable {
		t.Errorf("%v", err)
	}
	if n := asked.Load(); n < 4 || n > 40 {
		t.Errorf("asked %d times", n)
	}
}

// A coordinator that is replaced sends its watchers on.
func TestDrainEndsWatches(t *testing.T) {
	f := openFront(t, coordinator.Config{DrainTimeout: patience}, "w1")
	f.stock("p", 10)
	stream, err := f.events.WatchEvents(t.Context(), &holdfastv1.WatchEventsRequest{})
	if err == nil {
		_, err = stream.Recv()
	}
	if err != nil {
		t.Fatal(err)
	}
	begun := time.Now()
	f.stop()
	if _, err := stream.Recv(); status.Code(err) != codes.Unavailable {
		t.Errorf("end: %v", err)
	}
	await(t, f.stopped, "the end of Run")
	if took := time.Since(begun); took > 5*time.Second {
		t.Errorf("took %v", took)
	}
}
