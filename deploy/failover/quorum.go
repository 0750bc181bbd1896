package failover

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"math"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/holdfast-io/holdfast/api/cluster"
	"github.com/holdfast-io/holdfast/deploy/local"
)

const (
	quorumBuyers  = 16
	quorumPromise = 2 * time.Second // from etcd's first answer until everything sells
	ratioPromise  = 0.9             // of the rate of products that are held

	// waitingFor is how long the buyers of products that nobody holds have waited
	// when the quorum comes back; at most, for an outage may be shorter.
	waitingFor = 5 * time.Second

	// askTimeout is until etcd is asked again; askPause until the next question
	// after a refusal.
	askTimeout = 500 * time.Millisecond
	askPause   = 5 * time.Millisecond
)

// QuorumConfig says how long etcd is without a quorum.
type QuorumConfig struct {
	Config
	Outage   time.Duration
	LockTTL  time.Duration
	Products int           // that are held, and as many that nobody holds; 100 when zero
	Before   time.Duration // for which the rate is measured before, and after; 20 s when zero
}

// QuorumFigures say what went on selling without etcd, and when everything sold
// again.
type QuorumFigures struct {
	OutageMS      int64   `json:"outage_ms"`
	LockTTLMS     int64   `json:"lock_ttl_ms"`
	RateBefore    float64 `json:"rate_before"`     // purchases/s of the products that are held
	RateDuring    float64 `json:"rate_during"`     // the same, without a quorum
	RateAfter     float64 `json:"rate_after"`      // the same, with it again: as fast as before, on a quiet machine
	Ratio         float64 `json:"ratio"`           // of the rate during to the one before
	LongestWaitMS float64 `json:"longest_wait_ms"` // of a buyer of these, without a quorum

	// Until every product, held or not, was bought once more: since the first
	// linearizable read that etcd answered, and since its members were healed.
	BackMS          float64 `json:"back_ms"`
	BackSinceHealMS float64 `json:"back_since_heal_ms"`
	HeldBackMS      float64 `json:"held_back_since_heal_ms"` // of those that were held, alone
	Verdict
}

// Promise returns an error when the promise was broken.
func (f *QuorumFigures) Promise() error {
	failures := f.broken()
	if f.Ratio < ratioPromise {
		failures = errors.Join(failures, fmt.Errorf("ratio: sold at %.2f of the rate before, promised are %.1f", f.Ratio, ratioPromise))
	}
	if f.BackMS > milliseconds(quorumPromise) {
		failures = errors.Join(failures, fmt.Errorf("back_ms: everything sold after %.0f ms, promised are %v", f.BackMS, quorumPromise))
	}
	return failures
}

// Quorum takes the quorum from etcd while products that are held are sold, gives
// it back, and has every product bought. The error is like that of [Kill].
func Quorum(ctx context.Context, cfg QuorumConfig) (*QuorumFigures, error) {
	if err := cmp.Or(above0("outage", cfg.Outage), above0("lock-ttl", cfg.LockTTL)); err != nil {
		return nil, err
	}
	cfg.Products, cfg.Before = cmp.Or(cfg.Products, 100), cmp.Or(cfg.Before, 20*time.Second)
	cfg.Stack.Workers, cfg.Stack.EtcdMembers = 3, 3
	cfg.Stack.WorkerArgs = append(cfg.Stack.WorkerArgs, "--lock-ttl", cfg.LockTTL.String())
	cfg.Stack.WorkerArgs = append(cfg.Stack.WorkerArgs, keepIdle...)
	f := &QuorumFigures{OutageMS: cfg.Outage.Milliseconds(), LockTTLMS: cfg.LockTTL.Milliseconds()}
	verdict, err := cfg.run(ctx, func(ctx context.Context, w *world) error { return cfg.measure(ctx, w, f) })
	if verdict == nil {
		return nil, err
	}
	f.Verdict = *verdict
	return f, err
}

func (cfg *QuorumConfig) measure(ctx context.Context, w *world, f *QuorumFigures) error {
	held, others, err := w.holdHalf(ctx, cfg.Products)
	if err != nil {
		return err
	}
	r := &rate{}
	buyers := w.market.gather(ctx, quorumBuyers, anyOf(held), r.tell)
	defer buyers.sendAway()
	w.say("%d buyers buy the %d products that are held, for %v", quorumBuyers, len(held), cfg.Before)
	if err := pause(ctx, time.Second); err != nil { // until connections are warm
		return err
	}
	r.restart()
	if err := pause(ctx, cfg.Before); err != nil {
		return err
	}
	f.RateBefore, _ = r.restart()
	heal, err := w.loseQuorum(ctx)
	if err != nil {
		return err
	}
	r.restart()
	w.say("etcd has lost its quorum, for %v; %.0f purchases/s before", cfg.Outage, f.RateBefore)
	err = w.comeBack(ctx, cfg.Outage, held, others, func() error {
		var longest time.Duration
		f.RateDuring, longest = r.restart()
		f.LongestWaitMS = milliseconds(longest)
		w.say("healing etcd; %.0f purchases/s without it", f.RateDuring)
		return heal()
	}, f)
	f.Ratio = math.Round(1000*f.RateDuring/f.RateBefore) / 1000
	if err != nil {
		return err
	}
	r.restart()
	if err := pause(ctx, cfg.Before); err != nil {
		return err
	}
	f.RateAfter, _ = r.restart()
	return nil
}

// holdHalf creates products and has half of them held. Creating one holds it, so
// all workers are started anew before one unit of each is sold.
func (w *world) holdHalf(ctx context.Context, half int) (held, others []string, err error) {
	w.say("creating %d products; half of them will be held", 2*half)
	products, err := w.market.create(ctx, 2*half)
	if err != nil {
		return nil, nil, err
	}
	for name, p := range w.stack.Workers {
		p.Terminate(stopGrace)
		if err := w.start(ctx, name); err != nil {
			return nil, nil, err
		}
	}
	held, others = products[:half], products[half:]
	if err := w.market.hold(ctx, held); err != nil {
		return nil, nil, err
	}
	if _, err := w.awaitHeld(ctx, len(held)); err != nil {
		return nil, nil, err
	}
	return held, others, nil
}

// loseQuorum kills etcd's leader and stops another member, so that one is left.
func (w *world) loseQuorum(ctx context.Context) (heal func() error, err error) {
	ctx, cancel := context.WithTimeout(ctx, readTimeout)
	defer cancel()
	killed, err := w.stack.EtcdCluster.AwaitLeader(ctx)
	if err != nil {
		return nil, err
	}
	var stopped *local.EtcdProcess
	for _, m := range w.stack.EtcdCluster.Members {
		if m != killed {
			stopped = m
		}
	}
	heal = func() error { return errors.Join(stopped.Signal(syscall.SIGCONT), killed.Start()) }
	return heal, errors.Join(killed.Kill(), stopped.Signal(syscall.SIGSTOP))
}

// comeBack lets the outage pass, heals etcd, and measures until every product was
// bought. The buyers of products that nobody holds come shortly before the heal,
// and are answered after it; those of the others come with it.
func (w *world) comeBack(
	ctx context.Context, outage time.Duration, held, others []string, heal func() error, f *QuorumFigures,
) error {
	early := min(waitingFor, outage/2)
	if err := pause(ctx, outage-early); err != nil {
		return err
	}
	var buyers sync.WaitGroup
	defer buyers.Wait() // also after an error
	buyers.Go(func() { w.market.buyEach(ctx, others, len(others)) })
	if err := pause(ctx, early); err != nil {
		return err
	}
	healed := time.Now()
	if err := heal(); err != nil {
		return err
	}
	var heldBack time.Time
	buyers.Go(func() {
		w.market.buyEach(ctx, held, len(held))
		heldBack = time.Now()
	})
	answered, err := w.etcdAnswers(ctx)
	if err != nil {
		return err
	}
	buyers.Wait()
	back := time.Now()
	f.BackMS, f.BackSinceHealMS = milliseconds(back.Sub(answered)), milliseconds(back.Sub(healed))
	f.HeldBackMS = milliseconds(heldBack.Sub(healed))
	w.say("etcd answered %v after the heal; everything was sold %.0f ms later",
		answered.Sub(healed).Round(time.Millisecond), f.BackMS)
	return nil
}

// etcdAnswers returns when any member first answered a linearizable read.
func (w *world) etcdAnswers(ctx context.Context) (time.Time, error) {
	ctx, cancel := context.WithTimeoutCause(ctx, startTimeout, errors.New("etcd did not answer in time"))
	defer cancel()
	answers := make(chan time.Time, len(w.stack.EtcdCluster.Members))
	var members errgroup.Group
	for _, endpoint := range w.stack.EtcdCluster.Endpoints() {
		members.Go(func() error { return askUntilAnswered(ctx, endpoint, answers) })
	}
	var first time.Time
	select {
	case first = <-answers:
		cancel()
	case <-ctx.Done():
	}
	err := members.Wait()
	if first.IsZero() {
		return first, errors.Join(context.Cause(ctx), err)
	}
	return first, nil
}

// askUntilAnswered asks one member again and again; the connection of a question
// may be one that was lost in the outage.
func askUntilAnswered(ctx context.Context, endpoint string, answers chan<- time.Time) error {
	client, err := newClient(endpoint)
	if err != nil {
		return err
	}
	defer func() { _ = client.Close() }()
	d := cluster.Directory{Client: client, Prefix: prefix}
	for {
		asking, cancel := context.WithTimeout(ctx, askTimeout)
		_, err := d.View(asking)
		cancel()
		if err == nil {
			answers <- time.Now()
			return nil
		}
		if pause(ctx, askPause) != nil {
			return err
		}
	}
}
