package ledger

import (
	"context"
	"errors"
	"net"
	"testing"
	"time"

	"github.com/holdfast-io/holdfast/deploy/local/localtest"
)

// A shard in another continent, or one that is very busy, takes longer to be connected to than
// a question may last, and answers all the same.
func TestPingFindsTheConnectionThatAnotherOneBegan(t *testing.T) {
	proxy := newDeafProxy(t, localtest.Databases(t, "eu")["eu"], 300*time.Millisecond)
	s, err := Open(Config{Name: "eu", DSN: proxy.dsn})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	ping := func() error {
		ctx, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
		defer cancel()
		return s.Ping(ctx)
	}
	if err := ping(); !errors.Is(err, context.DeadlineExceeded) {
		t.Fatalf("connected to at once: %v", err)
	}
	for begun := time.Now(); ping() != nil; {
		if time.Since(begun) > 10*time.Second {
			t.Fatal("it never answers")
		}
	}
	if err := ping(); err != nil {
		t.Errorf("connected to, and then: %v", err)
	}
}

// A shard that is closed leaves nothing behind that still connects.
func TestCloseEndsTheConnectionThatAPingBegan(t *testing.T) {
	mute, err := net.Listen("tcp", "127.0.0.1:0") // its kernel accepts, and nobody says anything
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = mute.Close() }()
	s, err := Open(Config{Name: "eu", DSN: "postgres://u@" + mute.Addr().String() + "/d?sslmode=disable&connect_timeout=3600"})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	if err := s.Ping(ctx); !errors.Is(err, context.DeadlineExceeded) {
		t.Fatal(err)
	}
	closed := make(chan struct{})
	go func() { s.Close(); close(closed) }()
	select {
	case <-closed:
	case <-time.After(10 * time.Second):
		t.Error("Close waits for it")
	}
}
