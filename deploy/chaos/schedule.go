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

	// round is in which a lane goes through all its faults: the pauses between
	// them are drawn so that it comes to about this, in every lane. All kinds are
	// met in a minute then, about as often as each other, and while one lane is
	// at rest another one's faults are met alone.
	round  = 25 * time.Second
	minGap = 500 * time.Millisecond
	maxGap = 3 * time.Second // for lanes with few faults
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
	at, gap := firstFault, meanGap(faults)
	for {
		order := slices.Clone(faults)
		rng.Shuffle(len(order), func(i, j int) { order[i], order[j] = order[j], order[i] })
		for _, f := range order {
			at += gap/2 + time.Duration(rng.Int64N(int64(gap)))
			hold := f.Hold + time.Duration(rng.Int64N(int64(f.Hold/4)+1))
			if at+hold > duration {
				return events
			}
			events = append(events, Event{At: at, Hold: hold, Fault: f, Pick: rng.Uint64()})
			at += hold
		}
	}
}

// meanGap is the pause between two faults of a lane.
func meanGap(faults []Fault) time.Duration {
	rest := round
	for _, f := range faults {
		rest -= f.Hold + f.Hold/8
	}
	return min(max(rest/time.Duration(len(faults)), minGap), maxGap)
}
