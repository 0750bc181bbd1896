package cluster

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/google/uuid"
	clientv3 "go.etcd.io/etcd/client/v3"
)

// ErrNotInitialised is returned when etcd knows no cluster under the prefix.
var ErrNotInitialised = errors.New("etcd knows no cluster under this prefix: run holdfast migrate")

// Worker is how to find a worker.
type Worker struct {
	Name     string `json:"name"`             // stable over restarts; decides what is routed to it
	Instance string `json:"instance"`         // new at each start; tells a restarted worker from the one before
	Address  string `json:"address"`          // host:port of its gRPC server
	Region   string `json:"region,omitempty"` // where it is; empty when there is one place for all

	Shards []string `json:"shards,omitempty"` // that it has a DSN for
}

// View is a cluster as etcd has it.
type View struct {
	ID       uuid.UUID
	Topology Topology
	Workers  []Worker // by name
}

// Directory reads and writes a cluster's entries in etcd.
type Directory struct {
	Client *clientv3.Client
	Prefix string // ends with '/'; clusters with other prefixes never meet
}

// LockPrefix is where the workers of the cluster keep their locks.
func (d Directory) LockPrefix() string { return d.Prefix + "locks/" }

// DutyPrefix is where they keep the locks of what one worker does for all, such as
// expiring the holds of a shard.
func (d Directory) DutyPrefix() string { return d.Prefix + "duties/" }

func (d Directory) base() string        { return d.Prefix + "cluster/" }
func (d Directory) idKey() string       { return d.base() + "id" }
func (d Directory) topologyKey() string { return d.base() + "topology" }
func (d Directory) workersKey() string  { return d.base() + "workers/" }

// Init stores the id and the first topology, unless the cluster has them. It
// returns the view that holds afterwards.
func (d Directory) Init(ctx context.Context, id uuid.UUID, first Topology) (View, error) {
	if err := first.Validate(); err != nil {
		return View{}, err
	}
	encoded, err := json.Marshal(first)
	if err != nil {
		return View{}, err
	}
	_, err = d.Client.Txn(ctx).
		If(clientv3.Compare(clientv3.CreateRevision(d.idKey()), "=", 0)).
		Then(clientv3.OpPut(d.idKey(), id.String()), clientv3.OpPut(d.topologyKey(), string(encoded))).
		Commit()
	if err != nil {
		return View{}, fmt.Errorf("initialise cluster: %w", err)
	}
	return d.View(ctx)
}

// ErrTopologyChanged is returned when somebody else changed the topology.
var ErrTopologyChanged = errors.New("the topology was changed by somebody else meanwhile")

// SetTopology replaces the topology that was read by the next one.
func (d Directory) SetTopology(ctx context.Context, read, next Topology) error {
	if err := next.Validate(); err != nil {
		return err
	}
	before, after, err := encodeBoth(read, next)
	if err != nil {
		return err
	}
	resp, err := d.Client.Txn(ctx).
		If(clientv3.Compare(clientv3.Value(d.topologyKey()), "=", before)).
		Then(clientv3.OpPut(d.topologyKey(), after)).
		Commit()
	switch {
	case err != nil:
		return fmt.Errorf("set topology: %w", err)
	case !resp.Succeeded:
		return ErrTopologyChanged
	}
	return nil
}

// Restore writes id and topology over whatever etcd has. It is for an etcd that
// lost its data; the topology's number must be above all that any shard has seen.
func (d Directory) Restore(ctx context.Context, id uuid.UUID, t Topology) error {
	_, encoded, err := encodeBoth(t, t)
	if err != nil {
		return err
	}
	_, err = d.Client.Txn(ctx).
		Then(clientv3.OpPut(d.idKey(), id.String()), clientv3.OpPut(d.topologyKey(), encoded)).
		Commit()
	if err != nil {
		return fmt.Errorf("restore cluster: %w", err)
	}
	return nil
}

func encodeBoth(a, b Topology) (encodedA, encodedB string, err error) {
	first, errA := json.Marshal(a)
	second, errB := json.Marshal(b)
	return string(first), string(second), errors.Join(errA, errB)
}

// View reads the cluster. It returns ErrNotInitialised when there is none.
func (d Directory) View(ctx context.Context) (View, error) {
	view, _, err := d.read(ctx)
	return view, err
}

// read also returns the revision that the view was read at.
func (d Directory) read(ctx context.Context) (View, int64, error) {
	resp, err := d.Client.Get(ctx, d.base(), clientv3.WithPrefix())
	if err != nil {
		return View{}, 0, fmt.Errorf("read cluster: %w", err)
	}
	var view View
	for _, kv := range resp.Kvs {
		if err := d.decode(&view, string(kv.Key), kv.Value); err != nil {
			return View{}, 0, fmt.Errorf("read cluster: %s: %w", kv.Key, err)
		}
	}
	slices.SortFunc(view.Workers, func(a, b Worker) int { return strings.Compare(a.Name, b.Name) })
	if view.ID == uuid.Nil {
		return view, resp.Header.Revision, ErrNotInitialised
	}
	return view, resp.Header.Revision, nil
}

func (d Directory) decode(view *View, key string, value []byte) error {
	switch {
	case key == d.idKey():
		return view.ID.UnmarshalText(value)
	case key == d.topologyKey():
		return json.Unmarshal(value, &view.Topology)
	case strings.HasPrefix(key, d.workersKey()):
		var w Worker
		err := json.Unmarshal(value, &w)
		view.Workers = append(view.Workers, w)
		return err
	}
	return nil // written by a newer version
}
