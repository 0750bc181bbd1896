package main

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/google/uuid"
	"github.com/spf13/cobra"

	"github.com/holdfast-io/holdfast/api/cluster"
	"github.com/holdfast-io/holdfast/worker/ledger"
)

func newTopology() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "topology",
		Short: "Show and change the list of shards, also while they sell",
	}
	cmd.AddCommand(newTopologyShow(), newTopologyAdd(), newTopologyDrain(), newTopologyRepair())
	return cmd
}

// topologyCall gives a command the flags to reach etcd and the shards, and runs
// call with both.
func topologyCall(cmd *cobra.Command, call func(context.Context, *cobra.Command, *topologyAdmin, []string) error) *cobra.Command {
	directory, dsns, asJSON := etcdFlags(cmd.Flags()).directory, shardFlags(cmd.Flags()), jsonFlag(cmd.Flags())
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		ctx, cancel := context.WithTimeout(cmd.Context(), time.Minute)
		defer cancel()
		d, err := directory()
		if err != nil {
			return err
		}
		defer func() { _ = d.Client.Close() }()
		byName, err := dsns()
		if err != nil {
			return err
		}
		shards, closeAll, err := openShards(byName, uuid.Nil, insecureFlag(cmd.Flags())())
		if err != nil {
			return err
		}
		defer closeAll()
		return call(ctx, cmd, &topologyAdmin{directory: d, shards: shards, json: *asJSON}, args)
	}
	return cmd
}

// topologyAdmin is what the commands work on.
type topologyAdmin struct {
	directory cluster.Directory
	shards    []*ledger.Shard // by name; those that the operator gave a DSN for
	json      bool
}

// view reads the cluster, and checks that every shard of it has a DSN.
func (a *topologyAdmin) view(ctx context.Context) (cluster.View, error) {
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	view, err := a.directory.View(ctx)
	switch {
	case errors.Is(err, cluster.ErrNotInitialised):
		return view, fmt.Errorf("%w; if etcd lost its data, run holdfast topology repair", err)
	case err != nil:
		return view, etcdError(a.directory, err)
	}
	_, err = a.pick(view.Topology.Shards...)
	return view, err
}

// pick returns the shards of these names.
func (a *topologyAdmin) pick(names ...string) (picked []*ledger.Shard, err error) {
	for _, name := range names {
		i := slices.IndexFunc(a.shards, func(s *ledger.Shard) bool { return s.Name() == name })
		if i < 0 {
			return nil, usageError("shard %s: give --shard %s=DSN", name, name)
		}
		picked = append(picked, a.shards[i])
	}
	return picked, nil
}

// change makes next the topology of the cluster, first in etcd and then in every
// shard: a shard must never know a number that etcd does not.
func (a *topologyAdmin) change(ctx context.Context, view cluster.View, next cluster.Topology) error {
	shards, err := a.pick(next.Shards...)
	if err != nil {
		return err
	}
	// Before it is in etcd: workers refuse a shard that is not their cluster's.
	if err := claim(ctx, shards, view.ID); err != nil {
		return err
	}
	if err := a.directory.SetTopology(ctx, view.Topology, next); err != nil {
		return err
	}
	return recordTopology(ctx, shards, next)
}

// claim makes the shards those of the cluster.
func claim(ctx context.Context, shards []*ledger.Shard, id uuid.UUID) error {
	for _, s := range shards {
		if err := s.Claim(ctx, id); err != nil {
			return err
		}
	}
	return nil
}

// recordTopology tells the shards the topology.
func recordTopology(ctx context.Context, shards []*ledger.Shard, t cluster.Topology) error {
	document, err := json.Marshal(t)
	if err != nil {
		return err
	}
	for _, s := range shards {
		if err := s.PutTopology(ctx, t.Number, string(document)); err != nil {
			return err
		}
	}
	return nil
}

func (a *topologyAdmin) print(cmd *cobra.Command, t cluster.Topology) error {
	if a.json {
		return printJSON(cmd.OutOrStdout(), t)
	}
	fmt.Fprintf(cmd.OutOrStdout(), "topology %d\n", t.Number)
	var rows [][]any
	for _, name := range t.Shards {
		state := "sells"
		if !t.Sells(name) {
			state = "drains: takes no new purchases, and counts what it has sold"
		}
		home := "only customers who name it"
		if len(t.Homes) == 0 || slices.Contains(t.Homes, name) {
			home = "also customers who name no region"
		}
		rows = append(rows, []any{name, home, state})
	}
	return table(cmd.OutOrStdout(), []any{"SHARD", "CUSTOMERS", "STATE"}, rows)
}

func newTopologyShow() *cobra.Command {
	return topologyCall(&cobra.Command{
		Use:   "show",
		Short: "Show the topology",
		Args:  noArguments,
	}, func(ctx context.Context, cmd *cobra.Command, a *topologyAdmin, _ []string) error {
		view, err := a.view(ctx)
		if err != nil {
			return err
		}
		return a.print(cmd, view.Topology)
	})
}

func newTopologyAdd() *cobra.Command {
	return topologyCall(&cobra.Command{
		Use:   "add SHARD",
		Short: "Add a shard, while the others sell",
		Long: `add migrates the database given as --shard SHARD=DSN and makes it a shard. Every
worker must have its DSN before: restart the workers with it first. Customers who
name no region stay in the shards they are in.`,
		Args: arguments("SHARD"),
	}, func(ctx context.Context, cmd *cobra.Command, a *topologyAdmin, args []string) error {
		view, err := a.view(ctx)
		if err != nil {
			return err
		}
		next, err := view.Topology.Added(args[0])
		if err != nil {
			return usageError("SHARD: %w", err)
		}
		added, err := a.pick(args[0])
		if err != nil {
			return err
		}
		if lacking := workersWithout(view, args[0]); len(lacking) > 0 {
			return fmt.Errorf("%s cannot reach shard %s: restart with its DSN first", strings.Join(lacking, ", "), args[0])
		}
		if err := migrateAll(ctx, cmd, added); err != nil {
			return err
		}
		if err := a.change(ctx, view, next); err != nil {
			return err
		}
		return a.print(cmd, next)
	})
}

// workersWithout are the workers that have no DSN for a shard.
func workersWithout(view cluster.View, shard string) (names []string) {
	for _, w := range view.Workers {
		if !slices.Contains(w.Shards, shard) {
			names = append(names, w.Name)
		}
	}
	return names
}

func newTopologyDrain() *cobra.Command {
	return topologyCall(&cobra.Command{
		Use:   "drain SHARD",
		Short: "Take no new purchases in a shard; what it has sold goes on counting",
		Args:  arguments("SHARD"),
	}, func(ctx context.Context, cmd *cobra.Command, a *topologyAdmin, args []string) error {
		view, err := a.view(ctx)
		if err != nil {
			return err
		}
		next, err := view.Topology.Drained(args[0])
		if err != nil {
			return usageError("SHARD: %w", err)
		}
		if err := a.change(ctx, view, next); err != nil {
			return err
		}
		return a.print(cmd, next)
	})
}

func newTopologyRepair() *cobra.Command {
	return topologyCall(&cobra.Command{
		Use:   "repair",
		Short: "After etcd was wiped or restored: raise the topology above all that the shards have seen",
		Long: `repair reads the newest topology that any shard has seen, and writes it under the
next number to etcd and to every shard. Tokens are compared together with the
topology's number, so those that etcd gives from now on are the newest again.
Give --shard for every shard. It may be run at any time; nothing is lost by it.`,
		Args: noArguments,
	}, func(ctx context.Context, cmd *cobra.Command, a *topologyAdmin, _ []string) error {
		id, newest, err := a.newest(ctx)
		if err != nil {
			return err
		}
		if view, err := a.directory.View(ctx); err == nil && view.Topology.Number > newest.Number {
			newest = view.Topology
		}
		shards, err := a.pick(newest.Shards...)
		if err != nil {
			return err
		}
		next := newest.Renumbered()
		if err := a.directory.Restore(ctx, id, next); err != nil {
			return etcdError(a.directory, err)
		}
		if err := recordTopology(ctx, shards, next); err != nil {
			return err
		}
		return a.print(cmd, next)
	})
}

// newest is the newest topology that any shard has seen, and the cluster that all
// of them belong to.
func (a *topologyAdmin) newest(ctx context.Context) (id uuid.UUID, newest cluster.Topology, err error) {
	for _, s := range a.shards {
		identity, err := s.Identity(ctx)
		if err != nil {
			return id, newest, err
		}
		if id = cmp.Or(id, identity.ClusterID); id != identity.ClusterID {
			return id, newest, fmt.Errorf("shard %s belongs to cluster %s, others to %s", s.Name(), identity.ClusterID, id)
		}
		number, document, err := s.Topology(ctx)
		if err != nil {
			return id, newest, err
		}
		if number > newest.Number {
			if err := json.Unmarshal([]byte(document), &newest); err != nil {
				return id, newest, fmt.Errorf("shard %s: topology %d: %w", s.Name(), number, err)
			}
		}
	}
	return id, newest, nil
}
