package worker

import (
	"context"
	"fmt"
	"slices"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	holdfastv1 "github.com/holdfast-io/holdfast/api/holdfast/v1"
)

// watcher is somebody who watches events.
type watcher struct {
	t      *testing.T
	stream grpc.ServerStreamingClient[holdfastv1.WatchEventsResponse]
	cursor string // the last one
}

func (n *node) watch(t *testing.T, req *holdfastv1.WatchEventsRequest) *watcher {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	t.Cleanup(cancel)
	stream, err := n.WatchEvents(ctx, req)
	if err != nil {
		t.Fatal(err)
	}
	w := &watcher{t: t, stream: stream}
	first, err := stream.Recv()
	if err != nil || first.GetEvent() != nil || first.GetCursor() == "" {
		t.Fatalf("a watch begins with %v, %v, want a cursor", first, err)
	}
	w.cursor = first.GetCursor()
	return w
}

// next returns the next n events.
func (w *watcher) next(n int) (events []*holdfastv1.Event) {
	w.t.Helper()
	for len(events) < n {
		m, err := w.stream.Recv()
		if err != nil {
			w.t.Fatalf("after %d of %d events: %v", len(events), n, err)
		}
		if w.cursor = m.GetCursor(); m.GetEvent() != nil {
			events = append(events, m.GetEvent())
		}
	}
	return events
}

func kindsOf(events []*holdfastv1.Event) (kinds []holdfastv1.EventKind) {
	for _, e := range events {
		kinds = append(kinds, e.GetKind())
	}
	return kinds
}

// A shop acts on what it is told: a ticket is sent when the purchase is confirmed, and
// called back when it is returned.
func TestWatcherIsToldTheLifeOfEachPurchase(t *testing.T) {
	c := newCluster(t)
	a := c.start(t, "a")
	p, other := a.create(t, 100), a.create(t, 100)
	w := a.watch(t, &holdfastv1.WatchEventsRequest{ProductId: p, FromNow: true})
	held := a.hold(t, p, "eu", "r1", 5, time.Hour)
	a.mustBuy(t, other, "eu", "elsewhere", 1)
	if _, err := a.ConfirmPurchase(t.Context(), confirm(held, "c", 3)); err != nil {
		t.Fatal(err)
	}
	if _, err := a.ReturnPurchase(t.Context(), &holdfastv1.ReturnPurchaseRequest{PurchaseId: held.GetPurchaseId(), RequestId: "b"}); err != nil {
		t.Fatal(err)
	}
	events := w.next(3)
	want := []holdfastv1.EventKind{
		holdfastv1.EventKind_EVENT_KIND_HELD, holdfastv1.EventKind_EVENT_KIND_CONFIRMED, holdfastv1.EventKind_EVENT_KIND_RETURNED,
	}
	if !slices.Equal(kindsOf(events), want) {
		t.Errorf("told %v", events)
	}
	for i, units := range []int64{5, -2, -3} {
		e := events[i]
		if e.GetPurchaseId() != held.GetPurchaseId() || e.GetProductId() != p || e.GetUnits() != units || e.GetAmount() != 5 ||
			e.GetCustomerId() != "ann" || e.GetRegion() != "eu" {
			t.Errorf("event %v", e)
		}
	}
	again := a.watch(t, &holdfastv1.WatchEventsRequest{ProductId: p}).next(3)
	if !slices.Equal(kindsOf(again), want) {
		t.Errorf("from the beginning: %v", again)
	}
}

// Workers come and go. Whoever has a cursor misses nothing by it, and gets nothing twice.
func TestWatchGoesOnAtAnotherWorkerWhereItWas(t *testing.T) {
	c := newCluster(t)
	a, b := c.start(t, "a"), c.start(t, "b")
	p := b.create(t, 1000)
	w := a.watch(t, &holdfastv1.WatchEventsRequest{ProductId: p, FromNow: true})
	var bought []string
	buy := func(n int) {
		for range n {
			i := len(bought)
			bought = append(bought, b.mustBuy(t, p, regions[i%2], fmt.Sprint(i), 1).GetPurchaseId())
		}
	}
	buy(10)
	var told []string
	take := func(n int) {
		for _, e := range w.next(n) {
			told = append(told, e.GetPurchaseId())
		}
	}
	take(7) // what the others had on the way is told again
	buy(5)
	w = b.watch(t, &holdfastv1.WatchEventsRequest{ProductId: p, Cursor: w.cursor})
	take(8)
	slices.Sort(bought)
	slices.Sort(told)
	if !slices.Equal(told, bought) {
		t.Errorf("told %v, bought %v", told, bought)
	}
}

// A worker that is replaced must not wait for those who watch, nor leave them hanging.
func TestDrainEndsWatches(t *testing.T) {
	c := newCluster(t)
	a := c.start(t, "a")
	p := a.create(t, 10)
	w := a.watch(t, &holdfastv1.WatchEventsRequest{})
	product, err := a.WatchProduct(t.Context(), &holdfastv1.WatchProductRequest{ProductId: p})
	if err == nil {
		_, err = product.Recv()
	}
	if err != nil {
		t.Fatal(err)
	}
	began := time.Now()
	stopped := make(chan error, 1)
	go func() { stopped <- a.stop() }()
	for err = nil; err == nil; {
		_, err = w.stream.Recv()
	}
	wantReason(t, err, holdfastv1.ReasonWorkerDraining)
	_, err = product.Recv()
	wantReason(t, err, holdfastv1.ReasonWorkerDraining)
	if err := <-stopped; err != nil || time.Since(began) > 5*time.Second {
		t.Errorf("stopped after %v: %v", time.Since(began), err)
	}
}

// Watches are kept open by whoever likes to; they must not be what a worker dies of.
func TestWatchesAreLimited(t *testing.T) {
	c := newCluster(t)
	a := c.start(t, "a", func(cfg *Config) { cfg.MaxWatches = 2 })
	p := a.create(t, 10)
	ctx, leave := context.WithCancel(t.Context())
	first, err := a.WatchProduct(ctx, &holdfastv1.WatchProductRequest{ProductId: p})
	if err == nil {
		_, err = first.Recv()
	}
	if err != nil {
		t.Fatal(err)
	}
	a.watch(t, &holdfastv1.WatchEventsRequest{})
	third := func() error {
		stream, err := a.WatchProduct(t.Context(), &holdfastv1.WatchProductRequest{ProductId: p})
		if err == nil {
			_, err = stream.Recv()
		}
		return err
	}
	err = third()
	wantReason(t, err, holdfastv1.ReasonTooManyWatches)
	if status.Code(err) != codes.ResourceExhausted {
		t.Errorf("code %v", status.Code(err))
	}
	leave()
	for ctx := patient(t); third() != nil && ctx.Err() == nil; {
		pause(ctx, 10*time.Millisecond)
	}
	if err := third(); err != nil && holdfastv1.Reason(err) != holdfastv1.ReasonTooManyWatches {
		t.Error(err)
	}
}

// A cursor is the caller's: whatever he sends for one must be told to be none.
func TestWatchRefusesWhatIsNoCursor(t *testing.T) {
	c := newCluster(t)
	a := c.start(t, "a")
	for _, cursor := range []string{"x", "AA", "AQ==", "AgA", "AQJldQ", "AQVldQAAAAAAAAAAAA"} {
		stream, err := a.WatchEvents(t.Context(), &holdfastv1.WatchEventsRequest{Cursor: cursor})
		if err == nil {
			_, err = stream.Recv()
		}
		wantReason(t, err, holdfastv1.ReasonInvalidField)
	}
}

// A page that shows what is left is looked at by many, while few buy. It must not cost
// them the product's worker.
func TestWatchedProductShowsWhatIsLeftAndStaysWhereItIs(t *testing.T) {
	c := newCluster(t)
	a, b := c.start(t, "a"), c.start(t, "b")
	p := a.create(t, 100)
	a.mustBuy(t, p, "eu", "r0", 1)
	token := c.token(t, "eu", p)
	stream, err := b.WatchProduct(t.Context(), &holdfastv1.WatchProductRequest{ProductId: p})
	if err != nil {
		t.Fatal(err)
	}
	left := int64(100)
	next := func() int64 {
		m, err := stream.Recv()
		if err != nil {
			t.Fatal(err)
		}
		if now := m.GetAmountAvailableForPurchase(); now >= left {
			t.Errorf("%d left after %d", now, left)
		}
		left = m.GetAmountAvailableForPurchase()
		return left
	}
	if next() != 99 {
		t.Errorf("%d left at first", left)
	}
	began, values := time.Now(), 0
	for i := range 60 {
		a.mustBuy(t, p, regions[i%2], fmt.Sprint("r", i+1), 1)
	}
	for left > 39 {
		next()
		values++
	}
	if most := int(time.Since(began)/boardPause) + 2; values > most {
		t.Errorf("%d values in %v", values, time.Since(began))
	}
	if got := c.token(t, "eu", p); got != token {
		t.Errorf("token %d, was %d: the product has changed hands", got, token)
	}
	_, err = b.WatchProduct(t.Context(), &holdfastv1.WatchProductRequest{ProductId: p})
	if err != nil {
		t.Fatal(err)
	}
	unknown, err := b.WatchProduct(t.Context(), &holdfastv1.WatchProductRequest{ProductId: "unknown"})
	if err == nil {
		_, err = unknown.Recv()
	}
	wantReason(t, err, holdfastv1.ReasonProductNotFound)
}

// What is left can be told from the movements alone: nothing moves without one.
func TestMovementsAddUpToWhatIsLeft(t *testing.T) {
	c := newCluster(t)
	a := c.start(t, "a")
	p := a.create(t, 100)
	for i := range 11 {
		a.mustBuy(t, p, regions[i%2], fmt.Sprint(i), 2)
	}
	held := a.hold(t, p, "us", "h", 5, time.Hour)
	if _, err := a.CancelPurchase(t.Context(), cancelOf(held, "c")); err != nil {
		t.Fatal(err)
	}
	for request, amount := range map[string]int64{"d": 7, "m": -3} {
		_, err := a.CreateDelivery(t.Context(), &holdfastv1.CreateDeliveryRequest{ProductId: p, Amount: amount, RequestId: request})
		if err != nil {
			t.Fatal(err)
		}
	}
	for _, size := range []int32{1, 5, 15, 1000} {
		left, seen := int64(100), map[string]bool{}
		for req := (&holdfastv1.ListMovementsRequest{ProductId: p, PageSize: size}); ; {
			resp, err := a.ListMovements(t.Context(), req)
			if err != nil || len(resp.GetMovements()) > int(size) {
				t.Fatalf("%d movements, %v", len(resp.GetMovements()), err)
			}
			for _, e := range resp.GetMovements() {
				if left -= e.GetUnits(); e.GetPurchaseId() == "" {
					left += e.GetAmount()
				}
				seen[e.GetEventId()] = true
			}
			if req.PageToken = resp.GetNextPageToken(); req.GetPageToken() == "" {
				break
			}
		}
		if left != 82 || len(seen) != 15 {
			t.Errorf("in pages of %d: %d left after %d movements", size, left, len(seen))
		}
	}
	a.wantAvailable(t, p, 82)
}
