package coordinator_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"net/http"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/timestamppb"

	holdfastv1 "github.com/holdfast-io/holdfast/api/holdfast/v1"
	workerv1 "github.com/holdfast-io/holdfast/api/holdfast/worker/v1"
	"github.com/holdfast-io/holdfast/coordinator"
)

func until(at time.Time) *holdfastv1.Hold {
	return &holdfastv1.Hold{Expiration: &holdfastv1.Hold_ExpireTime{ExpireTime: timestamppb.New(at)}}
}

func lasting(d time.Duration) *holdfastv1.Hold {
	return &holdfastv1.Hold{Expiration: &holdfastv1.Hold_Duration{Duration: durationpb.New(d)}}
}

// bought is a purchase of 5 units, of which some were given back.
func bought(state holdfastv1.PurchaseState, released int64) *holdfastv1.Purchase {
	return &holdfastv1.Purchase{
		PurchaseId: "eu-1", ProductId: "p", Amount: 5, CustomerId: "alice", Region: "eu", RequestId: "r1", State: state,
		CreateTime: opened, ExpireTime: timestamppb.New(opened.AsTime().Add(10 * time.Minute)), AmountReleased: released,
	}
}

// refused is how a worker refuses a change.
func refused(reason, message string, metadata ...string) error {
	all := map[string]string{"purchase_id": "eu-1"}
	for i := 0; i < len(metadata); i += 2 {
		all[metadata[i]] = metadata[i+1]
	}
	return holdfastv1.Error(codes.FailedPrecondition, reason, message, all)
}

// What became of a purchase, and why something cannot become of it, is for programs too:
// over HTTP as published, and over gRPC as the worker said it.
func TestChangesAreAnsweredAsPublished(t *testing.T) {
	f := openFront(t, coordinator.Config{}, "w1")
	tooLong := holdfastv1.Error(codes.InvalidArgument, holdfastv1.ReasonHoldTooLong, "hold: the hold may last until 2026-01-03T03:04:05Z at most",
		map[string]string{"purchase_id": "eu-1", "latest_expire_time": "2026-01-03T03:04:05Z"})
	const changed, conflict = http.StatusOK, http.StatusConflict
	for _, tt := range []struct {
		name      string
		path      string
		body      string
		answer    *holdfastv1.Purchase
		err       error
		published int // HTTP status
	}{
		{"extended", "eu-1:extend", `{"hold":{"duration":"600s"}}`, bought(holdfastv1.PurchaseState_PURCHASE_STATE_HELD, 0), nil, changed},
		{"confirmed", "eu-1:confirm", `{"amount":3}`, bought(holdfastv1.PurchaseState_PURCHASE_STATE_CONFIRMED, 2), nil, changed},
		{"cancelled", "eu-1:cancel", `{}`, bought(holdfastv1.PurchaseState_PURCHASE_STATE_CANCELLED, 5), nil, changed},
		{"returned", "eu-1:return", `{}`, bought(holdfastv1.PurchaseState_PURCHASE_STATE_RETURNED, 5), nil, changed},
		{
			"purchase held", "eu-1:return", `{}`, nil,
			refused(holdfastv1.ReasonPurchaseHeld, "purchase_id: cannot return a purchase that is held", "action", "return"), conflict,
		},
		{
			"purchase confirmed", "eu-1:cancel", `{}`, nil,
			refused(holdfastv1.ReasonPurchaseConfirmed, "purchase_id: cannot cancel a purchase that is confirmed", "action", "cancel"), conflict,
		},
		{
			"purchase cancelled", "eu-1:confirm", `{}`, nil,
			refused(holdfastv1.ReasonPurchaseCancelled, "purchase_id: cannot confirm a purchase that is cancelled", "action", "confirm"), conflict,
		},
		{
			"hold expired", "eu-1:extend", `{}`, nil,
			refused(holdfastv1.ReasonHoldExpired, "purchase_id: cannot extend a purchase that is expired", "action", "extend"), conflict,
		},
		{
			"purchase returned", "eu-1:return", `{}`, nil,
			refused(holdfastv1.ReasonPurchaseReturned, "purchase_id: cannot return a purchase that is returned", "action", "return"), conflict,
		},
		{
			"amount exceeded", "eu-1:return", `{"amount":4}`, nil,
			refused(holdfastv1.ReasonAmountExceeded, "amount: cannot return more than the 3 units there are", "has", "3"), conflict,
		},
		{
			"hold too long", "eu-1:extend", `{"hold":{"duration":"864000s"}}`, nil,
			tooLong, http.StatusBadRequest,
		},
		{
			"request_id of another change", "eu-1:confirm", `{"request_id":"r"}`, nil,
			holdfastv1.FieldError(holdfastv1.ReasonRequestIDReused, "request_id", "request id was used with other content"), http.StatusBadRequest,
		},
		{
			"no purchase to confirm", "eu-9:confirm", `{}`, nil,
			holdfastv1.Error(codes.NotFound, holdfastv1.ReasonPurchaseNotFound, `purchase_id: there is no purchase "eu-9"`, nil), http.StatusNotFound,
		},
	} {
		t.Run(tt.name, func(t *testing.T) {
			f.shop.onChanges(func(proto.Message) (*holdfastv1.Purchase, error) { return tt.answer, tt.err })
			code, body := f.do("POST", "/v1/purchases/"+tt.path, tt.body)
			if code != tt.published {
				t.Errorf("HTTP status %d, want %d", code, tt.published)
			}
			checkGolden(t, strings.ReplaceAll(tt.name, " ", "-")+".json", body)
			for _, c := range f.shop.takeCalls() {
				got, err := f.change(t.Context(), c.req)
				if !proto.Equal(status.Convert(err).Proto(), status.Convert(tt.err).Proto()) || err == nil && !proto.Equal(got, tt.answer) {
					t.Errorf("gRPC answers %v, %v", got, err)
				}
			}
		})
	}
}

// A hold, a limit and a delivery are answered over HTTP as published.
func TestHoldsAndDeliveriesAreAnsweredAsPublished(t *testing.T) {
	f := openFront(t, coordinator.Config{}, "w1")
	f.stock("p", 10)
	limit := holdfastv1.Error(codes.FailedPrecondition, holdfastv1.ReasonLimitExceeded, "amount: a customer may have 4 units, and has 3",
		map[string]string{"product_id": "p", "max_per_customer": "4", "has": "3"})
	missing := holdfastv1.Error(codes.FailedPrecondition, holdfastv1.ReasonInsufficientStock, "3 asked for, 2 available",
		map[string]string{"product_id": "p", "available": "2"})
	const hold = `{"product_id":"p","amount":2,"customer_id":"alice","region":"eu","request_id":"h","hold":%s}`
	for _, tt := range []struct {
		name, path, body string
		fault            fault
		status           int
	}{
		{"held", "/v1/purchases", fmt.Sprintf(hold, `{"expire_time":"2999-01-02T03:04:05.000006789Z"}`), nil, 200},
		{"held until the past", "/v1/purchases", fmt.Sprintf(hold, `{"expire_time":"1969-01-02T03:04:05Z"}`), nil, 400},
		{"held for no time", "/v1/purchases", fmt.Sprintf(hold, `{"duration":"0s"}`), nil, 400},
		{"held twice", "/v1/purchases", fmt.Sprintf(hold, `{"duration":"1s","expire_time":"2999-01-02T03:04:05Z"}`), nil, 400},
		{"held until the past in a batch", "/v1/purchases:batchCreate", `{"requests":[` + fmt.Sprintf(hold, `{}`) + "," + fmt.Sprintf(hold, `{"expire_time":"1969-01-02T03:04:05Z"}`) + `]}`, nil, 400},
		{"limit exceeded", "/v1/purchases", fmt.Sprintf(hold, "{}"), answer(limit), 409},
		{"delivered", "/v1/deliveries", `{"product_id":"p","amount":-3,"request_id":"d"}`, nil, 200},
		{"insufficient stock to take away", "/v1/deliveries", `{"product_id":"p","amount":-3,"request_id":"d"}`, answer(missing), 409},
	} {
		t.Run(tt.name, func(t *testing.T) {
			f.workers["w1"].set(tt.fault)
			code, body := f.do("POST", tt.path, tt.body)
			if code != tt.status {
				t.Errorf("status %d, want %d", code, tt.status)
			}
			checkGolden(t, strings.ReplaceAll(tt.name, " ", "-")+".json", body)
		})
	}
}

// changes are one of each change, without a key.
func changes() []proto.Message {
	return []proto.Message{
		&holdfastv1.ExtendPurchaseRequest{PurchaseId: "eu-1", Hold: lasting(time.Hour)},
		&holdfastv1.ConfirmPurchaseRequest{PurchaseId: "eu-1", Amount: 3}, &holdfastv1.CancelPurchaseRequest{PurchaseId: "eu-1"},
		&holdfastv1.ReturnPurchaseRequest{PurchaseId: "eu-1", Amount: 2}, &holdfastv1.CreateDeliveryRequest{ProductId: "eu-1", Amount: 4},
	}
}

// A worker that has done something, and could not say so, is followed by one that is asked
// for the same thing: it finds the first outcome by the key.
func TestChangeIsRepeatedOnAnotherWorkerAsItWas(t *testing.T) {
	for name, fault := range map[string]fault{
		"refuse": refuse, "reply lost": refuseAfter, "cut": cutAfter, "draining": answer(errDraining), "hang": hangAfter,
	} {
		t.Run(name, func(t *testing.T) {
			f := openFront(t, quick, "w1", "w2", "w3")
			f.shop.onChanges(func(proto.Message) (*holdfastv1.Purchase, error) {
				return bought(holdfastv1.PurchaseState_PURCHASE_STATE_HELD, 0), nil
			})
			order := f.ranked("eu-1")
			for _, req := range changes() {
				order[0].set(fault)
				if _, err := f.change(t.Context(), req); err != nil {
					t.Fatalf("%T: %v", req, err)
				}
				order[0].set(nil)
				calls := f.shop.takeCalls()
				if len(calls) != 2 || calls[0].worker != order[0].name || calls[1].worker != order[1].name {
					t.Fatalf("%T: calls %v", req, calls)
				}
				key := calls[0].req.(interface{ GetRequestId() string }).GetRequestId()
				if key == "" || !proto.Equal(calls[0].req, calls[1].req) {
					t.Errorf("%T: asked for %v, then for %v", req, calls[0].req, calls[1].req)
				}
			}
		})
	}
}

// A confirmation that comes late is one call to the customer: that it takes the product's
// worker is not his to know.
func TestLateConfirmationGoesToTheProductsWorker(t *testing.T) {
	f := openFront(t, quick, "w1", "w2", "w3", "w4", "w5")
	const purchase, product = "eu-1", "p"
	toReadmit := refused(holdfastv1.ReasonToReadmit, "purchase_id: the hold has expired", "product_id", product)
	expired := refused(holdfastv1.ReasonHoldExpired, "purchase_id: cannot confirm a purchase that is expired", "action", "confirm")
	confirmed := bought(holdfastv1.PurchaseState_PURCHASE_STATE_CONFIRMED, 2)
	for _, tt := range []struct {
		name    string
		readmit error
		fault   fault // of the product's first worker
	}{
		{"there are units", nil, nil},
		{"there are none", expired, nil},
		{"first worker away", nil, refuse},
		{"first worker dies after it", nil, cutAfter},
	} {
		t.Run(tt.name, func(t *testing.T) {
			f.shop.onChanges(func(req proto.Message) (*holdfastv1.Purchase, error) {
				if _, ok := req.(*workerv1.ReadmitRequest); !ok {
					return nil, toReadmit
				}
				return confirmed, tt.readmit
			})
			of := f.ranked(product)
			of[0].set(func(ctx context.Context, w *worker, handle func() (any, error)) (any, error) {
				if calls := w.shop.peekCalls(); tt.fault != nil && len(calls) > 1 {
					return tt.fault(ctx, w, handle)
				}
				return handle()
			})
			p, err := f.purchases.ConfirmPurchase(t.Context(), &holdfastv1.ConfirmPurchaseRequest{PurchaseId: purchase, Amount: 3})
			if !proto.Equal(status.Convert(err).Proto(), status.Convert(tt.readmit).Proto()) || err == nil && !proto.Equal(p, confirmed) {
				t.Errorf("%v, %v", p, err)
			}
			calls := f.shop.takeCalls()
			workers := []*worker{f.ranked(purchase)[0], of[0]}
			if tt.fault != nil {
				workers = append(workers, of[1])
			}
			if len(calls) != len(workers) {
				t.Fatalf("%d calls, want %d", len(calls), len(workers))
			}
			asked := calls[0].req.(*holdfastv1.ConfirmPurchaseRequest)
			for i, c := range calls {
				if c.worker != workers[i].name {
					t.Errorf("call %d was to %s, want %s", i, c.worker, workers[i].name)
				}
				want := &workerv1.ReadmitRequest{ProductId: product, Confirmation: asked}
				if i > 0 && (asked.GetRequestId() == "" || !proto.Equal(c.req, want)) {
					t.Errorf("call %d is %v, want %v", i, c.req, want)
				}
			}
		})
	}
}

// peekCalls returns the calls since takeCalls.
func (s *shop) peekCalls() []call {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.calls
}

// When a hold ends is settled before the first worker is asked, however it is said: else a
// repetition would be another purchase, or last longer.
func TestHoldEndsForEveryWorkerAtTheSameTime(t *testing.T) {
	const byDefault = 7 * time.Minute
	cfg := quick
	cfg.DefaultHold = byDefault
	at := time.Now().Add(time.Hour + 123*time.Nanosecond)
	type purchaseRequest = holdfastv1.CreatePurchaseRequest
	for _, way := range []struct {
		name string
		send func(f *front, req *purchaseRequest) (*holdfastv1.Purchase, error)
	}{
		{"alone", func(f *front, req *purchaseRequest) (*holdfastv1.Purchase, error) {
			return f.purchases.CreatePurchase(t.Context(), req)
		}},
		{"in a batch", func(f *front, req *purchaseRequest) (*holdfastv1.Purchase, error) {
			resp, err := f.purchases.BatchCreatePurchases(t.Context(), &holdfastv1.BatchCreatePurchasesRequest{Requests: []*purchaseRequest{req}})
			if err != nil {
				return nil, err
			}
			return resp.GetResults()[0].GetPurchase(), status.ErrorProto(resp.GetResults()[0].GetError())
		}},
		{"in a stream", func(f *front, req *purchaseRequest) (*holdfastv1.Purchase, error) {
			resp, err := f.streamOne(req)
			return resp.GetPurchase(), err
		}},
	} {
		f := openFront(t, cfg, "w1", "w2", "w3")
		f.stock("p", 100)
		f.ranked("p")[0].set(refuse)
		for name, tt := range map[string]struct {
			hold  *holdfastv1.Hold
			lasts time.Duration
		}{
			"until": {until(at), time.Until(at)}, "for": {lasting(time.Minute + 500), time.Minute + 500}, "by default": {&holdfastv1.Hold{}, byDefault},
		} {
			t.Run(way.name+" "+name, func(t *testing.T) {
				req := purchase()
				req.RequestId, req.Hold = way.name+name, tt.hold
				begun := time.Now()
				p, err := way.send(f, req)
				if err != nil {
					t.Fatal(err)
				}
				calls := f.shop.takeCalls()
				if len(calls) != 2 || !proto.Equal(calls[0].req, calls[1].req) {
					t.Fatalf("calls %v", calls)
				}
				ends := calls[0].req.(*purchaseRequest).GetHold().GetExpireTime()
				if !proto.Equal(p.GetExpireTime(), ends) || p.GetState() != holdfastv1.PurchaseState_PURCHASE_STATE_HELD {
					t.Errorf("answered %v, asked for until %v", p, ends.AsTime())
				}
				earliest, latest := begun.Add(tt.lasts-time.Microsecond), time.Now().Add(tt.lasts)
				if name == "until" {
					earliest, latest = at.Add(-time.Microsecond), at
				}
				if got := ends.AsTime(); got.Before(earliest) || got.After(latest) || got.Nanosecond()%1000 != 0 {
					t.Errorf("ends at %v, want from %v to %v", got, earliest, latest)
				}
			})
		}
	}
	f := openFront(t, cfg, "w1")
	f.shop.onChanges(func(proto.Message) (*holdfastv1.Purchase, error) {
		return bought(holdfastv1.PurchaseState_PURCHASE_STATE_HELD, 0), nil
	})
	for _, hold := range []*holdfastv1.Hold{nil, {}} {
		begun := time.Now()
		if err := f.send(&holdfastv1.ExtendPurchaseRequest{PurchaseId: "eu-1", Hold: hold}); err != nil {
			t.Fatal(err)
		}
		ends := f.shop.takeCalls()[0].req.(*holdfastv1.ExtendPurchaseRequest).GetHold().GetExpireTime().AsTime()
		if ends.Before(begun.Add(byDefault-time.Microsecond)) || ends.After(time.Now().Add(byDefault)) {
			t.Errorf("extended until %v", ends)
		}
	}
}

// streamOne has one purchase decided in a stream of its own.
func (f *front) streamOne(req *holdfastv1.CreatePurchaseRequest) (*holdfastv1.StreamPurchasesResponse, error) {
	stream, err := f.purchases.StreamPurchases(f.t.Context())
	if err != nil {
		return nil, err
	}
	if err := stream.Send(&holdfastv1.StreamPurchasesRequest{Purchase: req}); err != nil {
		return nil, err
	}
	_ = stream.CloseSend()
	resp, err := stream.Recv()
	if err != nil {
		return nil, err
	}
	if _, err := stream.Recv(); !errors.Is(err, io.EOF) {
		return nil, err
	}
	return resp, status.ErrorProto(resp.GetError())
}

// A time that is none must not become another one on its way, or a hold a sale.
func TestHoldUntilNoTimeIsRefused(t *testing.T) {
	f := openFront(t, coordinator.Config{}, "w1")
	f.stock("p", 100)
	hold := func(seconds int64, nanos int32) *holdfastv1.Hold {
		return &holdfastv1.Hold{Expiration: &holdfastv1.Hold_ExpireTime{ExpireTime: &timestamppb.Timestamp{Seconds: seconds, Nanos: nanos}}}
	}
	span := func(seconds int64, nanos int32) *holdfastv1.Hold {
		return &holdfastv1.Hold{Expiration: &holdfastv1.Hold_Duration{Duration: &durationpb.Duration{Seconds: seconds, Nanos: nanos}}}
	}
	for _, h := range []*holdfastv1.Hold{
		hold(1<<58, 0), // in microseconds, modulo 2^64, it is 0: no hold
		hold(math.MaxInt64, 0), hold(math.MaxInt64, math.MaxInt32), hold(math.MinInt64, 0), hold(time.Now().Unix()+60, -1),
		hold(time.Now().Unix()+60, math.MaxInt32), hold(253402300800, 0), {Expiration: &holdfastv1.Hold_ExpireTime{}},
		span(math.MaxInt64, 0), span(1<<40, 0), span(-1, 5), span(1, -5), span(1, math.MaxInt32), {Expiration: &holdfastv1.Hold_Duration{}},
	} {
		for path, req := range map[string]proto.Message{
			"":             purchase(func(r *holdfastv1.CreatePurchaseRequest) { r.Hold = proto.CloneOf(h) }),
			"requests[3].": batchOf(5, func(r *holdfastv1.CreatePurchaseRequest) { r.Hold = proto.CloneOf(h) }),
			" ":            &holdfastv1.ExtendPurchaseRequest{PurchaseId: "eu-1", Hold: h},
		} {
			st := status.Convert(f.send(req))
			if field := badField(st).GetField(); st.Code() != codes.InvalidArgument || !strings.HasPrefix(field, strings.TrimSpace(path)+"hold.") {
				t.Errorf("%v: %v, field %q", req, st, field)
			}
		}
		req := purchase(func(r *holdfastv1.CreatePurchaseRequest) { r.Hold, r.RequestId = h, "s" })
		if _, err := f.streamOne(req); status.Code(err) != codes.InvalidArgument {
			t.Errorf("%v in a stream: %v", h, err)
		}
		if calls := f.shop.takeCalls(); len(calls) > 0 {
			t.Fatalf("%v reached a worker: %v", h, calls)
		}
	}
}
