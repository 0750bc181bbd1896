package main

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/google/uuid"
	"github.com/spf13/cobra"

	"github.com/holdfast-io/holdfast/api/cluster"
	"github.com/holdfast-io/holdfast/lockmgr"
	"github.com/holdfast-io/holdfast/worker/ledger"
)

func newStatus() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "status",
		Short: "Show workers, shards, topology, and who holds which product",
		Args:  noArguments,
	}
	flags := cmd.Flags()
	directory, shards, asJSON := etcdFlags(flags).directory, shardFlags(flags), jsonFlag(flags)
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		d, err := directory()
		if err != nil {
			return err
		}
		defer func() { _ = d.Client.Close() }()
		dsns, err := shards()
		if err != nil {
			return err
		}
		ctx, cancel := context.WithTimeout(cmd.Context(), 10*time.Second)
		defer cancel()
		s, err := readStatus(ctx, d, dsns, insecureFlag(flags)())
		if err != nil {
			return err
		}
		if *asJSON {
			return printJSON(cmd.OutOrStdout(), s)
		}
		return s.print(cmd)
	}
	return cmd
}

// clusterStatus is what etcd and the shards say, for printing.
type clusterStatus struct {
	ClusterID string           `json:"cluster_id"`
	Topology  cluster.Topology `json:"topology"`
	Workers   []workerStatus   `json:"workers"`
	Shards    []shardStatus    `json:"shards"`
	Locks     []lockStatus     `json:"locks"`
}

type workerStatus struct {
	cluster.Worker
	Locks int `json:"locks"`
}

type shardStatus struct {
	Name     string `json:"name"`
	Topology int64  `json:"topology"`
	Error    string `json:"error,omitempty"`
}

type lockStatus struct {
	ProductID string `json:"product_id"`
	Token     int64  `json:"token"`
	Holder    string `json:"holder"`
}

func readStatus(ctx context.Context, d cluster.Directory, dsns map[string]string, insecure bool) (*clusterStatus, error) {
	view, err := d.View(ctx)
	if errors.Is(err, cluster.ErrNotInitialised) {
		return nil, err
	}
	if err != nil {
		return nil, etcdError(d, err)
	}
	s := &clusterStatus{ClusterID: view.ID.String(), Topology: view.Topology}
	holders, err := lockHolders(ctx, d)
	if err != nil {
		return nil, err
	}
	held := map[string]int{}
	for _, h := range holders {
		name := holderName(h)
		held[name]++
		s.Locks = append(s.Locks, lockStatus{h.Name, h.Token, name})
	}
	for _, w := range view.Workers {
		s.Workers = append(s.Workers, workerStatus{w, held[w.Name]})
	}
	for _, name := range slices.Sorted(maps.Keys(dsns)) {
		s.Shards = append(s.Shards, readShard(ctx, name, dsns[name], view.ID, insecure))
	}
	return s, nil
}

func lockHolders(ctx context.Context, d cluster.Directory) ([]lockmgr.Holder, error) {
	locks, err := lockmgr.New(lockmgr.Config{Client: d.Client, Prefix: d.LockPrefix(), Owner: "status"})
	if err != nil {
		return nil, err
	}
	return locks.Holders(ctx)
}

func holderName(h lockmgr.Holder) string {
	var w cluster.Worker
	if err := json.Unmarshal([]byte(h.Owner), &w); err != nil {
		return h.Owner
	}
	return w.Name
}

func readShard(ctx context.Context, name, dsn string, clusterID uuid.UUID, insecure bool) shardStatus {
	s, err := ledger.Open(ledger.Config{Name: name, DSN: dsn, ClusterID: clusterID, VerifyTLS: !insecure})
	if err != nil {
		return shardStatus{Name: name, Error: err.Error()}
	}
	defer s.Close()
	id, err := s.Identity(ctx)
	if err != nil {
		return shardStatus{Name: name, Error: err.Error()}
	}
	return shardStatus{Name: name, Topology: id.Topology}
}

func (s *clusterStatus) print(cmd *cobra.Command) error {
	out := cmd.OutOrStdout()
	fmt.Fprintf(out, "cluster %s\ntopology %d: %v\n\n", s.ClusterID, s.Topology.Number, s.Topology.Shards)
	var workers, shards, locks [][]any
	for _, w := range s.Workers {
		workers = append(workers, []any{w.Name, cmp.Or(w.Region, "-"), w.Address, w.Locks})
	}
	if err := table(out, []any{"WORKER", "REGION", "ADDRESS", "LOCKS"}, workers); err != nil {
		return err
	}
	fmt.Fprintln(out)
	for _, sh := range s.Shards {
		state := "up"
		if sh.Error != "" {
			state = sh.Error
		}
		shards = append(shards, []any{sh.Name, sh.Topology, state})
	}
	if err := table(out, []any{"SHARD", "TOPOLOGY", "STATE"}, shards); err != nil {
		return err
	}
	fmt.Fprintln(out)
	for _, l := range s.Locks {
		locks = append(locks, []any{l.ProductID, l.Token, l.Holder})
	}
	return table(out, []any{"PRODUCT", "TOKEN", "HOLDER"}, locks)
}
