package main

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/google/uuid"
	"github.com/spf13/cobra"
	"golang.org/x/sync/errgroup"

	"github.com/holdfast-io/holdfast/api/cluster"
	"github.com/holdfast-io/holdfast/worker/ledger"
)

func newMigrate() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "migrate",
		Short: "Bring the schema of all shards up to date; the first time, found the cluster",
		Args:  noArguments,
	}
	flags := cmd.Flags()
	directory, shards := etcdFlags(flags).directory, shardFlags(flags)
	order := flags.StringSlice("shards", nil, "names of the shards in the order of a new topology (default sorted)")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		dsns, err := shards()
		if err != nil {
			return err
		}
		d, err := directory()
		if err != nil {
			return err
		}
		defer func() { _ = d.Client.Close() }()
		ctx, cancel := context.WithTimeout(cmd.Context(), 2*time.Minute)
		defer cancel()
		opened, closeAll, err := openShards(dsns, uuid.Nil, insecureFlag(cmd.Flags())())
		if err != nil {
			return err
		}
		defer closeAll()
		if err := migrateAll(ctx, cmd, opened); err != nil {
			return err
		}
		names := *order
		if len(names) == 0 {
			names = slices.Sorted(maps.Keys(dsns))
		}
		return found(ctx, cmd, d, opened, names)
	}
	return cmd
}

// migrateAll migrates the shards in parallel.
func migrateAll(ctx context.Context, cmd *cobra.Command, shards []*ledger.Shard) error {
	applied := make([]int, len(shards))
	g, ctx := errgroup.WithContext(ctx)
	for i, s := range shards {
		g.Go(func() (err error) {
			applied[i], err = s.Migrate(ctx)
			return err
		})
	}
	if err := g.Wait(); err != nil {
		return &exitError{exitUnavailable, err}
	}
	for i, s := range shards {
		fmt.Fprintf(cmd.OutOrStdout(), "shard %s: %d migrations applied\n", s.Name(), applied[i])
	}
	return nil
}

// found gives a new cluster its id and its first topology, in etcd and in every
// shard. Repeated, it checks that all of them still agree.
func found(ctx context.Context, cmd *cobra.Command, d cluster.Directory, shards []*ledger.Shard, names []string) error {
	first := cluster.Topology{Number: 1, Shards: names}
	if err := first.Validate(); err != nil {
		return usageError("--shards: %w", err)
	}
	id, err := foundingID(ctx, shards)
	if err != nil {
		return err
	}
	etcdCtx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	view, err := d.View(etcdCtx)
	switch {
	case errors.Is(err, cluster.ErrNotInitialised) && id != uuid.Nil:
		return fmt.Errorf("the shards belong to cluster %s, but etcd knows none under %s: "+
			"is this the right etcd and --prefix? If it lost its data, run holdfast topology repair", id, d.Prefix)
	case errors.Is(err, cluster.ErrNotInitialised):
		view, err = d.Init(etcdCtx, uuid.New(), first)
	}
	if err != nil {
		return etcdError(d, err)
	}
	if !slices.Equal(slices.Sorted(slices.Values(view.Topology.Shards)), slices.Sorted(slices.Values(names))) {
		return fmt.Errorf("topology %d has the shards %v, not %v; to add one, run holdfast topology add",
			view.Topology.Number, view.Topology.Shards, names)
	}
	if err := claim(ctx, shards, view.ID); err != nil {
		return err
	}
	if err := recordTopology(ctx, shards, view.Topology); err != nil {
		return err
	}
	fmt.Fprintf(cmd.OutOrStdout(), "cluster %s, topology %d: %v\n", view.ID, view.Topology.Number, view.Topology.Shards)
	return nil
}

// foundingID is the cluster that the shards belong to already, or none.
func foundingID(ctx context.Context, shards []*ledger.Shard) (id uuid.UUID, err error) {
	for _, s := range shards {
		identity, err := s.Identity(ctx)
		switch {
		case errors.Is(err, ledger.ErrUnclaimed):
		case err != nil:
			return id, err
		default:
			id = identity.ClusterID
		}
	}
	return id, nil
}
