package lockmgr

import (
	"testing"
	"time"

	"github.com/holdfast-io/holdfast/deploy/local/localtest"
)

// Trust counts from the grant, whoever the lease was granted for: an acquisition must
// neither begin with more than is left nor with too little to go on.
func TestSpareLeaseKeepsItsTrust(t *testing.T) {
	m, l := newIdleManager(t)
	m.putAside(l, ErrHeld)
	if _, ok := m.takeSpare(l.trust.due); ok {
		t.Error("took a lease that is due for renewal")
	}
	m.keepSpare(spare{l.id, l.trust})
	again, err := m.grant(t.Context(), "y")
	if err != nil || again.id != l.id || again.trust != l.trust {
		t.Errorf("took %+v, want lease %d with trust until %v", again, l.id, l.trust.until)
	}
	if _, ok := m.takeSpare(time.Now()); ok {
		t.Error("the lease was given away twice")
	}
}

// The answer to the renewal could be taken for that to a later one.
func TestLeaseInFlightIsNotSpared(t *testing.T) {
	m, l := newIdleManager(t)
	m.renewer.sweep(l.trust.due)
	m.putAside(l, ErrHeld)
	if len(m.spares) > 0 {
		t.Errorf("kept a lease whose renewal was asked for at %v", l.trust.asked)
	}
}

// Whoever ended an acquisition before has its lease revoked.
func TestEndedLeaseIsNotSpared(t *testing.T) {
	m, l := newIdleManager(t)
	m.end(l, ErrExpired)
	m.putAside(l, ErrHeld)
	if len(m.spares) > 0 {
		t.Error("kept a lease that is being revoked")
	}
}

func TestSparesAreFew(t *testing.T) {
	m, l := newIdleManager(t)
	for range maxSpares {
		m.keepSpare(spare{l.id, l.trust})
	}
	if m.keepSpare(spare{l.id, l.trust}) {
		t.Errorf("kept more than %d", maxSpares)
	}
}

// newIdleManager returns a manager that does not run, with a lease that waits.
func newIdleManager(t *testing.T) (*Manager, *lease) {
	t.Helper()
	client, prefix := localtest.Etcd(t)
	m, err := New(Config{Client: client, Prefix: prefix, Owner: "a"})
	if err != nil {
		t.Fatal(err)
	}
	m.begin()
	t.Cleanup(m.reaper.close)
	l, err := m.grant(t.Context(), "x")
	if err != nil {
		t.Fatal(err)
	}
	return m, l
}
