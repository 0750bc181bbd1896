package chaos

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"
)

// shard chooses one that sells.
func (w *World) shard(pick uint64) string {
	shards := w.shardNames()
	return shards[pick%uint64(len(shards))]
}

func killPostgres(_ context.Context, w *World, pick uint64) (string, func() error, error) {
	shard := w.shard(pick)
	heal := func() error {
		ctx, cancel := context.WithTimeout(context.Background(), startTimeout)
		defer cancel()
		return w.stack.RestartPostgres(ctx, shard)
	}
	return "server of shard " + shard + ": SIGKILL", heal, w.stack.Postgres[shard].Kill()
}

// addShard adds the spare shard, as an operator would. In a run that has done so
// it raises the number of the topology instead, which makes all workers go to a
// new one as well.
func addShard(ctx context.Context, w *World, _ uint64) (string, func() error, error) {
	ctx, cancel := context.WithTimeout(ctx, startTimeout)
	defer cancel()
	args := []string{"topology", "add", spareShard}
	if slices.Contains(w.shardNames(), spareShard) {
		args = []string{"topology", "repair"}
	}
	began := time.Now()
	err := w.command(ctx, args...)
	shards, readErr := w.readTopology(ctx)
	what := fmt.Sprintf("holdfast %v, ended after %v: %v", args, time.Since(began).Round(time.Millisecond), shards)
	return what, nil, errors.Join(err, readErr)
}
