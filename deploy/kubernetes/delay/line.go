//go:build linux

package main

import "time"

const (
	batch = 64     // packets that are read until the next look at those that are due
	room  = 50_000 // packets that a line holds; any more are lost, so that a flood does not take all memory
)

// A line holds packets for as long as they would be under way. All wait equally long, so the first one
// in is the first one out.
type line struct {
	wait time.Duration
	held []held
}

type held struct {
	due    time.Time
	packet []byte
}

// put begins a packet's wait. It is false when the line is full.
func (l *line) put(now time.Time, packet []byte) bool {
	if len(l.held) >= room {
		return false
	}
	l.held = append(l.held, held{now.Add(l.wait), packet})
	return true
}

// take ends the wait of the first packet; nil when none is due.
func (l *line) take(now time.Time) []byte {
	if len(l.held) == 0 || l.held[0].due.After(now) {
		return nil
	}
	packet := l.held[0].packet
	l.held[0] = held{} // the array lives on
	l.held = l.held[1:]
	return packet
}

// next is how long it is until a packet is due; for ever, when there is none.
func (l *line) next(now time.Time) time.Duration {
	if len(l.held) == 0 {
		return 1<<63 - 1
	}
	return max(0, l.held[0].due.Sub(now))
}
