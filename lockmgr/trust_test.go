package lockmgr

import (
	"testing"
	"time"

	"pgregory.net/rapid"
)

func TestTrustDecides(t *testing.T) {
	const ttl = 10 * time.Second
	asked := time.Now()
	fresh := func(*trust) {}
	inFlightSince := func(d time.Duration) func(*trust) {
		return func(t *trust) { t.ask(asked.Add(d)) }
	}
	for _, c := range []struct {
		name  string
		after time.Duration
		given func(*trust)
		want  verdict
	}{
		{"just granted", 0, fresh, rest},
		{"before a fifth", 1999 * time.Millisecond, fresh, rest},
		{"after a third", 3334 * time.Millisecond, fresh, renew},
		{"never asked, margin reached", 9 * time.Second, fresh, expire},
		{"long over", time.Hour, fresh, expire},
		{"in flight", 5 * time.Second, inFlightSince(3 * time.Second), rest},
		{"in flight for a quarter", 5500 * time.Millisecond, inFlightSince(3 * time.Second), overdue},
		{"in flight when trust ends", 9 * time.Second, inFlightSince(8 * time.Second), expire},
	} {
		t.Run(c.name, func(t *testing.T) {
			tr := newTrust(asked, ttl)
			c.given(&tr)
			if got := tr.decide(asked.Add(c.after)); got != c.want {
				t.Errorf("after %v: got verdict %d, want %d", c.after, got, c.want)
			}
		})
	}
}

// The server keeps a lease until asked + TTL at the earliest. Trust must end before,
// whatever happened to renewals, and nobody may sleep through its end.
func TestTrustEndsBeforeTheLease(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		ttl := time.Duration(rapid.Int64Range(1, 3600).Draw(t, "ttl")) * time.Second
		asked := time.Now()
		now := asked
		tr := newTrust(asked, ttl)
		for range rapid.IntRange(1, 20).Draw(t, "steps") {
			now = now.Add(time.Duration(rapid.Int64Range(0, int64(ttl)).Draw(t, "passed")))
			if last := asked.Add(ttl); tr.decide(now) != expire && !now.Before(last) {
				t.Fatalf("trusted at %v, lease granted until %v", now, last)
			}
			if tr.next().After(tr.until) {
				t.Fatalf("sleeps until %v, trust ends at %v", tr.next(), tr.until)
			}
			switch tr.decide(now) {
			case expire:
				return
			case rest:
				if !tr.next().After(now) {
					t.Fatalf("rests at %v until %v", now, tr.next())
				}
			case overdue:
				tr.retryAt(now)
			case renew:
				tr.ask(now)
				if rapid.Bool().Draw(t, "answered") {
					asked = now
					tr.extend(tr.asked, ttl)
				}
			}
		}
	})
}
