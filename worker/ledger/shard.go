package ledger

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"sync/atomic"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"
	"go.opentelemetry.io/otel/trace"
)

var (
	// ErrFenced is returned when a newer tenure of the product is known in the
	// shard. The caller's tenure is over.
	ErrFenced = errors.New("fenced by a newer tenure")
	// ErrNotSent is returned when no statement reached the shard.
	ErrNotSent = errors.New("shard not reached")
	// ErrAmbiguous is returned when the answer to a commit is missing: it may
	// have happened, or may still happen.
	ErrAmbiguous = errors.New("commit not answered")
	// ErrNotFound is returned when there is no such row.
	ErrNotFound = errors.New("not found")
)

// RefusedError is returned when the database refused a transaction, which it
// rolled back: nothing was stored.
type RefusedError struct{ PgError *pgconn.PgError }

func (e *RefusedError) Error() string { return "shard refused: " + e.PgError.Error() }
func (e *RefusedError) Unwrap() error { return e.PgError }

// Transient tells that the same may be taken later: a row lock was not had in
// time (lock_timeout), a statement took too long (statement_timeout), or others
// stood in the way (deadlock, serialization failure).
func (e *RefusedError) Transient() bool {
	return slices.Contains([]string{"55P03", "57014", "40P01", "40001"}, e.PgError.Code)
}

// Config says how to reach a shard.
type Config struct {
	Name string // the shard's name in the topology
	DSN  string // a libpq connection string or URL

	// VerifyTLS refuses a DSN that does not make the database prove its name
	// (sslmode=verify-full).
	VerifyTLS bool

	// ClusterID, when set, is checked together with Name on every new
	// connection: a DSN that comes to point at another database, after a
	// failover say, is refused before anything is read or written there. So is a
	// database that would store purchases without a proof of their fences.
	ClusterID uuid.UUID

	// StatementTimeout bounds each statement, LockTimeout each wait for a row
	// lock (5 s and 2 s when zero). A stalled client keeps no fence and no purchase locked:
	// what it sends takes effect when the last of it has arrived. A client that vanished
	// is noticed by TCP keepalives, within some 20 s.
	StatementTimeout, LockTimeout time.Duration

	// Sales and reads do not share connections. Of those for sales MinConns are kept
	// open: when a worker takes over a hundred products, its buyers would wait for
	// the connections first.
	MinConns, MaxConns int32 // 0, and 10 when zero

	Traces trace.TracerProvider // of statements; none when nil
}

// Shard is one Postgres database. It is safe for concurrent use.
type Shard struct {
	name string
	pool *pgxpool.Pool // for sales
	list *pgxpool.Pool // for what reads many rows
	wary atomic.Int32  // batches yet to come that look out for what is stored

	pinger *pinger
}

// Open prepares a pool of connections. It does not connect: a shard that is
// down fails the calls that need it, not the start of those that do not.
func Open(cfg Config) (*Shard, error) {
	pc, err := pgxpool.ParseConfig(cfg.DSN)
	if err != nil {
		return nil, fmt.Errorf("shard %s: %w", cfg.Name, err)
	}
	if err := secured(pc.ConnConfig, cfg.VerifyTLS); err != nil {
		return nil, fmt.Errorf("shard %s: %w", cfg.Name, err)
	}
	pc.BeforeConnect = refresh(cfg.DSN, cfg.VerifyTLS)
	stmt := cmp.Or(cfg.StatementTimeout, 5*time.Second)
	lock := cmp.Or(cfg.LockTimeout, 2*time.Second)
	params := pc.ConnConfig.RuntimeParams
	params["application_name"] = "holdfast"
	params["statement_timeout"] = milliseconds(stmt)
	params["idle_in_transaction_session_timeout"] = milliseconds(stmt)
	params["lock_timeout"] = milliseconds(lock)
	// No timeout ends a COPY whose client is gone.
	params["tcp_keepalives_idle"], params["tcp_keepalives_interval"], params["tcp_keepalives_count"] = "10", "3", "3"
	// The fence protocol relies on each statement seeing the newest rows.
	params["default_transaction_isolation"] = "read committed"
	// All that a worker asks is found by keys. Without statistics, on tables that
	// are new or grow fast, the planner would read them whole instead. It would also read
	// a whole index of a table that was tiny when the plan was made; that is why statements
	// say ANY (ARRAY[…]) where others say =: such a condition only a look-up of each row
	// can use.
	for _, method := range []string{"enable_seqscan", "enable_hashjoin", "enable_mergejoin"} {
		params[method] = "off"
	}
	// What is off and cannot be avoided counts as if it took hours, and Postgres would
	// compile such a statement each time: half a second for what takes a millisecond.
	params["jit"] = "off"
	if cfg.Traces != nil {
		pc.ConnConfig.Tracer = newTracer(cfg.Traces)
	}
	pc.ConnConfig.ConnectTimeout = cmp.Or(pc.ConnConfig.ConnectTimeout, 2*time.Second)
	if cfg.ClusterID != uuid.Nil {
		pc.AfterConnect = func(ctx context.Context, conn *pgx.Conn) error {
			if err := checkIdentity(ctx, conn, cfg.Name, cfg.ClusterID); err != nil {
				return err
			}
			return checkGuard(ctx, conn)
		}
	}
	list, err := pgxpool.NewWithConfig(context.Background(), limited(pc, 0, maxLists))
	if err != nil {
		return nil, fmt.Errorf("shard %s: %w", cfg.Name, err)
	}
	// A sale's statements have one good plan, whatever the parameters are. Postgres
	// would make a new one for each small batch, which costs more than the batch.
	params["plan_cache_mode"] = "force_generic_plan"
	pool, err := pgxpool.NewWithConfig(context.Background(), limited(pc, cfg.MinConns, cmp.Or(cfg.MaxConns, 10)))
	if err != nil {
		list.Close()
		return nil, fmt.Errorf("shard %s: %w", cfg.Name, err)
	}
	return &Shard{name: cfg.Name, pool: pool, list: list, pinger: newPinger(pool)}, nil
}

// maxLists is how many connections read many rows at the same time.
const maxLists = 4

// limited is a pool's own configuration, between so many connections.
func limited(pc *pgxpool.Config, least, most int32) *pgxpool.Config {
	pc = pc.Copy()
	pc.MinConns, pc.MaxConns = min(least, most), most
	return pc
}

func milliseconds(d time.Duration) string { return fmt.Sprint(d.Milliseconds()) }

// Name is the shard's name in the topology.
func (s *Shard) Name() string { return s.name }

// Close ends all connections, one after the other: the end of a server process costs the
// database more than a purchase, and others sell there.
func (s *Shard) Close() {
	ctx, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	for _, conn := range s.pool.AcquireAllIdle(ctx) {
		_ = conn.Conn().Close(ctx)
		conn.Release()
	}
	s.pool.Close()
	s.list.Close()
	s.pinger.close()
}

// readError names the shard and the action, and turns "no row" into ErrNotFound.
func (s *Shard) readError(action string, err error) error {
	if err == nil {
		return nil
	}
	if isNoRows(err) {
		err = ErrNotFound
	}
	return fmt.Errorf("shard %s: %s: %w", s.name, action, err)
}

func isNoRows(err error) bool { return errors.Is(err, pgx.ErrNoRows) }

const undefinedTable = "42P01"

func hasCode(err error, code string) bool {
	var pgErr *pgconn.PgError
	return errors.As(err, &pgErr) && pgErr.Code == code
}
