package ledger_test

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/holdfast-io/holdfast/api/certs"
	"github.com/holdfast-io/holdfast/api/certs/certstest"
	"github.com/holdfast-io/holdfast/deploy/local"
	"github.com/holdfast-io/holdfast/deploy/local/localtest"
	"github.com/holdfast-io/holdfast/worker/ledger"
)

func TestOnlyVerifyFullProvesTheDatabase(t *testing.T) {
	ca := certstest.New(t).Issue(t.TempDir(), time.Now().Add(time.Hour), nil, "x")
	for dsn, want := range map[string]bool{
		"postgres://u@db/x?sslmode=verify-full":                       true,
		"postgres://u@db1,db2/x?sslmode=verify-full":                  true,
		"host=/run/postgresql dbname=x":                               true, // its own machine's
		"postgres://u@db/x":                                           false,
		"postgres://u@db/x?sslmode=disable":                           false,
		"postgres://u@db/x?sslmode=prefer":                            false,
		"postgres://u@db/x?sslmode=require":                           false,
		"postgres://u@db/x?sslmode=verify-ca&sslrootcert=" + ca.Cert:  false,
		"postgres://u@db/x?sslmode=allow":                             false,
		"host=/run/postgresql,db sslmode=prefer dbname=x":             false,
		"postgres://u@db/x?sslmode=verify-full&sslrootcert=" + ca.Key: true, // found out when it connects
	} {
		s, err := ledger.Open(ledger.Config{Name: "eu", DSN: dsn, VerifyTLS: true})
		if err == nil {
			s.Close()
		}
		if strings.HasSuffix(dsn, ca.Key) {
			continue // of what is in files pgx may say at once that it is wrong
		}
		if (err == nil) != want {
			t.Errorf("%s: %v", dsn, err)
		}
		if s, err := ledger.Open(ledger.Config{Name: "eu", DSN: dsn}); err != nil {
			t.Errorf("%s, not to be verified: %v", dsn, err)
		} else {
			s.Close()
		}
	}
}

// A database with another certificate than the DSN's authority has made is not written to; one
// whose certificate and authority are replaced is, without a restart of the worker.
func TestDatabaseProvesItsName(t *testing.T) {
	before, after := certstest.New(t), certstest.New(t)
	tomorrow := time.Now().Add(20 * time.Hour)
	dir, err := local.TempDir("holdfast-tls-*")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	serverCerts := filepath.Join(dir, "certs")
	if err := os.Mkdir(serverCerts, 0o755); err != nil {
		t.Fatal(err)
	}
	files := before.Issue(serverCerts, tomorrow, nil, "db")
	pg := startTLS(t, dir, files)
	trusted := t.TempDir()
	before.Issue(trusted, tomorrow, []*certstest.Authority{before}, "x")
	dsn := func(host, ca string) string {
		return strings.Replace(pg.DSN("postgres"), "127.0.0.1", host, 1) + "&sslmode=verify-full&sslrootcert=" + ca
	}
	open := func(dsn string) *ledger.Shard {
		t.Helper()
		dsn = strings.Replace(dsn, "sslmode=disable&", "", 1)
		s, err := ledger.Open(ledger.Config{Name: "eu", DSN: dsn, VerifyTLS: true})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(s.Close)
		return s
	}
	ours := open(dsn("127.0.0.1", filepath.Join(trusted, "ca.crt")))
	if err := ping(t, ours); err != nil {
		t.Fatalf("the database: %v", err)
	}
	others := t.TempDir()
	after.Issue(others, tomorrow, []*certstest.Authority{after}, "x")
	if err := ping(t, open(dsn("127.0.0.1", filepath.Join(others, "ca.crt")))); err == nil || !strings.Contains(err.Error(), "certificate") {
		t.Errorf("of another authority: %v", err)
	}
	if err := ping(t, open(dsn("localhost", filepath.Join(trusted, "ca.crt")))); err == nil || !strings.Contains(err.Error(), "localhost") {
		t.Errorf("of another name: %v", err)
	}

	after.Issue(serverCerts, tomorrow, nil, "db")
	owned(t, dir, files)
	after.Issue(trusted, tomorrow, []*certstest.Authority{before, after}, "x")
	if err := syscall.Kill(pg.Pid(), syscall.SIGHUP); err != nil {
		t.Fatal(err)
	}
	again := open(dsn("127.0.0.1", filepath.Join(others, "ca.crt"))) // only trusts the new one
	for end := time.Now().Add(30 * time.Second); ping(t, again) != nil; {
		if time.Now().After(end) {
			t.Fatal("the database does not use its new certificate")
		}
	}
	if _, err := ours.Migrate(t.Context()); err != nil { // on connections of its pool, which had none
		t.Errorf("the same shard: %v", err)
	}
}

func ping(t *testing.T, s *ledger.Shard) error {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	return s.Ping(ctx)
}

func startTLS(t *testing.T, dir string, files certs.Files) *local.Postgres {
	t.Helper()
	bin, err := local.FindPostgres("")
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	start := func(settings map[string]string) (*local.Postgres, error) {
		return local.StartPostgres(ctx, local.PostgresConfig{Bin: bin, Dir: dir, Logger: localtest.Logger(t), Settings: settings})
	}
	first, err := start(nil) // which makes the folder whose owner has to have the key
	if err != nil {
		t.Fatal(err)
	}
	first.Stop()
	owned(t, dir, files)
	pg, err := start(map[string]string{"ssl": "on", "ssl_cert_file": files.Cert, "ssl_key_file": files.Key})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(pg.Stop)
	return pg
}

// owned gives the key and the certificate to whoever runs the server.
func owned(t *testing.T, dir string, files certs.Files) {
	t.Helper()
	data, err := filepath.Glob(filepath.Join(dir, "*", "PG_VERSION"))
	if err != nil || len(data) != 1 {
		t.Fatalf("%v: %v", data, err)
	}
	info, err := os.Stat(data[0])
	if err != nil {
		t.Fatal(err)
	}
	owner := info.Sys().(*syscall.Stat_t)
	for _, path := range []string{files.Cert, files.Key} {
		if err := os.Chown(path, int(owner.Uid), int(owner.Gid)); err != nil {
			t.Fatal(fmt.Errorf("give the server its key: %w", err))
		}
	}
}
