package local

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"net/url"
	"slices"
	"strconv"
	"sync"
	"syscall"
	"time"

	"github.com/hashicorp/go-hclog"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
)

const (
	postgresUser = "holdfast" // superuser, trusted without a password

	// How long Stop waits for each of the two gentler ways to stop.
	fastShutdown      = 15 * time.Second
	immediateShutdown = 5 * time.Second

	// retryConnect is the pause between two looks whether a server answers yet.
	retryConnect = 10 * time.Millisecond
)

// postgresSettings are the defaults that PostgresConfig.Settings can change.
var postgresSettings = map[string]string{
	"max_connections":           "200",
	"max_prepared_transactions": "100", // of the bench, which compares two-phase commit
	"shared_buffers":            "128MB",
}

// PostgresConfig says where StartPostgres finds its programs, keeps its data
// and listens.
type PostgresConfig struct {
	Bin      string            // required; the folder with postgres and initdb, see FindPostgres
	Dir      string            // required; made when missing, reused when it holds data
	Port     int               // 0 is a free port
	Logger   hclog.Logger      // what this package does with the server; nil drops it
	Settings map[string]string // as in postgresql.conf, for this start; not those of address, port and fsync
}

// Postgres is one running Postgres server. Its own log is postgres.log in Dir.
type Postgres struct {
	cluster *cluster
	port    int
	logger  hclog.Logger
	log     *serverLog
	process *Process
	stop    sync.Once
}

// StartPostgres starts a server on 127.0.0.1 and returns when it answers, or
// with the cause of ctx. Dir gets a new cluster unless it holds one. When this
// process is root, the server runs as user postgres or nobody, who must be able
// to reach Bin and Dir. A server that ends before it answers fails the start at
// once, with the last lines of its log in the error. The context bounds only
// the start. The caller must Stop or Kill the server.
func StartPostgres(ctx context.Context, cfg PostgresConfig) (*Postgres, error) {
	if cfg.Bin == "" || cfg.Dir == "" {
		return nil, errors.New("start postgres: Bin and Dir are required")
	}
	p, err := startPostgres(ctx, cfg)
	if err != nil {
		return nil, fmt.Errorf("start postgres in %s: %w", cfg.Dir, err)
	}
	p.logger.Debug("postgres started", "port", p.port, "pid", p.Pid(), "dir", cfg.Dir)
	return p, nil
}

func startPostgres(ctx context.Context, cfg PostgresConfig) (*Postgres, error) {
	c, err := openCluster(cfg.Bin, cfg.Dir)
	if err != nil {
		return nil, err
	}
	if err := c.initialise(ctx); err != nil {
		return nil, err
	}
	return onPort(cfg.Port, func(port int) (*Postgres, error) {
		process, log, err := c.launch("postgres", syscall.SIGINT, serverArgs(c.data(), port, cfg.Settings)...)
		if err != nil {
			return nil, err
		}
		p := &Postgres{cluster: c, port: port, logger: orNull(cfg.Logger), log: log, process: process}
		if err := p.awaitReady(ctx); err != nil {
			p.Stop()
			return nil, err
		}
		return p, nil
	})
}

// serverArgs are the arguments of the server. The given settings win over the
// defaults, but cannot break the promises of this package.
func serverArgs(data string, port int, given map[string]string) []string {
	settings := maps.Clone(postgresSettings)
	maps.Copy(settings, given)
	settings["fsync"] = "on"
	settings["listen_addresses"] = loopback
	settings["port"] = strconv.Itoa(port)
	settings["unix_socket_directories"] = ""
	args := []string{"-D", data}
	for _, name := range slices.Sorted(maps.Keys(settings)) {
		args = append(args, "-c", name+"="+settings[name])
	}
	return args
}

func (p *Postgres) awaitReady(ctx context.Context) error {
	alive, release := p.whileAlive(ctx)
	defer release()
	tick := time.NewTicker(retryConnect)
	defer tick.Stop()
	for {
		answer := p.check(alive)
		if answer == nil {
			return nil
		}
		select {
		case <-p.Done():
			return p.endedEarly()
		case <-ctx.Done():
			return fmt.Errorf("no answer yet (%w): %w", answer, context.Cause(ctx))
		case <-tick.C:
		}
	}
}

// whileAlive returns a context that also ends with the server: whatever else
// holds its port may accept connections and never answer.
func (p *Postgres) whileAlive(ctx context.Context) (context.Context, func()) {
	ctx, cancel := context.WithCancel(ctx)
	var watcher sync.WaitGroup
	watcher.Go(func() {
		select {
		case <-p.Done():
			cancel()
		case <-ctx.Done():
		}
	})
	return ctx, func() { cancel(); watcher.Wait() }
}

// check returns nil when this server answers, and not another one whose port
// it was told to use.
func (p *Postgres) check(ctx context.Context) error {
	conn, err := pgx.Connect(ctx, p.DSN("postgres"))
	if err != nil {
		return err
	}
	defer func() { _ = conn.Close(ctx) }()
	var data string
	if err := conn.QueryRow(ctx, "SHOW data_directory").Scan(&data); err != nil {
		return err
	}
	if data != p.cluster.data() {
		return fmt.Errorf("the server of %s answers on port %d", data, p.port)
	}
	return nil
}

// endedEarly is the error of a server that ended before it answered, with its
// log. It is a syscall.EADDRINUSE when the port was taken.
func (p *Postgres) endedEarly() error {
	err := cmp.Or(p.process.Wait(), errors.New("postgres ended"))
	if bytes.Contains(p.log.lastLines(), []byte("Address already in use")) {
		err = fmt.Errorf("%w: %w", err, syscall.EADDRINUSE)
	}
	return p.log.explain(err)
}

// DSN is the connection string of a database, as superuser holdfast.
func (p *Postgres) DSN(database string) string {
	dsn := url.URL{
		Scheme:   "postgres",
		User:     url.User(postgresUser),
		Host:     hostPort(p.port),
		Path:     "/" + database,
		RawQuery: "sslmode=disable",
	}
	return dsn.String()
}

// CreateDatabase makes an empty database. One that exists is no error.
func (p *Postgres) CreateDatabase(ctx context.Context, name string) error {
	const duplicateDatabase = "42P04"
	err := p.exec(ctx, "CREATE DATABASE "+pgx.Identifier{name}.Sanitize())
	if refused, ok := errors.AsType[*pgconn.PgError](err); ok && refused.Code == duplicateDatabase {
		return nil
	}
	if err != nil {
		return fmt.Errorf("create database %s: %w", name, err)
	}
	return nil
}

// DropDatabase removes a database and ends the sessions in it. One that does
// not exist is no error.
func (p *Postgres) DropDatabase(ctx context.Context, name string) error {
	err := p.exec(ctx, "DROP DATABASE IF EXISTS "+pgx.Identifier{name}.Sanitize()+" WITH (FORCE)")
	if err != nil {
		return fmt.Errorf("drop database %s: %w", name, err)
	}
	return nil
}

func (p *Postgres) exec(ctx context.Context, sql string) error {
	conn, err := pgx.Connect(ctx, p.DSN("postgres"))
	if err != nil {
		return err
	}
	defer func() { _ = conn.Close(ctx) }()
	_, err = conn.Exec(ctx, sql)
	return err
}

// Port is the TCP port on 127.0.0.1.
func (p *Postgres) Port() int { return p.port }

// Pid is the process id of the postmaster.
func (p *Postgres) Pid() int { return p.process.Pid() }

// Done is closed when the server has ended, whatever the reason.
func (p *Postgres) Done() <-chan struct{} { return p.process.Done() }

// Stop shuts the server down: it ends all sessions, writes a checkpoint and
// exits; a server that takes too long is made to. It returns when the server
// is gone. A second Stop, and one after Kill, does nothing.
func (p *Postgres) Stop() {
	p.stop.Do(func() {
		if !p.process.signalAndWait(syscall.SIGINT, fastShutdown) &&
			!p.process.signalAndWait(syscall.SIGQUIT, immediateShutdown) {
			_ = p.process.Kill() // fails only for a process that is gone
		}
		_ = p.log.close() // it is only a log
		p.logger.Debug("postgres stopped", "port", p.port)
	})
}

// Kill sends SIGKILL to the postmaster, as a crash would, and returns when its
// sessions are gone too, without whose end Dir cannot be started again. They
// end by themselves as soon as they wait for anything. For one that computes
// Kill waits five seconds and then returns an error. Whatever was confirmed
// survives. A second Kill, and one after Stop, does nothing.
func (p *Postgres) Kill() error {
	var err error
	p.stop.Do(func() {
		begin := time.Now()
		err = errors.Join(p.process.Kill(), p.log.close())
		if time.Since(begin) >= outputGrace {
			err = errors.Join(err, fmt.Errorf("kill postgres: a session still computes after %v", outputGrace))
		}
		p.logger.Debug("postgres killed", "port", p.port)
	})
	return err
}
