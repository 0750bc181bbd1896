package client_test

import (
	"context"
	"errors"
	"io"
	"net"
	"testing"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"

	"github.com/holdfast-io/holdfast/api/client"
	holdfastv1 "github.com/holdfast-io/holdfast/api/holdfast/v1"
)

// quick passes over a coordinator that hangs sooner than usual.
var quick = client.Config{AttemptTimeout: 200 * time.Millisecond}

func order() *holdfastv1.CreatePurchaseRequest {
	return &holdfastv1.CreatePurchaseRequest{ProductId: "ticket", Amount: 2, CustomerId: "ann"}
}

type keyed interface{ GetRequestId() string }

// Whatever is lost on the way, the customer buys once.
func TestLostMessagesMakeOnePurchase(t *testing.T) {
	for _, tt := range []struct {
		name         string
		coordinators int
		faults       []fault
	}{
		{"nothing", 1, nil},
		{"request lost, connection cut", 1, []fault{cutBefore}},
		{"reply lost, connection cut", 1, []fault{cutAfter}},
		{"again and again", 1, []fault{cutBefore, cutAfter, cutBefore, cutAfter}},
		{"request hangs", 2, []fault{hang}},
		{"reply hangs", 2, []fault{hangAfter}},
		{"both coordinators hang at first", 2, []fault{hangAfter, hangAfter}},
		{"no worker", 1, []fault{answer(errNoWorker)}},
		{"no worker any more", 1, []fault{answerAfter(errNoWorker)}},
		{"overload", 1, []fault{answer(overloaded(50 * time.Millisecond)), answer(overloaded(50 * time.Millisecond))}},
		{"aborted", 1, []fault{answerAfter(status.Error(codes.Aborted, "again"))}},
		{"coordinator ends", 1, []fault{answerAfter(status.Error(codes.Canceled, "context canceled"))}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			s, c := open(t, tt.coordinators, quick, tt.faults...)
			req := order()
			got, err := c.CreatePurchase(t.Context(), req)
			if err != nil {
				t.Fatal(err)
			}
			if s.stored() != 1 {
				t.Errorf("%d purchases", s.stored())
			}
			calls := s.calls()
			if len(calls) != len(tt.faults)+1 {
				t.Errorf("%d attempts, want %d", len(calls), len(tt.faults)+1)
			}
			for _, call := range calls {
				if id := call.req.(keyed).GetRequestId(); id == "" || id != got.GetRequestId() {
					t.Errorf("asked with request_id %q, answered %q", id, got.GetRequestId())
				}
			}
			if !proto.Equal(req, order()) {
				t.Errorf("the caller's message has become %v", req)
			}
		})
	}
}

// A second order that looks like the first is another one, and a key of the caller's is his.
func TestKeysAreNewUnlessGiven(t *testing.T) {
	s, c := open(t, 1, quick)
	req := order()
	for range 2 {
		if _, err := c.CreatePurchase(t.Context(), req); err != nil {
			t.Fatal(err)
		}
	}
	req.RequestId = "mine"
	for range 2 {
		if p, err := c.CreatePurchase(t.Context(), req); err != nil || p.GetRequestId() != "mine" {
			t.Fatal(p, err)
		}
	}
	if s.stored() != 3 {
		t.Errorf("%d purchases, want 2 and 1", s.stored())
	}
}

// A server that says when to come back is asked then, and no sooner.
func TestOverloadIsGivenTime(t *testing.T) {
	const delay = 300 * time.Millisecond
	s, c := open(t, 1, quick, answer(overloaded(delay)))
	if _, err := c.CreatePurchase(t.Context(), order()); err != nil {
		t.Fatal(err)
	}
	calls := s.calls()
	if waited := calls[1].at.Sub(calls[0].at); len(calls) != 2 || waited < delay || waited > 3*delay {
		t.Errorf("%d attempts, the second after %v", len(calls), waited)
	}
	_, c = open(t, 1, quick, answer(overloaded(time.Hour)))
	begun := time.Now()
	_, err := c.CreatePurchase(t.Context(), order())
	if !errors.Is(err, client.ErrOverloaded) || time.Since(begun) > time.Second {
		t.Errorf("after %v: %v; want ErrOverloaded at once", time.Since(begun), err)
	}
}

// An outcome stays what it is: to ask again is work for nothing.
func TestFinalAnswersAreNotAskedForAgain(t *testing.T) {
	for _, final := range []error{
		holdfastv1.Error(codes.FailedPrecondition, holdfastv1.ReasonInsufficientStock, "no", map[string]string{"available": "3"}),
		holdfastv1.FieldError(holdfastv1.ReasonInvalidField, "amount", "must be 1"),
		holdfastv1.Error(codes.NotFound, holdfastv1.ReasonProductNotFound, "no", nil),
		holdfastv1.Error(codes.AlreadyExists, holdfastv1.ReasonProductExists, "no", nil),
		status.Error(codes.ResourceExhausted, "message too large"),
		status.Error(codes.Internal, "internal error"), status.Error(codes.Unimplemented, "no"), status.Error(codes.Unknown, "no"),
		status.Error(codes.PermissionDenied, "no"), status.Error(codes.Unauthenticated, "no"),
		status.Error(codes.OutOfRange, "no"), status.Error(codes.DataLoss, "no"),
	} {
		s, c := open(t, 2, quick, answer(final))
		_, err := c.CreatePurchase(t.Context(), order())
		if got, want := status.Convert(err), status.Convert(final); !proto.Equal(got.Proto(), want.Proto()) {
			t.Errorf("got %v, want %v", got, want)
		}
		if n := len(s.calls()); n != 1 {
			t.Errorf("%v: asked for %d times", final, n)
		}
	}
}

// Nobody waits for longer than he said, and is told what is known by then.
func TestDeadlineIsKept(t *testing.T) {
	var hangs, noWorkers []fault
	for range 100 {
		hangs, noWorkers = append(hangs, hang), append(noWorkers, answer(errNoWorker))
	}
	closed, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	_ = closed.Close()
	const timeout = 600 * time.Millisecond
	for _, tt := range []struct {
		name         string
		coordinators int // none: nobody listens
		faults       []fault
		code         codes.Code
		is           error
	}{
		{"one hangs", 1, hangs, codes.DeadlineExceeded, context.DeadlineExceeded},
		{"all hang", 3, hangs, codes.DeadlineExceeded, context.DeadlineExceeded},
		{"no worker", 1, noWorkers, codes.Unavailable, client.ErrNoWorker},
		{"no worker, then all hang", 2, append([]fault{noWorkers[0]}, hangs...), codes.Unavailable, client.ErrNoWorker},
		{"nobody there", 0, nil, codes.Unavailable, nil},
	} {
		for _, whose := range []string{"the caller's", "the client's"} {
			t.Run(tt.name+", "+whose, func(t *testing.T) {
				t.Parallel()
				cfg, ctx := quick, t.Context()
				if whose == "the client's" {
					cfg.Timeout = timeout
				} else {
					var cancel context.CancelFunc
					ctx, cancel = context.WithTimeout(ctx, timeout)
					defer cancel()
				}
				_, c := open(t, max(tt.coordinators, 1), cfg, tt.faults...)
				if tt.coordinators == 0 {
					c = newClient(t, cfg, closed.Addr().String())
				}
				begun := time.Now()
				_, err := c.CreatePurchase(ctx, order())
				if took := time.Since(begun); took > timeout+200*time.Millisecond || took < timeout/4 {
					t.Errorf("took %v", took)
				}
				var e *client.Error
				if !errors.As(err, &e) || e.Code != tt.code || e.RequestID == "" || tt.is != nil && !errors.Is(err, tt.is) {
					t.Errorf("got %#v, want %v and %v", err, tt.code, tt.is)
				}
			})
		}
	}
}

func newClient(t *testing.T, cfg client.Config, targets ...string) *client.Client {
	t.Helper()
	cfg.Credentials = insecure.NewCredentials()
	c, err := client.New(targets, cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	return c
}

// One coordinator that hangs costs one call its patience, and not every call.
func TestHungCoordinatorIsPassedOver(t *testing.T) {
	s, c := open(t, 2, client.Config{AttemptTimeout: 300 * time.Millisecond}, hang)
	for i := range 10 {
		begun := time.Now()
		if _, err := c.CreatePurchase(t.Context(), order()); err != nil {
			t.Fatal(err)
		}
		if took := time.Since(begun); i > 0 && took > 200*time.Millisecond {
			t.Errorf("call %d took %v", i, took)
		}
	}
	calls := s.calls()
	for _, call := range calls[1:] {
		if call.coordinator == calls[0].coordinator {
			t.Error("the coordinator that hung was asked again")
		}
	}
	// A caller who has less time than an attempt may take gets to the second one as well.
	s, c = open(t, 2, client.Config{}, hang)
	ctx, cancel := context.WithTimeout(t.Context(), 500*time.Millisecond)
	defer cancel()
	if _, err := c.CreatePurchase(ctx, order()); err != nil || len(s.calls()) != 2 {
		t.Errorf("%d attempts: %v", len(s.calls()), err)
	}
}

func TestCallerWhoLeavesIsLetGo(t *testing.T) {
	_, c := open(t, 1, quick, hang)
	ctx, cancel := context.WithCancel(t.Context())
	time.AfterFunc(50*time.Millisecond, cancel)
	begun := time.Now()
	_, err := c.CreatePurchase(ctx, order())
	if status.Code(err) != codes.Canceled || !errors.Is(err, context.Canceled) || time.Since(begun) > time.Second {
		t.Errorf("after %v: %v", time.Since(begun), err)
	}
}

// Only what has no outcome is sent again, and each purchase keeps its key and its place.
func TestBatchRepeatsWhatIsUndecided(t *testing.T) {
	s, c := open(t, 1, quick)
	req := &holdfastv1.BatchCreatePurchasesRequest{}
	for _, product := range []string{"a", "busy", "sold out", "b", "busy"} {
		req.Requests = append(req.Requests, &holdfastv1.CreatePurchaseRequest{ProductId: product, Amount: 1, CustomerId: "ann"})
	}
	resp, err := c.BatchCreatePurchases(t.Context(), req)
	if err != nil || len(resp.GetResults()) != len(req.GetRequests()) {
		t.Fatal(resp, err)
	}
	for i, r := range resp.GetResults() {
		product := req.GetRequests()[i].GetProductId()
		err := client.FromStatus(r.GetError())
		if soldOut := errors.Is(err, client.ErrInsufficientStock); soldOut != (product == "sold out") || !soldOut && r.GetPurchase().GetProductId() != product {
			t.Errorf("result %d, of %s: %v", i, product, r)
		}
		if req.GetRequests()[i].GetRequestId() != "" {
			t.Error("the caller's message was changed")
		}
	}
	calls := s.calls()
	if len(calls) != 2 || s.stored() != 4 {
		t.Fatalf("%d attempts, %d purchases; want 2 and 4", len(calls), s.stored())
	}
	first := calls[0].req.(*holdfastv1.BatchCreatePurchasesRequest).GetRequests()
	second := calls[1].req.(*holdfastv1.BatchCreatePurchasesRequest).GetRequests()
	if len(second) != 2 || !proto.Equal(second[0], first[1]) || !proto.Equal(second[1], first[4]) {
		t.Errorf("sent again: %v", second)
	}
}

// What stays undecided is told in its place, and a batch that is lost whole is sent again whole.
func TestBatchUntilTheTimeIsUp(t *testing.T) {
	s, c := open(t, 1, client.Config{Timeout: 300 * time.Millisecond}, cutAfter, nil, hang, hang)
	resp, err := c.BatchCreatePurchases(t.Context(), &holdfastv1.BatchCreatePurchasesRequest{Requests: []*holdfastv1.CreatePurchaseRequest{
		order(), {ProductId: "busy", Amount: 1, CustomerId: "ann"},
	}})
	if err != nil || resp.GetResults()[0].GetPurchase() == nil || resp.GetResults()[1] == nil {
		t.Fatal(resp, err)
	}
	if s.stored() != 2 {
		t.Errorf("%d purchases", s.stored())
	}
	_, c = open(t, 1, client.Config{Timeout: 300 * time.Millisecond}, hang, hang)
	resp, err = c.BatchCreatePurchases(t.Context(), &holdfastv1.BatchCreatePurchasesRequest{Requests: []*holdfastv1.CreatePurchaseRequest{order()}})
	if !errors.Is(err, context.DeadlineExceeded) {
		t.Error(resp, err)
	}
}

func TestStreamHasKeysAndErrors(t *testing.T) {
	s, c := open(t, 1, client.Config{Timeout: 200 * time.Millisecond})
	stream, err := c.StreamPurchases(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	time.Sleep(300 * time.Millisecond) // the stream lasts for longer than a call may
	for range 2 {
		if err := stream.Send(&holdfastv1.StreamPurchasesRequest{Purchase: order()}); err != nil {
			t.Fatal(err)
		}
		if resp, err := stream.Recv(); err != nil || resp.GetRequestId() == "" || client.FromStatus(resp.GetError()) != nil {
			t.Fatal(resp, err)
		}
	}
	if s.stored() != 2 {
		t.Errorf("%d purchases", s.stored())
	}
	_ = stream.CloseSend()
	if _, err := stream.Recv(); !errors.Is(err, io.EOF) {
		t.Errorf("got %v", err)
	}
	if stream, err = c.StreamPurchases(t.Context()); err != nil {
		t.Fatal(err)
	}
	_ = stream.Send(&holdfastv1.StreamPurchasesRequest{Purchase: &holdfastv1.CreatePurchaseRequest{ProductId: "broken"}})
	if _, err := stream.Recv(); !errors.Is(err, client.ErrNoWorker) {
		t.Errorf("got %v", err)
	}
}

// A client that cannot work is not made.
func TestConfigIsChecked(t *testing.T) {
	secure := insecure.NewCredentials()
	for _, tt := range []struct {
		targets []string
		cfg     client.Config
	}{
		{nil, client.Config{Credentials: secure}},
		{[]string{"a:1"}, client.Config{}},
		{[]string{"a:1", "\x00"}, client.Config{Credentials: secure}},
		{[]string{"a:1"}, client.Config{Credentials: secure, Timeout: -1}},
		{[]string{"a:1"}, client.Config{Credentials: secure, AttemptTimeout: -1}},
	} {
		if _, err := client.New(tt.targets, tt.cfg); err == nil {
			t.Errorf("%+v: no error", tt)
		}
	}
}
