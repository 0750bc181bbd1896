package worker

import (
	"context"
	"errors"
	"testing"
)

// A lane that has stopped answers nobody, and nobody waits for it: a call that its provider
// has kept until then goes on at the next worker.
func TestNobodyWaitsForALaneThatHasStopped(t *testing.T) {
	q := newQueue[question[string, string]]()
	ctx, stop := context.WithCancel(t.Context())
	begun, finish := make(chan struct{}), make(chan struct{})
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		q.drain(ctx, 1, func(_ context.Context, all []question[string, string]) {
			close(begun)
			<-finish
			for _, each := range all {
				each.answer(each.asked, nil)
			}
		})
	}()
	answer := make(chan error, 1)
	go func() {
		_, err := await(t.Context(), &q, "taken before it stopped")
		answer <- err
	}()
	<-begun
	stop()
	close(finish)
	if err := <-answer; err != nil {
		t.Errorf("what was under way was told %v", err)
	}
	<-ended
	if _, err := await(t.Context(), &q, "too late"); !errors.Is(err, ErrDraining) {
		t.Errorf("told %v, want %v", err, ErrDraining)
	}
}

// What is logged of a tenure that was given up says why.
func TestWhoeverIsToldToWaitNoLongerSaysWhy(t *testing.T) {
	q := newQueue[question[string, string]]()
	ctx, giveUp := context.WithCancelCause(t.Context())
	giveUp(errAbandoned)
	if _, err := await(ctx, &q, "asked"); !errors.Is(err, errAbandoned) {
		t.Errorf("waited in vain: %v", err)
	}
}
