package lockmgr

import (
	"math/rand/v2"
	"time"
)

// trust says how long a lease may be believed in, and when to ask for more. It
// reads no clock and does no I/O. All times carry the monotonic clock.
type trust struct {
	ttl   time.Duration // as granted by the server
	until time.Time     // believed in before this moment, never after it
	due   time.Time     // when the next renewal is to be asked for
	asked time.Time     // when the renewal in flight was asked for; zero if none is
}

// verdict is what is to be done about a lease.
type verdict int

const (
	rest    verdict = iota // nothing before the returned moment
	renew                  // ask for a renewal
	overdue                // the renewal in flight got no answer: ask another way
	expire                 // trust is over
)

// newTrust begins with a lease that was asked for at asked.
func newTrust(asked time.Time, ttl time.Duration) trust {
	var t trust
	t.extend(asked, ttl)
	return t
}

// extend records that what was asked for at asked has been granted for ttl.
func (t *trust) extend(asked time.Time, ttl time.Duration) {
	t.ttl = ttl
	t.until = asked.Add(ttl - ttl/10)
	t.due = asked.Add(ttl/5 + rand.N(ttl/3-ttl/5))
	t.asked = time.Time{}
}

// ask records that a renewal is about to be sent.
func (t *trust) ask(now time.Time) { t.asked = now }

// retryAt forgets the renewal in flight and makes another one due at when.
func (t *trust) retryAt(when time.Time) {
	t.asked, t.due = time.Time{}, when
}

// next is the moment at which decide has something new to say.
func (t *trust) next() time.Time {
	next := t.due
	if !t.asked.IsZero() {
		next = t.asked.Add(t.patience())
	}
	if t.until.Before(next) {
		return t.until
	}
	return next
}

func (t *trust) decide(now time.Time) verdict {
	switch {
	case !now.Before(t.until):
		return expire
	case now.Before(t.next()):
		return rest
	case t.asked.IsZero():
		return renew
	default:
		return overdue
	}
}

// patience is how long a renewal may go unanswered. A quarter of the TTL leaves
// room for two more tries before trust ends.
func (t *trust) patience() time.Duration { return t.ttl / 4 }
