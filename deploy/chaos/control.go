package chaos

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"sync"
	"syscall"
	"time"

	"github.com/jackc/pgx/v5"

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

// controlPause is long enough for coordinators to forget the paused worker, so
// that others sell all there is meanwhile.
const controlPause = 9 * time.Second

// controlStocks are those of the products whose holders are paused, one after
// the other until one is oversold. It must sell out during the pause and not
// before; how much that is depends on the machine.
func controlStocks() []int64 { return []int64{40, 120, 400} }

// Control sells with the same buyers and checker as Run, in a world of its own
// whose shards refuse no tenure, and pauses holders. It must be caught: a verdict
// without violations means that the checker, or the fault, is good for nothing.
func Control(ctx context.Context, cfg Config) (*Verdict, error) {
	cfg.Stack.Shards, cfg.Stack.Workers, cfg.Stack.EtcdMembers = []string{"eu", "us"}, 3, 0
	// Without this a holder that was paused would mostly see in etcd that others
	// wait, and let go: a courtesy, which is not what the control is about.
	cfg.Stack.WorkerArgs = []string{"--idle-tenure", "1m", "--minimum-tenure", "1m"}
	timeline := newTimeline(cfg.Say)
	w, err := startWorld(ctx, cfg.Stack, timeline.say)
	if err != nil {
		return nil, err
	}
	defer w.stop()
	for _, dsn := range w.stack.DSNs() {
		if err := execute(ctx, dsn, forgetFences); err != nil {
			return nil, fmt.Errorf("switch fencing off: %w", err)
		}
	}
	t, err := newTraffic(w.stack.GRPCAddress, "control", w.stack.Shards(), cfg.Seed)
	if err != nil {
		return nil, err
	}
	defer t.close()
	if err := t.open(ctx, controlStocks()[0]); err != nil {
		return nil, err
	}
	timeline.restart()
	if err := cfg.pauseHolders(ctx, w, t); err != nil {
		return nil, err
	}
	rows, _, err := w.rows(ctx)
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

// pauseHolders pauses holders while buyers buy, until something is oversold.
func (cfg *Config) pauseHolders(ctx context.Context, w *World, t *traffic) error {
	trade, stopTrade := context.WithCancel(ctx)
	var buyers sync.WaitGroup
	defer buyers.Wait()
	defer stopTrade()
	for i := range cmp.Or(cfg.Buyers, defaultBuyers) {
		buyers.Go(func() { t.buyer(ctx, trade, i) })
	}
	for i, stock := range controlStocks() {
		if i > 0 {
			if err := t.drop(ctx, stock); err != nil {
				return err
			}
		}
		if err := w.pauseHolderOf(ctx, t.drops[i]); err != nil {
			return err
		}
		if oversold, err := w.oversold(ctx, t.history); err != nil || oversold {
			return err
		}
	}
	return ctx.Err()
}

// pauseHolderOf returns when the holder has gone on for a while.
func (w *World) pauseHolderOf(ctx context.Context, product string) error {
	sleep(ctx, 200*time.Millisecond)
	p, name, err := w.holderOf(ctx, product)
	if err != nil {
		return err
	}
	if err := p.Signal(syscall.SIGSTOP); err != nil {
		return err
	}
	w.say("control: %s, which holds %s, is paused", name, product)
	sleep(ctx, controlPause)
	if err := p.Signal(syscall.SIGCONT); err != nil {
		return err
	}
	w.say("control: %s goes on", name)
	sleep(ctx, 3*time.Second)
	return ctx.Err()
}

// oversold reports, while sales go on, whether the rows of any product exceed its
// storage. The audit
// could not tell: it meets each purchase once for every fence row there is here.
func (w *World) oversold(ctx context.Context, h *History) (bool, error) {
	shards, err := w.openShards()
	if err != nil {
		return false, err
	}
	defer closeShards(shards)
	rows, err := readRows(ctx, shards)
	if err != nil {
		return false, err
	}
	sold := map[string]int64{}
	for _, r := range rows {
		sold[r.Product] += r.Amount
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	for product, stock := range h.stock {
		if sold[product] > stock {
			return true, nil
		}
	}
	return false, nil
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
