package local

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"golang.org/x/sync/errgroup"
)

// This is what a user waits for before anything else happens.
func TestTwoServersStartSideBySide(t *testing.T) {
	dir := serverDir(t)
	servers := make([]*Postgres, 2)
	begin := time.Now()
	var group errgroup.Group
	for i, name := range []string{"eu", "us"} {
		group.Go(func() (err error) {
			servers[i], err = StartPostgres(deadline(t), testPostgres(t, filepath.Join(dir, name)))
			return err
		})
	}
	err := group.Wait()
	t.Logf("two servers initialised and started in %v", time.Since(begin))
	for _, server := range servers {
		if server != nil {
			server.Stop()
		}
	}
	if err != nil {
		t.Fatal(err)
	}
	if servers[0].Port() == servers[1].Port() {
		t.Errorf("both listen on port %d", servers[0].Port())
	}
}

// Confirmed purchases survive whatever happens to the server, also in the
// middle of somebody else's transaction.
func TestRowsSurviveTheServer(t *testing.T) {
	ends := map[string]func(*Postgres) error{
		"stopped": func(p *Postgres) error { p.Stop(); return nil },
		"killed":  (*Postgres).Kill,
	}
	for name, end := range ends {
		t.Run(name, func(t *testing.T) {
			cfg := testPostgres(t, serverDir(t))
			first := startTestPostgres(t, cfg)
			if err := first.CreateDatabase(deadline(t), "eu-1"); err != nil {
				t.Fatal(err)
			}
			conn := connect(t, first, "eu-1")
			execute(t, conn, "CREATE TABLE purchases (id int)")
			execute(t, conn, "INSERT INTO purchases VALUES (1)")
			execute(t, conn, "BEGIN; INSERT INTO purchases VALUES (2)")
			if err := end(first); err != nil {
				t.Fatal(err)
			}
			first.Stop() // does nothing

			cfg.Port = first.Port()
			second := startTestPostgres(t, cfg)
			if err := second.CreateDatabase(deadline(t), "eu-1"); err != nil {
				t.Errorf("create a database that exists: %v", err)
			}
			var sum int
			row := connect(t, second, "eu-1").QueryRow(deadline(t), "SELECT sum(id) FROM purchases")
			if err := row.Scan(&sum); err != nil || sum != 1 {
				t.Errorf("sum of ids is %d (%v), want 1", sum, err)
			}
		})
	}
}

// A restart would fail for a reason that nobody expects, so Kill says it.
func TestKillTellsOfASessionThatComputes(t *testing.T) {
	server := startTestPostgres(t, testPostgres(t, serverDir(t)))
	conn := connect(t, server, "postgres")
	execute(t, conn, "SET application_name = 'computing'")
	ctx, session := deadline(t), int(conn.PgConn().PID())
	var client sync.WaitGroup
	client.Go(func() {
		_, _ = conn.Exec(ctx, "DO 'BEGIN LOOP END LOOP; END'") // ends with the session
	})
	t.Cleanup(func() {
		_ = syscall.Kill(session, syscall.SIGKILL)
		client.Wait()
	})
	watcher := connect(t, server, "postgres")
	for active := 0; active == 0; {
		row := watcher.QueryRow(deadline(t), "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'computing' AND state = 'active'")
		if err := row.Scan(&active); err != nil {
			t.Fatal(err)
		}
	}
	if err := server.Kill(); err == nil || !strings.Contains(err.Error(), "still computes") {
		t.Errorf("got %v", err)
	}
}

// What is confirmed must be on disk, here as in production.
func TestServerSettings(t *testing.T) {
	cfg := testPostgres(t, serverDir(t))
	cfg.Settings = map[string]string{"shared_buffers": "64MB", "listen_addresses": "*", "fsync": "off"}
	conn := connect(t, startTestPostgres(t, cfg), "postgres")
	want := map[string]string{
		"fsync":                   "on",
		"synchronous_commit":      "on",
		"full_page_writes":        "on",
		"listen_addresses":        loopback,
		"unix_socket_directories": "",
		"max_connections":         "200",
		"shared_buffers":          "64MB",
		"server_encoding":         "UTF8",
	}
	for name, value := range want {
		var got string
		err := conn.QueryRow(deadline(t), "SELECT current_setting($1, true)", name).Scan(&got)
		if err != nil || got != value {
			t.Errorf("%s is %q (%v), want %q", name, got, err, value)
		}
	}
}

func TestDropDatabaseUnderASession(t *testing.T) {
	server := startTestPostgres(t, testPostgres(t, serverDir(t)))
	if err := server.CreateDatabase(deadline(t), "eu"); err != nil {
		t.Fatal(err)
	}
	connect(t, server, "eu")
	for range 2 { // the second time there is none
		if err := server.DropDatabase(deadline(t), "eu"); err != nil {
			t.Error(err)
		}
	}
}

// A server that cannot start says why, at once.
func TestFailedStartShowsTheLog(t *testing.T) {
	taken := takenPort(t)
	cases := map[string]struct {
		port     int
		settings map[string]string
		want     string
	}{
		"bad setting": {settings: map[string]string{"shared_buffers": "plenty"}, want: "shared_buffers"},
		"port taken":  {port: taken, want: "Address already in use"},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			cfg := testPostgres(t, serverDir(t))
			cfg.Port, cfg.Settings = c.port, c.settings
			_, err := StartPostgres(deadline(t), cfg)
			if err == nil || !strings.Contains(err.Error(), c.want) || !strings.Contains(err.Error(), "postgres.log") {
				t.Errorf("got %v, want the log with %q", err, c.want)
			}
			if got := errors.Is(err, syscall.EADDRINUSE); got != (c.port != 0) {
				t.Errorf("EADDRINUSE is %v: %v", got, err)
			}
		})
	}
}

// Another server of the same make on the port must not be taken for ours.
func TestServerOnThePortOfAnother(t *testing.T) {
	first := startTestPostgres(t, testPostgres(t, serverDir(t)))
	cfg := testPostgres(t, serverDir(t))
	cfg.Port = first.Port()
	if _, err := StartPostgres(deadline(t), cfg); !errors.Is(err, syscall.EADDRINUSE) {
		t.Errorf("started on the port of another server: %v", err)
	}
}

// Both halves of a start end with the context, and nothing is left running.
// What initdb had begun is no obstacle to the next start.
func TestPostgresStartEndsWithItsContext(t *testing.T) {
	cfg := testPostgres(t, serverDir(t))
	cause := errors.New("no time left")
	ctx, cancel := context.WithCancelCause(t.Context())
	cancel(cause)
	if _, err := StartPostgres(ctx, cfg); !errors.Is(err, cause) {
		t.Errorf("during initdb: got %v, want %v", err, cause)
	}
	startTestPostgres(t, cfg).Stop()
	if _, err := StartPostgres(ctx, cfg); !errors.Is(err, cause) {
		t.Errorf("during the start of the server: got %v, want %v", err, cause)
	}
}

func TestPostgresNamesTheFolderItCannotEnter(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("only root starts servers as another user")
	}
	private := serverDir(t)
	if err := os.Chmod(private, 0o700); err != nil {
		t.Fatal(err)
	}
	_, err := StartPostgres(deadline(t), testPostgres(t, filepath.Join(private, "a", "b")))
	if err == nil || !strings.Contains(err.Error(), "may not enter "+private+" (mode 0700)") {
		t.Errorf("got %v", err)
	}
}

func testPostgres(t *testing.T, dir string) PostgresConfig {
	t.Helper()
	bin, err := FindPostgres("")
	if err != nil {
		t.Fatal(err)
	}
	return PostgresConfig{Bin: bin, Dir: dir}
}

func startTestPostgres(t *testing.T, cfg PostgresConfig) *Postgres {
	t.Helper()
	begin := time.Now()
	server, err := StartPostgres(deadline(t), cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(server.Stop)
	t.Logf("postgres started in %v", time.Since(begin))
	return server
}

func connect(t *testing.T, server *Postgres, database string) *pgx.Conn {
	t.Helper()
	conn, err := pgx.Connect(deadline(t), server.DSN(database))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), patience)
		defer cancel()
		_ = conn.Close(ctx) // the server may be gone
	})
	return conn
}

func execute(t *testing.T, conn *pgx.Conn, sql string) {
	t.Helper()
	if _, err := conn.Exec(deadline(t), sql); err != nil {
		t.Fatal(err)
	}
}
