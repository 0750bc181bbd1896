package chaos

import (
	"cmp"
	"math/rand/v2"
	"slices"
	"time"
)

// Event is one fault of a schedule.
type Event struct {
	At, Hold time.Duration // from the start of the run, and until it is healed
	Fault    Fault
	Pick     uint64 // chooses the victim among those that there are then
}

const (
	firstFault = 2 * time.Second // buyers are at it by then
	minGap     = 400 * time.Millisecond
	maxGap     = 1500 * time.Millisecond
)

// Schedule draws what goes wrong when. Faults of one lane follow each other with
// pauses between them; those of different lanes overlap as they come. Each lane
// shuffles its faults and goes through all before it repeats one.
func Schedule(seed uint64, duration time.Duration, faults []Fault) []Event {
	byLane := map[string][]Fault{}
	var lanes []string
	for _, f := range faults {
		if byLane[f.Lane] == nil {
			lanes = append(lanes, f.Lane)
		}
		byLane[f.Lane] = append(byLane[f.Lane], f)
	}
	slices.Sort(lanes)
	var events []Event
	for i, lane := range lanes {
		rng := rand.New(rand.NewPCG(seed, uint64(i)))
		events = append(events, scheduleLane(rng, duration, byLane[lane])...)
	}
	slices.SortStableFunc(events, func(a, b Event) int { return cmp.Compare(a.At, b.At) })
	return events
}

func scheduleLane(rng *rand.Rand, duration time.Duration, faults []Fault) []Event {
	var events []Event
	at := firstFault
	for {
		order := slices.Clone(faults)
		rng.Shuffle(len(order), func(i, j int) { order[i], order[j] = order[j], order[i] })
		for _, f := range order {
			at += minGap + time.Duration(rng.Int64N(int64(maxGap-minGap)))
			hold := f.Hold + time.Duration(rng.Int64N(int64(f.Hold/4)+1))
			if at+hold > duration {
				return events
			}
			events = append(events, Event{At: at, Hold: hold, Fault: f, Pick: rng.Uint64()})
			at += hold
		}
	}
}
