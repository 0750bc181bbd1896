package failover

import "time"

// maxLate is how late a request may be sent. A machine that is later than that
// was busy with something else, and has not offered the load that it should.
const maxLate = 100 * time.Millisecond

// pace says when the requests of a steady load are due: evenly, from start on,
// whatever becomes of those before.
type pace struct {
	start   time.Time
	rate    float64 // per second
	next    int     // the first request that is neither sent nor given up
	notSent int
}

// due is when a request is to be sent. It is computed from the start, so that
// rounding does not add up.
func (p *pace) due(request int) time.Time {
	return p.start.Add(time.Duration(float64(request) / p.rate * float64(time.Second)))
}

// take returns when the requests were due that are to be sent now. For more than
// room there is none; these, and what is too late, count as not sent.
func (p *pace) take(now time.Time, room int) (send []time.Time) {
	for ; !p.due(p.next).After(now); p.next++ {
		due := p.due(p.next)
		if now.Sub(due) > maxLate || len(send) >= room {
			p.notSent++
			continue
		}
		send = append(send, due)
	}
	return send
}

// wait is how long there is nothing to do.
func (p *pace) wait(now time.Time) time.Duration { return p.due(p.next).Sub(now) }
