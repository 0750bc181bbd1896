package chaos

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"syscall"
	"time"

	"github.com/jackc/pgx/v5"

	holdfastv1 "github.com/holdfast-io/holdfast/api/holdfast/v1"
	"github.com/holdfast-io/holdfast/deploy/local"
)

// forgetFences makes a shard accept every tenure that it has ever seen: each
// fence that is raised leaves its old row behind in a table that inherits from
// fences, so whoever looks for his own tenure still finds it. Nothing else
// changes: the running totals of all rows of a product move together.
const forgetFences = `
CREATE TABLE unfenced () INHERITS (fences);
CREATE FUNCTION keep_old_fence() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO unfenced SELECT OLD.*;
    RETURN NULL;
END $$;
CREATE TRIGGER fences_forget_nobody AFTER UPDATE ON fences
    FOR EACH ROW WHEN (OLD.tenure_id <> NEW.tenure_id) EXECUTE FUNCTION keep_old_fence()`

// forgetReleases makes a shard forget what is given back: the running total that a refusal
// reads from every shard never moves. The rows are right, so only what buyers are told shows it.
const forgetReleases = `
CREATE FUNCTION forget_release() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NULL; END';
CREATE TRIGGER releases_forgotten BEFORE INSERT OR UPDATE ON releases
    FOR EACH ROW EXECUTE FUNCTION forget_release()`

const (
	controlStock    = 20               // of a product whose holder is paused; sold out in moments
	controlPatience = 25 * time.Second // with a product, before another one is tried
	controlLimit    = 3 * time.Minute  // of a machine that is busy with other things
	controlBuyers   = 8                // of one line of products
)

// Control sells with the same buyers and checker as Run, in a world of its own
// whose shards refuse no tenure and forget what is given back, and pauses holders. It must
// be caught at both, overselling and refusing what is there: otherwise the checker, or the
// fault, is good for nothing.
func Control(ctx context.Context, cfg Config) (*Verdict, error) {
	// Without this a holder that was paused would mostly see in etcd that others
	// wait, and let go: a courtesy, which is not what the control is about.
	cfg.Stack.WorkerArgs = []string{"--idle-tenure", "1m", "--minimum-tenure", "1m"}
	timeline := newTimeline(cfg.Say)
	w, err := startWorld(ctx, cfg.Stack, timeline.say)
	if err != nil {
		return nil, err
	}
	defer w.stop()
	for _, dsn := range w.stack.DSNs() { // there are no spare shards
		if err := execute(ctx, dsn, forgetFences+";"+forgetReleases); err != nil {
			return nil, fmt.Errorf("break the shards: %w", err)
		}
	}
	t, err := newTraffic(w, "control", cfg.Seed)
	if err != nil {
		return nil, err
	}
	defer t.close()
	// Holders keep products from others for a minute, also from workers that a coordinator
	// would rather ask once it knows them all.
	t.patience = attemptTimeout
	sleep(ctx, time.Second)
	if err := t.open(ctx, 1, controlStock); err != nil {
		return nil, err
	}
	timeline.restart()
	if err := askForWhatWasGivenBack(ctx, t); err != nil {
		return nil, err
	}
	if err := w.pauseHolders(ctx, t); err != nil {
		return nil, err
	}
	w.stopWriters()
	rows, err := w.rows(ctx, t.history)
	if err != nil {
		return nil, err
	}
	return Check(t.history, rows), nil
}

func execute(ctx context.Context, dsn, sql string) error {
	conn, err := pgx.Connect(ctx, dsn)
	if err != nil {
		return err
	}
	defer func() { _ = conn.Close(context.WithoutCancel(ctx)) }()
	_, err = conn.Exec(ctx, sql)
	return err
}

// askForWhatWasGivenBack has one buyer buy all of a product, give it back, and want it again:
// nobody else can have it.
func askForWhatWasGivenBack(ctx context.Context, t *traffic) error {
	product := t.name + "-given-back"
	if err := t.create(ctx, product, 1); err != nil {
		return err
	}
	b := t.newBuyer(controlBuyers * lines)
	buy := func() Op {
		return t.buy(ctx, b.number, &holdfastv1.CreatePurchaseRequest{
			ProductId: product, Amount: 1, CustomerId: "returner", Region: t.regions()[0], RequestId: b.request(),
		}, false)
	}
	bought := buy()
	if bought.Answer != Admitted {
		return fmt.Errorf("the only buyer of %s was not given it: %s", product, bought.Reason)
	}
	b.giveBack(ctx, bought, bought.Amount)
	buy()
	return ctx.Err()
}

// pauseHolders pauses holders while buyers buy, until something is oversold.
func (w *World) pauseHolders(ctx context.Context, t *traffic) error {
	trade, stopTrade := context.WithCancel(ctx)
	var buyers sync.WaitGroup
	defer buyers.Wait()
	defer stopTrade()
	for i := range controlBuyers {
		buyers.Go(func() { t.buyer(trade, trade, i*lines) }) // at the end nobody waits for an answer
	}
	for limit := time.Now().Add(controlLimit); time.Now().Before(limit); {
		if oversold, err := w.sellAroundHolder(ctx, t); err != nil || oversold {
			return err
		}
	}
	return ctx.Err()
}

// sellAroundHolder pauses the holder of a new product before any of it is sold,
// has others sell all of it, lets the holder go on with its tenure, which knows
// nothing of that, and returns whether it sold any more.
func (w *World) sellAroundHolder(ctx context.Context, t *traffic) (bool, error) {
	product := t.nextDrop(0)
	t.keep(product) // what is given back, and forgotten, would hide what is oversold
	if err := t.create(ctx, product, controlStock); err != nil {
		return false, err
	}
	p, name, err := w.holderOf(ctx, product)
	if err != nil {
		return false, err
	}
	if err := p.Signal(syscall.SIGSTOP); err != nil {
		return false, err
	}
	w.say("control: %s, which holds %s, is paused", name, product)
	t.publish(0, product)
	soldOut, err := w.await(ctx, t.history, func(sold map[string]int64) bool {
		return sold[product] > controlStock-maxAmount // a buyer may want more than is left
	})
	if err := errors.Join(err, p.Signal(syscall.SIGCONT)); err != nil {
		return false, err
	}
	w.say("control: %s goes on, sold out: %v", name, soldOut)
	return w.await(ctx, t.history, t.history.oversold)
}

// await waits until the units sold of each product, from the rows, are as wanted,
// and returns whether they came to be. The audit could not tell: it meets each
// purchase once for every fence row that there is here.
func (w *World) await(ctx context.Context, h *History, wanted func(sold map[string]int64) bool) (bool, error) {
	for limit := time.Now().Add(controlPatience); time.Now().Before(limit) && ctx.Err() == nil; {
		rows, err := w.rows(ctx, h)
		if err != nil {
			return false, err
		}
		if wanted(rows.sold()) {
			return true, nil
		}
		sleep(ctx, 100*time.Millisecond)
	}
	return false, ctx.Err()
}

// holderOf is the worker that holds a product.
func (w *World) holderOf(ctx context.Context, product string) (*local.Process, string, error) {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	for ctx.Err() == nil {
		holders, err := w.locks.Holders(ctx)
		if err != nil {
			return nil, "", err
		}
		for _, h := range holders {
			if name := ownerName(h.Owner); h.Name == product && w.worker(name) != nil {
				return w.worker(name), name, nil
			}
		}
		sleep(ctx, 20*time.Millisecond)
	}
	return nil, "", errors.New("nobody holds " + product)
}

func sleep(ctx context.Context, d time.Duration) {
	select {
	case <-ctx.Done():
	case <-time.After(d):
	}
}
