package bench

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/jackc/pgx/v5"
	clientv3 "go.etcd.io/etcd/client/v3"
	"go.uber.org/zap"

	"github.com/holdfast-io/holdfast/deploy/local"
	"github.com/holdfast-io/holdfast/worker/ledger"
)

const startTimeout = time.Minute

// Target is a holdfast that runs already. All fields but HTTP are required.
type Target struct {
	DSNs map[string]string // of all its shards, by name; the bench makes schemas of its own there
	Etcd []string          // endpoints
	GRPC string            // address of a coordinator
	HTTP string            // its address for HTTP/JSON; without it holdfast-http is left out
}

func (t *Target) check() error {
	switch {
	case len(t.DSNs) == 0:
		return errors.New("target: DSNs are required")
	case len(t.Etcd) == 0:
		return errors.New("target: Etcd is required")
	case t.GRPC == "":
		return errors.New("target: GRPC is required")
	}
	return nil
}

// servers are what is measured: a holdfast, and the databases and etcd under it.
type servers struct {
	shards     []string          // names, in the order of the topology
	direct     map[string]string // DSNs by shard
	dsns       map[string]string // the same as strategies reach them, which may be far away
	etcd       *clientv3.Client
	grpc, http string
	stack      *local.Stack // nil: somebody else's
	network    *network     // nil: nothing is far away
	provider   *provider    // of payments; nil: none
	keep       bool         // the data of the stack
}

// start starts servers of a workload's own, or connects to the target.
func (cfg *Config) start(ctx context.Context, w *Workload) (*servers, error) {
	ctx, cancel := context.WithTimeout(ctx, startTimeout)
	defer cancel()
	s := &servers{keep: cfg.Keep}
	err := cfg.connect(ctx, s, w)
	if err != nil {
		s.stop()
		return nil, fmt.Errorf("start servers: %w", err)
	}
	return s, nil
}

func (cfg *Config) connect(ctx context.Context, s *servers, w *Workload) error {
	if cfg.Target != nil {
		if w.provider {
			return errors.New("it needs workers with a provider of its own, not those of a target")
		}
		s.direct, s.dsns = cfg.Target.DSNs, cfg.Target.DSNs
		s.shards = slices.Sorted(maps.Keys(s.direct))
		s.grpc, s.http = cfg.Target.GRPC, cfg.Target.HTTP
		return s.dial(cfg.Target.Etcd)
	}
	stack := cfg.Stack
	stack.Dir = filepath.Join(cfg.Stack.Dir, w.Name)
	stack.Shards = []string{"eu", "us"}
	// etcd as a process of its own, so that its CPU time can be told apart; and
	// of several members, as it is in production.
	stack.EtcdMembers = 3
	stack.WorkerArgs = append(slices.Clone(stack.WorkerArgs), w.workerArgs...)
	if err := cfg.connectProvider(ctx, s, w, &stack); err != nil {
		return err
	}
	if w.latency != nil {
		s.network = newNetwork()
		stack.Network = s.network.route
	}
	var err error
	if s.stack, err = local.StartStack(ctx, stack); err != nil {
		return err
	}
	s.shards, s.direct, s.dsns = s.stack.Shards(), s.stack.DSNs(), s.stack.DSNs()
	s.grpc, s.http = s.stack.GRPCAddress, s.stack.HTTPAddress
	if s.network != nil {
		if s.dsns, err = s.network.farDSNs(s.stack, *w.latency); err != nil {
			return err
		}
	}
	return s.dial(slices.Collect(maps.Values(s.stack.EtcdEndpoints())))
}

// connectProvider starts the provider of a workload, and tells the workers to come.
func (cfg *Config) connectProvider(ctx context.Context, s *servers, w *Workload, stack *local.StackConfig) (err error) {
	if !w.provider {
		return nil
	}
	delay := providerDelay
	if cfg.Quick {
		delay = quickProviderDelay
	}
	if s.provider, err = startProvider(ctx, delay); err != nil {
		return fmt.Errorf("provider of payments: %w", err)
	}
	stack.WorkerArgs = append(stack.WorkerArgs, "--payment-simulator", s.provider.url)
	return nil
}

func (s *servers) dial(endpoints []string) (err error) {
	s.etcd, err = clientv3.New(clientv3.Config{
		Endpoints: endpoints, Logger: zap.NewNop(), DialTimeout: 5 * time.Second,
	})
	return err
}

// stop ends what start has started. Its data goes too, unless it is to be kept:
// a run leaves gigabytes behind.
func (s *servers) stop() {
	if s.etcd != nil {
		_ = s.etcd.Close()
	}
	if s.stack != nil {
		s.stack.Stop()
		if !s.keep {
			_ = os.RemoveAll(filepath.Dir(s.stack.LogDir))
		}
	}
	if s.network != nil {
		s.network.close()
	}
	if s.provider != nil {
		_ = s.provider.stop()
	}
}

// withConn runs work on a connection that is not measured, in a schema if one is
// named.
func (s *servers) withConn(ctx context.Context, shard, schema string, work func(*pgx.Conn) error) error {
	config, err := pgx.ParseConfig(s.direct[shard])
	if err != nil {
		return err
	}
	if schema != "" {
		config.RuntimeParams["search_path"] = schema + ", public"
	}
	conn, err := pgx.ConnectConfig(ctx, config)
	if err != nil {
		return err
	}
	return errors.Join(work(conn), conn.Close(context.WithoutCancel(ctx)))
}

func (s *servers) eachShard(ctx context.Context, schema string, work func(conn *pgx.Conn, shard string) error) error {
	for _, shard := range s.shards {
		err := s.withConn(ctx, shard, schema, func(conn *pgx.Conn) error { return work(conn, shard) })
		if err != nil {
			return fmt.Errorf("shard %s: %w", shard, err)
		}
	}
	return nil
}

func (s *servers) exec(ctx context.Context, shard, sql string) error {
	return s.withConn(ctx, shard, "", func(conn *pgx.Conn) error {
		_, err := conn.Exec(ctx, sql)
		return err
	})
}

// settle writes out what preparing has left behind, so that it is not written
// while something is measured. Only a superuser may.
func (s *servers) settle(ctx context.Context) error {
	if s.stack == nil {
		return nil
	}
	return s.eachShard(ctx, "", func(conn *pgx.Conn, _ string) error {
		_, err := conn.Exec(ctx, "CHECKPOINT")
		return err
	})
}

// ledgers opens the shards as holdfast does. Close them with the function
// returned.
func (s *servers) ledgers() (shards []*ledger.Shard, closeAll func(), err error) {
	closeAll = func() {
		for _, shard := range shards {
			shard.Close()
		}
	}
	for _, name := range s.shards {
		shard, err := ledger.Open(ledger.Config{Name: name, DSN: s.direct[name]})
		if err != nil {
			closeAll()
			return nil, nil, err
		}
		shards = append(shards, shard)
	}
	return shards, closeAll, nil
}

// stockHoldfast stores products in holdfast's own tables, as a tenure would that
// ended long ago: on every shard, with the same time of creation.
func (s *servers) stockHoldfast(ctx context.Context, products []product) error {
	args := productColumns(products)
	args["now"] = time.Now()
	return s.eachShard(ctx, "", func(conn *pgx.Conn, _ string) error {
		_, err := conn.Exec(ctx, `
INSERT INTO products (product_id, amount_in_storage, create_time)
SELECT id, storage, @now FROM unnest(@ids::text[], @storages::bigint[]) AS p (id, storage)
ON CONFLICT (product_id) DO NOTHING`, args)
		return err
	})
}

// A fence as low as can be, which every tenure raises. The rows move its total.
const insertFence = `
INSERT INTO fences (product_id, topology, token, tenure_id) VALUES (@id, 0, 0, '` + noTenure + `')`

// rememberHoldfast stores earlier purchases of a product on the first shard,
// before any tenure of it has begun.
func (s *servers) rememberHoldfast(ctx context.Context, h past) error {
	return s.withConn(ctx, s.shards[0], "", func(conn *pgx.Conn) error {
		args := h.args()
		err := pgx.BeginFunc(ctx, conn, func(tx pgx.Tx) error {
			if _, err := tx.Exec(ctx, insertFence, args); err != nil {
				return err
			}
			_, err := tx.Exec(ctx, insertHistory, args)
			return err
		})
		if err != nil {
			return err
		}
		_, err = conn.Exec(ctx, `VACUUM (ANALYZE) purchases`)
		return err
	})
}

// audit is holdfast's own recount of all its rows.
func (s *servers) audit(ctx context.Context) (oversold int64, err error) {
	shards, closeAll, err := s.ledgers()
	if err != nil {
		return 0, err
	}
	defer closeAll()
	report, err := ledger.Audit(ctx, shards)
	if err != nil {
		return 0, fmt.Errorf("audit: %w", err)
	}
	if !report.Clean() {
		f := report.Findings[0]
		err = fmt.Errorf("audit: %d findings, the first: %s %s: %s",
			report.Count(), f.ProductID, cmp.Or(f.Shard, "all shards"), f.Problem)
	}
	return report.Oversold, err
}
