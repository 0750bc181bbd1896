package worker

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"github.com/holdfast-io/holdfast/deploy/local/localtest"
	"github.com/holdfast-io/holdfast/worker/ledger"
)

// The tests of this package share two migrated databases, and keep apart by the
// ids of their products: making databases takes longer than most tests.
var (
	clusterID = uuid.New()
	regions   = []string{"eu", "us"}
	products  atomic.Int64

	sharedDSNs = sync.OnceValues(func() (map[string]string, error) {
		dsns := localtest.Databases(forAllTests{}, regions...)
		for name, dsn := range dsns {
			s, err := ledger.Open(ledger.Config{Name: name, DSN: dsn})
			if err != nil {
				return nil, err
			}
			defer s.Close()
			if _, err := s.Migrate(context.Background()); err != nil {
				return nil, err
			}
			if err := s.Claim(context.Background(), clusterID); err != nil {
				return nil, err
			}
		}
		return dsns, nil
	})
)

// forAllTests is a test that ends with the binary, when all databases go.
type forAllTests struct{ testing.TB }

func (forAllTests) Helper()           {}
func (forAllTests) Cleanup(func())    {}
func (forAllTests) Fatal(args ...any) { panic(fmt.Sprint(args...)) }

// shards are the two databases, seen by one test.
type shards struct {
	dsns map[string]string
	open []*ledger.Shard
	raw  map[string]*pgx.Conn // for what no worker would do
}

func newShards(t *testing.T) *shards {
	t.Helper()
	dsns, err := sharedDSNs()
	if err != nil {
		t.Fatal(err)
	}
	s := &shards{dsns: dsns, raw: map[string]*pgx.Conn{}}
	for _, name := range regions {
		s.open = append(s.open, openShard(t, name, dsns[name]))
		s.raw[name] = connect(t, dsns[name])
	}
	return s
}

func openShard(t *testing.T, name, dsn string) *ledger.Shard {
	t.Helper()
	shard, err := ledger.Open(ledger.Config{Name: name, DSN: dsn, ClusterID: clusterID})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(shard.Close)
	return shard
}

func connect(t *testing.T, dsn string) *pgx.Conn {
	t.Helper()
	conn, err := pgx.Connect(t.Context(), dsn)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close(context.Background()) })
	return conn
}

// newProduct returns an id that no other test uses.
func newProduct() string { return fmt.Sprintf("p%d", products.Add(1)) }

// patient is a context that ends with the test, or when nothing but a bug can
// explain the wait.
func patient(t *testing.T) context.Context {
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	t.Cleanup(cancel)
	return ctx
}

func (s *shards) exec(t *testing.T, region, sql string, args ...any) {
	t.Helper()
	if _, err := s.raw[region].Exec(t.Context(), sql, args...); err != nil {
		t.Fatalf("%s: %s: %v", region, sql, err)
	}
}

func (s *shards) number(t *testing.T, region, sql string, args ...any) (n int64) {
	t.Helper()
	if err := s.raw[region].QueryRow(t.Context(), sql, args...).Scan(&n); err != nil {
		t.Fatalf("%s: %s: %v", region, sql, err)
	}
	return n
}

// await returns once the question is answered with true.
func (s *shards) await(t *testing.T, region, question string, args ...any) {
	t.Helper()
	for ctx := patient(t); ; {
		var so bool
		if err := s.raw[region].QueryRow(ctx, question, args...).Scan(&so); err != nil {
			t.Fatalf("%s: %s: %v", region, question, err)
		}
		if so {
			return
		}
	}
}

// lockFence keeps a product's fence row locked until the returned func is called.
func (s *shards) lockFence(t *testing.T, region, product string) (unlock func()) {
	t.Helper()
	s.exec(t, region, "BEGIN")
	s.exec(t, region, "SELECT 1 FROM fences WHERE product_id = $1 FOR UPDATE", product)
	return func() { s.exec(t, region, "ROLLBACK") }
}

// awaitBlocked returns once n backends of the shard wait for a row lock.
func (s *shards) awaitBlocked(t *testing.T, region string, n int) {
	t.Helper()
	watcher, ctx := connect(t, s.dsns[region]), patient(t)
	for blocked := 0; blocked < n; {
		err := watcher.QueryRow(ctx, `SELECT count(*) FROM pg_stat_activity
			WHERE datname = current_database() AND wait_event_type = 'Lock'`).Scan(&blocked)
		if err != nil {
			t.Fatal(err)
		}
	}
}

func (s *shards) token(t *testing.T, region, product string) int64 {
	t.Helper()
	return s.number(t, region, "SELECT token FROM fences WHERE product_id = $1", product)
}

func (s *shards) sold(t *testing.T, product string) (units int64) {
	t.Helper()
	for region := range s.raw {
		units += s.number(t, region, "SELECT coalesce(sum(amount + readmitted - released), 0) FROM purchases WHERE product_id = $1", product)
	}
	return units
}

// checkLedger holds both shards against what must always be true of them, and
// the units sold of a product against what the test knows was sold.
func checkLedger(t *testing.T, s *shards, product string, sold int64) {
	t.Helper()
	report, err := ledger.Audit(t.Context(), s.open)
	if err != nil {
		t.Fatal(err)
	}
	mine := slices.DeleteFunc(report.Findings, func(f ledger.Finding) bool { return f.ProductID != product })
	if len(mine) > 0 {
		t.Fatalf("audit: %+v", mine)
	}
	if got := s.sold(t, product); got != sold {
		t.Fatalf("%d units of %s stored, want %d", got, product, sold)
	}
}

// unreachable is the DSN of a shard that is down.
func unreachable(t *testing.T) string {
	return strings.Join([]string{"postgres://", nobody(t), "/none?sslmode=disable"}, "")
}
