package localtest

import (
	"os"
	"os/exec"
	"strings"
	"testing"

	"github.com/hashicorp/go-hclog"
	"github.com/jackc/pgx/v5"
)

func TestMain(m *testing.M) { Main(m) }

// Tests of one package run against the same etcd, also at the same time.
func TestEachTestHasItsOwnPrefix(t *testing.T) {
	client, first := Etcd(t)
	_, second := Etcd(t)
	if first == second {
		t.Fatalf("two tests share the prefix %s", first)
	}
	if _, err := client.Put(t.Context(), first+"key", "value"); err != nil {
		t.Fatal(err)
	}
}

func TestDatabasesAreEmptyAndGoWithTheTest(t *testing.T) {
	var dsns map[string]string
	t.Run("first", func(t *testing.T) {
		dsns = Databases(t, "eu", "us-east")
		for _, dsn := range dsns {
			// Left connected on purpose: that must not keep the database.
			conn := connect(t, dsn)
			if _, err := conn.Exec(t.Context(), "CREATE TABLE purchases (id int)"); err != nil {
				t.Fatal(err)
			}
		}
	})
	for name, dsn := range dsns {
		if _, err := pgx.Connect(t.Context(), dsn); err == nil || !strings.Contains(err.Error(), "does not exist") {
			t.Errorf("database of %s after its test: %v", name, err)
		}
	}
	t.Run("second", func(t *testing.T) {
		for name, dsn := range Databases(t, "eu", "us-east") {
			if dsn == dsns[name] {
				t.Errorf("two tests share the database %s", dsn)
			}
			conn := connect(t, dsn)
			if _, err := conn.Exec(t.Context(), "CREATE TABLE purchases (id int)"); err != nil {
				t.Errorf("%s is not empty: %v", name, err)
			}
		}
	})
}

// A skipped test passes; a machine without Postgres has tested nothing.
func TestMissingPostgresSaysWhatToInstall(t *testing.T) {
	t.Setenv("HOLDFAST_PG_BIN", t.TempDir())
	_, err := new(stack).startPostgres()
	if err == nil || !strings.Contains(err.Error(), "apt-get install postgresql") {
		t.Errorf("got %v", err)
	}
}

// A goroutine that ends a moment after its test must not take the binary down.
func TestLoggerOutlivesItsTest(t *testing.T) {
	var logger hclog.Logger
	t.Run("test", func(t *testing.T) {
		logger = Logger(t)
		logger.Info("during the test")
	})
	logger.Info("after the test")
}

// leak, in the environment, has TestLeak leave a goroutine behind.
const leak = "HOLDFAST_TEST_LEAK"

func TestLeak(t *testing.T) {
	client, _ := Etcd(t)
	if os.Getenv(leak) != "" {
		go func() { <-client.Ctx().Done(); select {} }()
	}
}

func TestMainFailsOnALeak(t *testing.T) {
	run := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^TestLeak$")
	run.Env = append(os.Environ(), leak+"=1")
	output, err := run.CombinedOutput()
	if err == nil || !strings.Contains(string(output), "localtest.TestLeak") {
		t.Errorf("%v: %s", err, output)
	}
}

func connect(t *testing.T, dsn string) *pgx.Conn {
	t.Helper()
	conn, err := pgx.Connect(t.Context(), dsn)
	if err != nil {
		t.Fatal(err)
	}
	return conn
}
