package ledger

import (
	"testing"
	"time"

	"github.com/holdfast-io/holdfast/deploy/local/localtest"
)

// A worker that takes over a hundred products must not have their buyers wait for
// connections: under load each took up to a second to open.
func TestConnectionsForSalesAreKeptOpen(t *testing.T) {
	const least = 3
	s, err := Open(Config{Name: "eu", DSN: localtest.Databases(t, "eu")["eu"], MinConns: least})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Close)
	for begun := time.Now(); s.pool.Stat().IdleConns() < least; time.Sleep(time.Millisecond) {
		if time.Since(begun) > 20*time.Second {
			t.Fatalf("%d connections are open, want %d", s.pool.Stat().IdleConns(), least)
		}
	}
	if n := s.list.Stat().TotalConns(); n != 0 {
		t.Errorf("%d connections for listings, which nobody asked for", n)
	}
}
