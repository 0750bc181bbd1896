package bench

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"math"
	"slices"
	"strconv"
	"time"

	"github.com/holdfast-io/holdfast/deploy/local"
)

// Config says what is measured, and on what. Say and one of Stack and Target are
// required.
type Config struct {
	Stack  local.StackConfig // Binary, Dir, PostgresBin and Workers; each workload gets servers of its own
	Target *Target           // instead of Stack

	Workloads  []Workload // see Choose; those that are not long when nil
	Strategies []string   // all when nil

	Buyers      int           // of holdfast's strategies, at once; 256 when zero
	Rate        float64       // purchases a second; 0: each buyer buys as soon as he can
	Duration    time.Duration // of one measurement; 3 s when zero
	WarmUp      time.Duration // before each; a sixth of Duration when zero
	Repetitions int           // 5 when zero
	Products    int           // of the workload idle; 100,000 when zero
	Keep        bool          // what the servers have stored and logged

	// Quick measures the first number of buyers instead of the best, and makes
	// every error that a buyer gets an error of Run: it tests the bench.
	Quick bool

	Say      func(format string, args ...any)
	Progress func(done, total int) // measurements; nil is not told
}

func (cfg Config) complete() (Config, error) {
	cfg.Buyers = cmp.Or(cfg.Buyers, 256)
	cfg.Duration = cmp.Or(cfg.Duration, 3*time.Second)
	cfg.WarmUp = cmp.Or(cfg.WarmUp, cfg.Duration/6)
	cfg.Repetitions = cmp.Or(cfg.Repetitions, 5)
	cfg.Products = cmp.Or(cfg.Products, 100_000)
	if cfg.Workloads == nil {
		cfg.Workloads, _ = Choose(nil)
	}
	if cfg.Progress == nil {
		cfg.Progress = func(int, int) {}
	}
	switch {
	case cfg.Say == nil:
		return cfg, errors.New("bench: Say is required")
	case cfg.Buyers < 0 || cfg.Repetitions < 0 || cfg.Products < 0:
		return cfg, errors.New("bench: Buyers, Repetitions and Products must be positive")
	case cfg.Rate < 0 || cfg.Duration < 0 || cfg.WarmUp < 0:
		return cfg, errors.New("bench: Rate, Duration and WarmUp must be positive")
	case cfg.Target != nil:
		return cfg, cfg.Target.check()
	case cfg.Stack.Binary == "" || cfg.Stack.Dir == "" || cfg.Stack.Workers < 1:
		return cfg, errors.New("bench: Stack needs Binary, Dir and Workers")
	}
	return cfg, nil
}

// Smoke is the same configuration for a test of the bench itself: everything
// once, for a moment, on as little as shows that it works. Without names of
// workloads it takes the few that between them use all of the bench.
func (cfg Config) Smoke(workloads []string) Config {
	cfg.Quick, cfg.Repetitions, cfg.Duration, cfg.Buyers, cfg.Products = true, 1, 250*time.Millisecond, 16, 100
	if len(workloads) == 0 {
		cfg.Workloads = slices.DeleteFunc(slices.Clone(Workloads), func(w Workload) bool { return !w.smoke })
	}
	return cfg
}

// Run measures all workloads and returns the figures that it has, with the error
// too: that something could not be measured, or that an audit failed.
func Run(ctx context.Context, cfg Config) ([]Figures, error) {
	cfg, err := cfg.complete()
	if err != nil {
		return nil, err
	}
	if err := CheckStrategies(cfg.Strategies); err != nil {
		return nil, err
	}
	b := &bench{Config: cfg, started: time.Now()}
	for i := range cfg.Workloads {
		chosen, err := cfg.Workloads[i].choose(cfg.Strategies)
		if err != nil {
			return nil, err
		}
		if !cfg.Workloads[i].idle {
			b.total += len(chosen) * cfg.Repetitions
		}
	}
	var all []Figures
	var failures error
	for i := range cfg.Workloads {
		figures, err := b.workload(ctx, &cfg.Workloads[i])
		all = append(all, figures...)
		if err != nil {
			failures = errors.Join(failures, fmt.Errorf("workload %s: %w", cfg.Workloads[i].Name, err))
		}
		if ctx.Err() != nil {
			break
		}
	}
	return all, failures
}

type bench struct {
	Config
	started      time.Time
	measurements int // numbers what they sell
	done, total  int // for Progress
}

// workload starts servers, measures, and ends with an audit.
func (b *bench) workload(ctx context.Context, w *Workload) ([]Figures, error) {
	b.Say("%s: %s", w.Name, w.About)
	chosen, err := w.choose(b.Strategies)
	if err != nil {
		return nil, err
	}
	s, err := b.start(ctx, w)
	if err != nil {
		return nil, err
	}
	defer s.stop()
	if w.idle {
		return b.idle(ctx, s)
	}
	return b.contest(ctx, &contest{servers: s, workload: w}, chosen)
}

// contest is one workload on its servers.
type contest struct {
	*servers
	workload *Workload
	entries  []*entry

	remembers bool     // holdfast's product has its history
	audited   *audited // of holdfast; nil until it is asked for
}

// entry is a contender of a contest.
type entry struct {
	contender
	best    candidate
	samples []sample
	failure error // it is out
}

func (b *bench) contest(ctx context.Context, c *contest, chosen []contender) ([]Figures, error) {
	defer c.clean(context.WithoutCancel(ctx))
	if err := b.prepare(ctx, c, chosen); err != nil {
		return nil, err
	}
	for repetition := range b.Repetitions {
		for _, e := range c.entries {
			if e.failure == nil && ctx.Err() == nil {
				b.repeat(ctx, c, e, repetition+1)
			}
		}
	}
	if ctx.Err() != nil {
		return nil, context.Cause(ctx)
	}
	var figures []Figures
	var failures error
	for _, e := range c.entries {
		failures = errors.Join(failures, e.failure)
		if len(e.samples) == 0 {
			continue
		}
		f := figuresOf(c.workload.Name, e.name, e.best, e.samples)
		failures = errors.Join(failures, b.judge(ctx, c, e, &f))
		figures = append(figures, f)
	}
	compare(figures)
	return figures, errors.Join(failures, b.checkPromise(c.workload, figures))
}

// checkPromise says what became of a workload's promise. In a moment nothing is measured
// that it could be judged by.
func (b *bench) checkPromise(w *Workload, figures []Figures) error {
	if w.promise == nil || b.Quick {
		return nil
	}
	said, err := w.promise(figures)
	if said != "" {
		b.Say("   %s", said)
	}
	if err != nil {
		return fmt.Errorf("promise: %w", err)
	}
	return nil
}

// repeat measures an entry once more. One that fails is out; the others go on.
func (b *bench) repeat(ctx context.Context, c *contest, e *entry, repetition int) {
	s, err := b.measure(ctx, c, e.contender, e.best, b.Duration)
	if err != nil {
		e.failure = fmt.Errorf("%s: %w", e.name, err)
		b.Say("   %d of %d  %-20s %v", repetition, b.Repetitions, e.name, err)
		return
	}
	e.samples = append(e.samples, s)
	b.done++
	b.Progress(b.done, b.total)
	b.Say("   %d of %d  %-20s %9.0f/s  %s", repetition, b.Repetitions, e.name, s.perSecond(), errorsOf(s))
}

func errorsOf(s sample) string {
	if len(s.errors) == 0 {
		return ""
	}
	return fmt.Sprintf("errors %v", s.errors)
}

// prepare makes tables and history, and finds the best candidate of each.
func (b *bench) prepare(ctx context.Context, c *contest, chosen []contender) error {
	for _, con := range chosen {
		if err := b.stockUp(ctx, c, con); err != nil {
			return fmt.Errorf("%s: prepare: %w", con.name, err)
		}
	}
	if c.workload.held && slices.ContainsFunc(chosen, func(con contender) bool { return con.owner == holdfast }) {
		d, err := c.workload.demand(measurement{b.run(), b.run() + "-held"})
		if err != nil {
			return err
		}
		if err := errors.Join(c.stockHoldfast(ctx, d.products), b.hold(ctx, c.servers, d)); err != nil {
			return fmt.Errorf("hold all products: %w", err)
		}
	}
	if err := c.settle(ctx); err != nil {
		return err
	}
	for _, con := range chosen {
		best, err := b.best(ctx, c, con)
		if errors.Is(err, errNoPrepared) || errors.Is(err, errNoHTTP) {
			b.Say("   %s is left out: %v", con.name, err)
			b.total -= b.Repetitions
			continue
		}
		if err != nil {
			return fmt.Errorf("%s: %w", con.name, err)
		}
		c.entries = append(c.entries, &entry{contender: con, best: best})
	}
	return nil
}

// stockUp makes the tables of a contender, with what its product has sold before.
func (b *bench) stockUp(ctx context.Context, c *contest, con contender) error {
	h := past{product: rememberedProduct(b.run()), purchases: c.workload.history, run: b.started.Unix()}
	products := []product{{h.product, plenty}}
	if con.owner != holdfast {
		t := c.tablesOf(con.name)
		if err := t.create(ctx); err != nil || h.purchases == 0 {
			return err
		}
		if err := t.stock(ctx, products); err != nil {
			return err
		}
		return t.remember(ctx, h)
	}
	if h.purchases == 0 || c.remembers {
		return nil
	}
	c.remembers = true
	if err := c.stockHoldfast(ctx, products); err != nil {
		return err
	}
	return c.rememberHoldfast(ctx, h)
}

// run tells what this run sells from what another one has sold on the same
// servers.
func (b *bench) run() string { return strconv.FormatInt(b.started.Unix(), 36) }

func (c *contest) clean(ctx context.Context) {
	if c.stack != nil {
		return // it is removed as a whole
	}
	for _, con := range contenders {
		if con.owner != holdfast {
			_ = c.tablesOf(con.name).drop(ctx)
		}
	}
}

// best tries all candidates for a short time and returns the fastest, of those
// without errors if there are any.
func (b *bench) best(ctx context.Context, c *contest, con contender) (best candidate, err error) {
	candidates := con.candidates(b.Buyers)
	if b.Quick {
		candidates = candidates[len(candidates)/2:][:1]
	}
	if len(candidates) == 1 {
		// There is nothing to choose, but it may not run here at all.
		s := candidates[0].open(c.servers)
		defer s.Close()
		return candidates[0], s.Prepare(ctx, candidates[0].buyers)
	}
	fastest := math.Inf(-1)
	for _, each := range candidates {
		s, err := b.measure(ctx, c, con, each, b.Duration/3)
		if err != nil {
			return best, fmt.Errorf("%v: %w", each, err)
		}
		b.Say("   try     %-20s %9.0f/s with %v %s", con.name, s.perSecond(), each, errorsOf(s))
		rate := s.perSecond()
		if len(s.errors) > 0 {
			rate = -1 / (1 + rate) // below 0, and less so the faster it is
		}
		if rate > fastest {
			fastest, best = rate, each
		}
	}
	return best, nil
}

// measure is one measurement of one candidate.
func (b *bench) measure(
	ctx context.Context, c *contest, con contender, each candidate, duration time.Duration,
) (s sample, err error) {
	b.measurements++
	d, err := c.workload.demand(measurement{b.run(), fmt.Sprintf("%s-%d", b.run(), b.measurements)})
	if err != nil {
		return s, err
	}
	if con.owner == holdfast {
		err = c.stockHoldfast(ctx, d.products)
	} else {
		err = c.tablesOf(con.name).stock(ctx, d.products)
	}
	if err != nil {
		return s, fmt.Errorf("stock products: %w", err)
	}
	strategy := each.open(c.servers)
	defer strategy.Close()
	if err := strategy.Prepare(ctx, each.buyers); err != nil {
		return s, err
	}
	l := load{buyers: each.buyers, batch: each.batch, warmUp: b.warmUp(c.workload), duration: duration, rate: b.Rate}
	return c.watch(ctx, l, strategy, d)
}

func (b *bench) warmUp(w *Workload) time.Duration {
	switch {
	case w.cold:
		return 0
	case b.Quick:
		return b.WarmUp
	}
	return max(b.WarmUp, w.warmUp)
}

// watch has a load run, and reads what it takes.
func (c *contest) watch(ctx context.Context, l load, strategy Strategy, d *demand) (s sample, err error) {
	var before, after usage
	var beforeErr, afterErr error
	others, _ := strategy.(companion)
	s.result = l.run(ctx, strategy, d, func() {
		before, beforeErr = c.read(ctx)
		if others != nil {
			others.begin()
		}
	}, func() {
		after, afterErr = c.read(ctx)
		if others != nil {
			s.beside = others.end()
		}
	})
	for kind, times := range s.beside.errors {
		s.errors[kind] += times
	}
	s.used = after.less(before)
	return s, errors.Join(beforeErr, afterErr, ctx.Err())
}
