package link

import (
	"errors"
	"testing"
	"time"

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
