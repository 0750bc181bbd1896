package link

import (
	"errors"
	"testing"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	holdfastv1 "github.com/holdfast-io/holdfast/api/holdfast/v1"
)

// A worker that is paused reads nothing. Buyers come and go meanwhile, and what they leave
// behind must not grow for as long as the pause.
func TestQueueToASilentWorkerIsBounded(t *testing.T) {
	l := &line{limit: 10, wake: make(chan struct{}, 1), pending: map[uint64]errand{}, clock: time.NewTimer(time.Hour)}
	defer l.clock.Stop()
	gone, answered := errors.New("gone"), 0
	sent := l.put(&holdfastv1.CreatePurchaseRequest{}, time.Now().Add(time.Hour), nil, func(Answer) { answered++ })
	if msg := l.take(); len(msg.GetNumbers()) != 1 {
		t.Fatalf("sends %v", msg)
	}
	for range 10_000 {
		number := l.put(&holdfastv1.CreatePurchaseRequest{}, time.Now().Add(time.Hour), nil, func(Answer) { answered++ })
		l.abandon(gone, number)
	}
	if len(l.queue) > 2*perMessage || len(l.abandoned) > 0 || answered != 10_000 {
		t.Errorf("%d queued, %d to be told of, %d answered", len(l.queue), len(l.abandoned), answered)
	}
	l.abandon(gone, sent)
	if msg := l.take(); len(msg.GetAbandoned()) != 1 || len(msg.GetNumbers()) != 0 {
		t.Errorf("sends %v, want the one that was abandoned after it was sent", msg)
	}
}

// A refusal is held back for as long as another worker may still sell; one that was never
// told of the purchase will not, and one that may have been told might.
func TestWhatWasNeverSentIsTold(t *testing.T) {
	l := &line{limit: 10, wake: make(chan struct{}, 1), pending: map[uint64]errand{}, clock: time.NewTimer(time.Hour)}
	told := map[string]error{}
	put := func(name string) uint64 {
		return l.put(&holdfastv1.CreatePurchaseRequest{}, time.Now().Add(time.Hour), nil, func(a Answer) { told[name] = a.Err })
	}
	gone := status.Error(codes.Canceled, "gone")
	sent, lost := put("sent"), put("sent, and lost")
	if msg := l.take(); len(msg.GetNumbers()) != 2 || lost != sent+1 {
		t.Fatalf("sends %v", msg)
	}
	l.abandon(gone, sent, put("queued"))
	put("queued, and lost")
	l.end(errors.New("reset"))
	put("after the end")
	for name, never := range map[string]bool{
		"sent": false, "sent, and lost": false, "queued": true, "queued, and lost": true, "after the end": true,
	} {
		if err := told[name]; err == nil || NeverSent(err) != never {
			t.Errorf("%s: %v, never sent: %v", name, err, NeverSent(err))
		}
	}
	if status.Code(told["queued"]) != codes.Canceled || status.Code(told["queued, and lost"]) != codes.Unavailable {
		t.Errorf("told %v", told)
	}
}
