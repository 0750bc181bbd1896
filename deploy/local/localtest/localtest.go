// Package localtest gives tests the real servers of package local: one etcd and
// one Postgres server per test binary, started when a test first asks, and in
// them a key prefix and databases of each test's own. Every package that uses
// it has
//
//	func TestMain(m *testing.M) { localtest.Main(m) }
//
// A machine without Postgres fails these tests, with what to install: they are
// never skipped.
package localtest

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"go.uber.org/goleak"
	"go.uber.org/zap"
	"golang.org/x/sync/errgroup"

	"github.com/holdfast-io/holdfast/deploy/local"
)

// startTimeout bounds the start of a server, databaseTimeout the creation or
// removal of databases. Both are long: other tests may keep the machine busy.
const (
	startTimeout    = time.Minute
	databaseTimeout = time.Minute
)

// servers are shared by the tests of one binary, which is why they are the
// package's and not a value's; Main stops them.
var servers stack

type stack struct {
	tests atomic.Int64 // numbers prefixes and databases

	mu       sync.Mutex
	dir      string
	etcd     *local.Etcd
	postgres *local.Postgres
}

// Main runs the tests of a package, stops the servers they started, fails when
// goroutines are left, removes the data, and exits.
func Main(m *testing.M) {
	code := m.Run()
	if err := servers.stop(); err != nil {
		fmt.Fprintln(os.Stderr, "localtest:", err)
		code = max(code, 1)
	}
	if code == 0 {
		if err := goleak.Find(); err != nil {
			fmt.Fprintln(os.Stderr, "localtest: tests passed, but goroutines are left:", err)
			code = 1
		}
	}
	os.Exit(code)
}

// Etcd returns a client of the shared etcd server, closed at the end of the
// test, and a key prefix that no other test has, such as "/test-7/".
func Etcd(t testing.TB) (*clientv3.Client, string) {
	t.Helper()
	client, err := clientv3.New(clientv3.Config{
		Endpoints:   []string{EtcdEndpoint(t)},
		DialTimeout: startTimeout,
		Logger:      zap.NewNop(),
	})
	if err != nil {
		t.Fatalf("connect to etcd: %v", err)
	}
	t.Cleanup(func() { _ = client.Close() }) // reports that its context is canceled, which is what closes it
	return client, fmt.Sprintf("/test-%d/", servers.tests.Add(1))
}

// EtcdEndpoint returns the address of the shared etcd server, "127.0.0.1:port".
func EtcdEndpoint(t testing.TB) string {
	t.Helper()
	etcd, err := servers.startEtcd()
	if err != nil {
		t.Fatal(err)
	}
	return etcd.Endpoint()
}

// Databases makes one new, empty database per name on the shared Postgres
// server and returns their connection strings by name. The databases are
// dropped at the end of the test, whoever is still connected.
func Databases(t testing.TB, names ...string) map[string]string {
	t.Helper()
	postgres, err := servers.startPostgres()
	if err != nil {
		t.Fatal(err)
	}
	number := servers.tests.Add(1)
	dsns := make(map[string]string, len(names))
	var databases []string
	for _, name := range names {
		database := fmt.Sprintf("test_%d_%s", number, name)
		databases = append(databases, database)
		dsns[name] = postgres.DSN(database)
	}
	t.Cleanup(func() {
		if err := forAll(databases, postgres.DropDatabase); err != nil {
			t.Error(err)
		}
	})
	if err := forAll(databases, postgres.CreateDatabase); err != nil {
		t.Fatal(err)
	}
	return dsns
}

// forAll runs do for all databases at once: each drop waits for a checkpoint,
// and those that wait together share it.
func forAll(databases []string, do func(context.Context, string) error) error {
	ctx, cancel := context.WithTimeout(context.Background(), databaseTimeout)
	defer cancel()
	var group errgroup.Group
	for _, database := range databases {
		group.Go(func() error { return do(ctx, database) })
	}
	return group.Wait()
}

func (s *stack) startEtcd() (*local.Etcd, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.etcd != nil {
		return s.etcd, nil
	}
	dir, err := s.folder()
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(context.Background(), startTimeout)
	defer cancel()
	s.etcd, err = local.StartEtcd(ctx, local.EtcdConfig{Dir: filepath.Join(dir, "etcd")})
	return s.etcd, err
}

func (s *stack) startPostgres() (*local.Postgres, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.postgres != nil {
		return s.postgres, nil
	}
	bin, err := local.FindPostgres("")
	if err != nil {
		return nil, err
	}
	dir, err := s.folder()
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(context.Background(), startTimeout)
	defer cancel()
	s.postgres, err = local.StartPostgres(ctx, local.PostgresConfig{Bin: bin, Dir: filepath.Join(dir, "postgres")})
	return s.postgres, err
}

// folder makes the folder of all servers once. The caller holds mu.
func (s *stack) folder() (string, error) {
	if s.dir != "" {
		return s.dir, nil
	}
	var err error
	s.dir, err = local.TempDir("holdfast-test-*")
	return s.dir, err
}

func (s *stack) stop() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.etcd != nil {
		s.etcd.Stop()
	}
	if s.postgres != nil {
		s.postgres.Stop()
	}
	if s.dir == "" {
		return nil
	}
	return os.RemoveAll(s.dir)
}
