package local

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/hashicorp/go-hclog"
	"golang.org/x/sync/errgroup"
)

// StackConfig says what a whole local holdfast consists of. Fields without a
// default are required.
type StackConfig struct {
	Binary      string // the holdfast executable; its coordinators and workers are children
	Dir         string // data and logs; reused when it holds them, removed by nobody
	PostgresBin string // see FindPostgres; empty looks for it
	Shards      []string
	Workers     int
	EtcdMembers int // 0 or 1: one server in this process; more: each a process of its own

	// SpareShards are no shards yet: each has a Postgres server with an empty
	// database, and all processes have its DSN, so that it can be added.
	SpareShards  []string
	Coordinators int // 1 when zero

	// Network, when set, is asked for every address that one of the processes
	// uses to reach another, and answers the address to use instead: that of a
	// proxy. From and to are names of workers, shards and etcd members,
	// coordinators, or "others" for all who call a worker. It is asked again
	// when a worker comes back at another address, and must then answer as before.
	Network func(from, to, address string) (string, error)

	HTTPListen string // of the first coordinator; a free port of 127.0.0.1 when empty
	GRPCListen string
	WorkerArgs []string // further flags for every worker
	// WorkerArgsOf, when set, are further flags of one worker.
	WorkerArgsOf func(name string) []string
	Logger       hclog.Logger

	CoordinatorArgs []string // further flags for every coordinator

	// MetricsTargets, when set, is a file that tells a Prometheus (file_sd_configs) where
	// coordinators and workers serve their metrics, which they do not without it.
	MetricsTargets string
}

// Stack is a whole holdfast on this machine: etcd, a Postgres server for each
// shard, coordinators and workers, each a process of its own.
type Stack struct {
	Etcd         *Etcd                // nil when there are several members
	EtcdCluster  *EtcdCluster         // nil when there is one
	Postgres     map[string]*Postgres // by shard, also those of spare shards
	Coordinator  *CoordinatorProcess  // the first one
	Coordinators []*CoordinatorProcess
	Workers      map[string]*Process // by the worker's name
	HTTPAddress  string              // of the first coordinator
	GRPCAddress  string
	LogDir       string

	cfg  StackConfig
	logs map[string]*serverLog // by the child's name

	targets targets

	mu sync.Mutex // guards Postgres, which a restart of one changes
}

// database is the name of the database on each shard's server.
const database = "holdfast"

// StartStack starts the servers, migrates the shards and starts the processes.
// It returns when all coordinators answer. After an error nothing is left
// running. The context bounds only the start.
func StartStack(ctx context.Context, cfg StackConfig) (*Stack, error) {
	bin, err := FindPostgres(cfg.PostgresBin)
	if err != nil {
		return nil, err
	}
	cfg.PostgresBin = bin
	if cfg.Logger == nil {
		cfg.Logger = hclog.NewNullLogger()
	}
	if cfg.Network == nil {
		cfg.Network = func(_, _, address string) (string, error) { return address, nil }
	}
	s := &Stack{
		cfg: cfg, LogDir: filepath.Join(cfg.Dir, "log"),
		Postgres: map[string]*Postgres{}, Workers: map[string]*Process{}, logs: map[string]*serverLog{},
		targets: targets{file: cfg.MetricsTargets},
	}
	if err := s.start(ctx); err != nil {
		s.Stop()
		return nil, fmt.Errorf("start local stack: %w", err)
	}
	return s, nil
}

func (s *Stack) start(ctx context.Context) error {
	if err := os.MkdirAll(s.LogDir, 0o755); err != nil {
		return err
	}
	if err := s.startServers(ctx); err != nil {
		return err
	}
	if err := s.migrate(ctx); err != nil {
		return err
	}
	for i := range s.cfg.Workers {
		if err := s.StartWorker(fmt.Sprintf("worker-%d", i+1)); err != nil {
			return err
		}
	}
	if err := s.startCoordinators(); err != nil {
		return err
	}
	return s.awaitCoordinators(ctx)
}

// startServers starts etcd and all Postgres servers at once.
func (s *Stack) startServers(ctx context.Context) error {
	var g errgroup.Group
	g.Go(func() error { return s.startEtcd(ctx) })
	for _, shard := range slices.Concat(s.cfg.Shards, s.cfg.SpareShards) {
		g.Go(func() error {
			pg, err := StartPostgres(ctx, PostgresConfig{
				Bin: s.cfg.PostgresBin, Dir: filepath.Join(s.cfg.Dir, "postgres-"+shard), Logger: s.cfg.Logger,
			})
			if err != nil {
				return err
			}
			s.setPostgres(shard, pg)
			return pg.CreateDatabase(ctx, database)
		})
	}
	return g.Wait()
}

func (s *Stack) startEtcd(ctx context.Context) (err error) {
	dir := filepath.Join(s.cfg.Dir, "etcd")
	if s.cfg.EtcdMembers > 1 {
		s.EtcdCluster, err = StartEtcdCluster(ctx, EtcdClusterConfig{
			Binary: s.cfg.Binary, Dir: dir, Members: s.cfg.EtcdMembers,
		})
		return err
	}
	s.Etcd, err = StartEtcd(ctx, EtcdConfig{Dir: dir, Logger: s.cfg.Logger})
	return err
}

// RestartPostgres starts the server of a shard that was stopped or killed, on
// the same data and port. Meanwhile others may start processes and commands.
func (s *Stack) RestartPostgres(ctx context.Context, shard string) error {
	pg, err := StartPostgres(ctx, PostgresConfig{
		Bin: s.cfg.PostgresBin, Dir: filepath.Join(s.cfg.Dir, "postgres-"+shard),
		Port: s.Postgres[shard].Port(), Logger: s.cfg.Logger,
	})
	if err == nil {
		s.setPostgres(shard, pg)
	}
	return err
}

func (s *Stack) setPostgres(shard string, pg *Postgres) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.Postgres[shard] = pg
}

// Shards are the names of the shards, without spare ones.
func (s *Stack) Shards() []string { return s.cfg.Shards }

// DSNs are the connection strings of the shards, also of spare ones.
func (s *Stack) DSNs() map[string]string {
	s.mu.Lock()
	defer s.mu.Unlock()
	dsns := map[string]string{}
	for shard, pg := range s.Postgres {
		dsns[shard] = pg.DSN(database)
	}
	return dsns
}

// EtcdEndpoints are the client addresses of etcd, by the name of the member.
func (s *Stack) EtcdEndpoints() map[string]string {
	if s.EtcdCluster == nil {
		return map[string]string{"etcd": s.Etcd.Endpoint()}
	}
	endpoints := map[string]string{}
	for _, m := range s.EtcdCluster.Members {
		endpoints[m.Name] = m.Endpoint()
	}
	return endpoints
}

// Environment is what holdfast's commands need to find the stack, as variables.
func (s *Stack) Environment() []string {
	env, _ := s.environment(func(_, address string) (string, error) { return address, nil }) // has no error to pass on
	return env
}

// environment is that of a process which reaches the servers by other routes.
func (s *Stack) environment(route func(to, address string) (string, error)) ([]string, error) {
	var endpoints []string
	var failures error
	routed := func(to, address string) string {
		address, err := route(to, address)
		failures = errors.Join(failures, err)
		return address
	}
	for name, address := range s.EtcdEndpoints() {
		endpoints = append(endpoints, routed(name, address))
	}
	slices.Sort(endpoints)
	env := []string{
		"HOLDFAST_CONFIG=" + os.DevNull, // no settings file that happens to lie around
		"HOLDFAST_INSECURE=true",        // it never leaves this machine
		"HOLDFAST_ETCD=" + strings.Join(endpoints, ","),
		"HOLDFAST_COORDINATOR=" + s.GRPCAddress,
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	for shard, pg := range s.Postgres {
		address := hostPort(pg.Port())
		dsn := strings.Replace(pg.DSN(database), address, routed(shard, address), 1)
		name := strings.ToUpper(strings.ReplaceAll(shard, "-", "_"))
		env = append(env, "HOLDFAST_SHARD_"+name+"="+dsn)
	}
	slices.Sort(env)
	return env, failures
}

// foreignEnvironment is this process's environment without what it says of
// another holdfast.
func foreignEnvironment() []string {
	return slices.DeleteFunc(os.Environ(), func(variable string) bool {
		return strings.HasPrefix(variable, "HOLDFAST_")
	})
}

// migrate names the shards, or it would migrate the spare ones as well.
func (s *Stack) migrate(ctx context.Context) error {
	args := []string{"migrate", "--shards", strings.Join(s.cfg.Shards, ",")}
	for _, shard := range s.cfg.Shards {
		args = append(args, "--shard", shard+"="+s.Postgres[shard].DSN(database))
	}
	wait, err := s.Command(args...)
	if err != nil {
		return err
	}
	return wait(ctx)
}

// Command starts a command of holdfast, which finds the stack by itself. The
// caller waits for its end; when ctx ends before, it is killed. Its output is
// in the log of its name.
func (s *Stack) Command(args ...string) (wait func(ctx context.Context) error, err error) {
	p, err := s.run(args[0], args...)
	if err != nil {
		return nil, err
	}
	log := s.logs[args[0]]
	return func(ctx context.Context) error {
		select {
		case <-p.Done():
		case <-ctx.Done():
			return errors.Join(fmt.Errorf("%s: %w", args[0], context.Cause(ctx)), p.Kill())
		}
		if err := p.Wait(); err != nil {
			return log.explain(err)
		}
		return nil
	}, nil
}

// StartWorker starts a worker, also one that was killed before under this name.
func (s *Stack) StartWorker(name string) error {
	port, err := FreePort()
	if err != nil {
		return err
	}
	advertise, err := s.cfg.Network("others", name, hostPort(port))
	if err != nil {
		return err
	}
	args := append([]string{"worker", "--name", name, "--listen", hostPort(port), "--advertise", advertise},
		s.cfg.WorkerArgs...)
	if s.cfg.WorkerArgsOf != nil {
		args = append(args, s.cfg.WorkerArgsOf(name)...)
	}
	metrics, err := s.targets.args(name)
	if err != nil {
		return err
	}
	args = append(args, metrics...)
	p, err := s.run(name, args...)
	if err != nil {
		return err
	}
	s.Workers[name] = p
	return nil
}

// run starts a child of the holdfast binary with its output in a log file.
func (s *Stack) run(name string, args ...string) (*Process, error) {
	log := s.logs[name]
	if log == nil {
		var err error
		if log, err = openLog(filepath.Join(s.LogDir, name+".log")); err != nil {
			return nil, err
		}
		s.logs[name] = log
	}
	env, err := s.environment(func(to, address string) (string, error) { return s.cfg.Network(name, to, address) })
	if err != nil {
		return nil, err
	}
	return StartProcess(ProcessConfig{
		Name: name, Path: s.cfg.Binary, Args: args, Log: log, Env: append(foreignEnvironment(), env...),
	})
}

// failed adds the last lines of the child's log to an error.
func (s *Stack) failed(name string, err error) error {
	return s.logs[name].explain(fmt.Errorf("%s: %w", name, err))
}

// Stop ends everything: first those who call, then those who are called.
func (s *Stack) Stop() {
	const grace = 15 * time.Second
	var wg sync.WaitGroup
	for _, c := range s.Coordinators {
		if c.Process != nil {
			wg.Go(func() { c.Terminate(grace) })
		}
	}
	wg.Wait()
	for _, p := range s.Workers {
		wg.Go(func() { p.Terminate(grace) })
	}
	wg.Wait()
	for _, pg := range s.Postgres {
		wg.Go(pg.Stop)
	}
	if s.Etcd != nil {
		wg.Go(s.Etcd.Stop)
	}
	if s.EtcdCluster != nil {
		wg.Go(s.EtcdCluster.Stop)
	}
	wg.Wait()
	for _, log := range s.logs {
		_ = log.close()
	}
}
