package payments

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/holdfast-io/holdfast/deploy/books"
	"github.com/holdfast-io/holdfast/deploy/local"
)

// Config says what a run is. Fields without a default are required.
type Config struct {
	Stack  local.StackConfig // Binary and Dir are required; the rest is chosen here
	Each   int               // rounds of each step; 100 when zero
	AtOnce int               // rounds of one kill; 32 when zero, which is also the most that is useful
	Hold   time.Duration     // of orders whose buyer does not come back; 6 s when zero
	Steps  []Step

	// Say prints a line; calls do not overlap.
	Say func(format string, args ...any)
}

// Figures are what the rounds of one step came to.
type Figures struct {
	Step        string  `json:"step"`
	Rounds      int     `json:"rounds"`
	Kills       int     `json:"kills"` // of workers
	Confirmed   int     `json:"confirmed"`
	LetGo       int     `json:"let_go"`
	Differences int     `json:"differences"`
	LongestMS   float64 `json:"longest_ms"` // from a kill until a round was settled
	// Missed are orders that were not at the step when the workers were killed. They are
	// no rounds, but their books must agree as well.
	Missed int `json:"missed"`
}

// Report is what a run came to.
type Report struct {
	Steps []*Figures    `json:"steps"`
	Books *books.Report `json:"books"`
	Wrong []string      `json:"wrong"`
}

// Err is nil when the books agree and everything was settled.
func (r *Report) Err() error {
	err := r.Books.Err()
	if len(r.Wrong) > 0 {
		err = errors.Join(err, fmt.Errorf("%d times something was not as promised, first: %s", len(r.Wrong), r.Wrong[0]))
	}
	return err
}

// settleTimeout is after what time a round counts as not settled. The one worker that asks
// the provider for a shard's tasks is missed after ten seconds at the latest.
const settleTimeout = time.Minute

// Run kills workers at every step. The error says that the run could not be done.
func Run(ctx context.Context, cfg Config) (*Report, error) {
	cfg.Each, cfg.AtOnce, cfg.Hold = cmp.Or(cfg.Each, 100), cmp.Or(cfg.AtOnce, 32), cmp.Or(cfg.Hold, 6*time.Second)
	w, err := startWorld(ctx, cfg.Stack)
	if err != nil {
		return nil, err
	}
	defer w.stop()
	r := &Report{Wrong: []string{}}
	stepOf := map[string]*Figures{} // by order
	for i, s := range cfg.Steps {
		f := &Figures{Step: s.Name}
		r.Steps = append(r.Steps, f)
		for nth := 0; f.Rounds < cfg.Each; nth++ {
			if nth > 4+4*cfg.Each/cfg.AtOnce {
				r.Wrong = append(r.Wrong, fmt.Sprintf("%s: only %d rounds were there when their worker was killed", s.Name, f.Rounds))
				break
			}
			b := &batch{world: w, lone: s.expires && nth%2 == 1}
			wrong, err := b.run(ctx, &cfg, s, fmt.Sprintf("%d-%d", i, nth), nth%2 == 1, cfg.Each-f.Rounds)
			if err != nil {
				return nil, fmt.Errorf("%s: %w", s.Name, err)
			}
			r.Wrong = append(r.Wrong, wrong...)
			f.take(b, stepOf)
		}
		if err := r.compare(ctx, w, stepOf); err != nil {
			return nil, err
		}
		cfg.Say("   %-42s %4d rounds, %3d kills: %4d confirmed, %4d let go, %d differences, settled within %.1f s",
			s.Name, f.Rounds, f.Kills, f.Confirmed, f.LetGo, f.Differences, f.LongestMS/1000)
	}
	return r, nil
}

// run brings rounds to a step, kills, and waits until all is settled. What was wrong it
// returns as text.
func (b *batch) run(ctx context.Context, cfg *Config, s Step, name string, end bool, n int) (wrong []string, err error) {
	b.ctx, b.cancel = context.WithCancel(ctx)
	defer b.cancel()
	if s.fresh {
		b.intend(name, min(n, cfg.AtOnce), cfg.Hold)
	} else if err := b.place(ctx, name, min(n, cfg.AtOnce), cfg.Hold); err != nil {
		return nil, err
	}
	missed := s.reach(ctx, b)
	if err := b.strike(ctx, end); err != nil {
		return nil, err
	}
	b.cancel()
	if missed != nil { // a machine that is too slow; the orders must be right all the same
		cfg.Say("   %s: not reached: %v", s.Name, missed)
		for _, r := range b.rounds {
			r.reached = false
		}
	}
	restarted := make(chan error, 1)
	go func() { restarted <- b.restart(ctx, b.victims) }()
	b.calls.Wait()
	_ = b.each(func(_ int, r *round) error {
		if r.returns {
			_ = b.insist(ctx, s.call, r) // how it ends the rows tell
		}
		return nil
	})
	if err := b.awaitSettled(ctx, settleTimeout); err != nil {
		wrong = append(wrong, fmt.Sprintf("%s: %v", s.Name, err))
	}
	if b.late {
		b.till.open(b.gate)
		sleep(ctx, 200*time.Millisecond) // what was held is done now, to no avail
	}
	return wrong, <-restarted
}

// strike kills the victims, and lets go of all that was stopped. When it is to end what
// waits in the database, that is not carried out; otherwise Postgres goes on with it.
func (b *batch) strike(ctx context.Context, end bool) error {
	err := b.kill(b.victims)
	b.killed = time.Now()
	if b.lock != nil {
		if end && b.stored == "" {
			err = errors.Join(err, b.lock.end(ctx))
		}
		err = errors.Join(err, b.lock.release(ctx))
		if b.stored != "" {
			err = errors.Join(err, b.onlyStored(ctx))
		}
	}
	switch {
	case b.gate == nil:
	case b.late:
		b.till.letPass(b.gate)
	default:
		b.till.open(b.gate, b.victims...)
	}
	return err
}

func (f *Figures) take(b *batch, stepOf map[string]*Figures) {
	f.Kills += len(b.victims)
	for _, r := range b.rounds {
		stepOf[r.id] = f
		if !r.reached {
			f.Missed++
			continue
		}
		f.Rounds++
		f.LongestMS = max(f.LongestMS, float64(r.settled.Milliseconds()))
	}
}

// compare balances the books of all orders so far.
func (r *Report) compare(ctx context.Context, w *world, stepOf map[string]*Figures) error {
	orders, err := w.shards.Orders(ctx)
	if err != nil {
		return err
	}
	if r.Books, err = books.Compare(orders, w.till.client.Ledger(ctx)); err != nil {
		return err
	}
	for _, f := range r.Steps {
		f.Confirmed, f.LetGo, f.Differences = 0, 0, 0
	}
	for _, o := range orders {
		f := stepOf[o.ID]
		switch {
		case f == nil: // kept a lane busy
		case o.IsConfirmed():
			f.Confirmed++
		default:
			f.LetGo++
		}
	}
	for _, d := range r.Books.Differences {
		if f := stepOf[d.OrderID]; f != nil {
			f.Differences++
		}
	}
	return nil
}
