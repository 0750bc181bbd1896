package chaos

import (
	"context"
	"fmt"
	"sync"
	"time"
)

// injector carries out a schedule.
type injector struct {
	world *World
	start time.Time

	mu       sync.Mutex
	counts   map[string]int
	failures []string
}

// run returns when the duration is over and everything is healed. A lane that is
// late, because a fault or its heal took longer, goes on without its pauses, and
// leaves out what would begin after the end.
func (j *injector) run(ctx context.Context, events []Event, duration time.Duration) {
	j.start = time.Now()
	lanes := map[string][]Event{}
	for _, e := range events {
		lanes[e.Fault.Lane] = append(lanes[e.Fault.Lane], e)
	}
	var wg sync.WaitGroup
	for _, lane := range lanes {
		wg.Go(func() {
			for _, e := range lane {
				if !j.sleepUntil(ctx, e.At) || time.Since(j.start) > duration {
					return
				}
				j.inject(ctx, e)
			}
		})
	}
	wg.Wait()
	j.sleepUntil(ctx, duration)
}

func (j *injector) sleepUntil(ctx context.Context, at time.Duration) bool {
	select {
	case <-ctx.Done():
	case <-time.After(at - time.Since(j.start)):
	}
	return ctx.Err() == nil
}

func (j *injector) inject(ctx context.Context, e Event) {
	what, heal, err := e.Fault.Inject(ctx, j.world, e.Pick)
	if err != nil {
		j.world.say("%-22s not injected: %s: %v", e.Fault.Name, what, err)
	} else {
		j.world.say("%-22s %s", e.Fault.Name, what)
		j.mu.Lock()
		j.counts[e.Fault.Name]++
		j.mu.Unlock()
		select {
		case <-ctx.Done():
		case <-time.After(e.Hold):
		}
	}
	if heal == nil {
		return
	}
	if err := heal(); err != nil {
		j.world.say("%-22s not healed: %v", e.Fault.Name, err)
		j.mu.Lock()
		defer j.mu.Unlock()
		j.failures = append(j.failures, fmt.Sprintf("%s was not healed: %v", e.Fault.Name, err))
		return
	}
	j.world.say("%-22s healed", e.Fault.Name)
}

// timeline puts the time before each line.
type timeline struct {
	mu    sync.Mutex
	start time.Time
	print func(format string, args ...any)
}

func newTimeline(print func(string, ...any)) *timeline {
	return &timeline{start: time.Now(), print: print}
}

func (l *timeline) restart() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.start = time.Now()
}

func (l *timeline) say(format string, args ...any) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.print("%7.2fs  %s", time.Since(l.start).Seconds(), fmt.Sprintf(format, args...))
}
