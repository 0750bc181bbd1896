package demo

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/holdfast-io/holdfast/deploy/local/localtest"
)

func TestMain(m *testing.M) { localtest.Main(m) }

func drop(dsns map[string]string, strategy Strategy) RaceConfig {
	return RaceConfig{
		DSNs: dsns, Strategy: strategy,
		Products: 10, Stock: 5, Buyers: 16, Payment: 10 * time.Millisecond,
	}
}

// The reason for holdfast: over two databases, neither a check nor a row lock
// keeps a shop from selling what it does not have.
func TestTwoDatabasesOversell(t *testing.T) {
	for _, strategy := range []Strategy{NoLock, ForUpdate} {
		t.Run(strategy.String(), func(t *testing.T) {
			config := drop(localtest.Databases(t, "eu", "us"), strategy)
			result, err := Race(t.Context(), config)
			if err != nil {
				t.Fatal(err)
			}
			t.Logf("%+v", result)
			if result.Oversold <= 0 || result.Sold != 50+result.Oversold {
				t.Errorf("the race was not lost: %+v", result)
			}
		})
	}
}

// The race is honest: where the row lock can work, it does, with the same code.
func TestOneDatabaseWithRowLockDoesNotOversell(t *testing.T) {
	dsn := localtest.Databases(t, "only")["only"]
	both := map[string]string{"eu": dsn, "us": dsn}
	for strategy, oversells := range map[Strategy]bool{NoLock: true, ForUpdate: false} {
		t.Run(strategy.String(), func(t *testing.T) {
			result, err := Race(t.Context(), drop(both, strategy))
			if err != nil {
				t.Fatal(err)
			}
			t.Logf("%+v", result)
			if oversells != (result.Oversold > 0) || result.Sold != 50+result.Oversold {
				t.Errorf("oversells should be %v: %+v", oversells, result)
			}
		})
	}
}

// The race may run beside a holdfast in the same databases, and be interrupted.
func TestRaceLeavesNothingBehind(t *testing.T) {
	dsns := localtest.Databases(t, "eu", "us")
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	config := drop(dsns, ForUpdate)
	config.Payment = time.Hour
	raced := make(chan error, 1)
	go func() {
		_, err := Race(ctx, config)
		raced <- err
	}()
	for !hasQuestion(t, dsns["eu"]) || !hasQuestion(t, dsns["us"]) {
		time.Sleep(10 * time.Millisecond)
	}
	cancel()
	if err := <-raced; !errors.Is(err, context.Canceled) {
		t.Errorf("got %v, want %v", err, context.Canceled)
	}
	for region, dsn := range dsns {
		if hasQuestion(t, dsn) {
			t.Errorf("schema question is left in %s", region)
		}
	}
}

// A schema of that name that is not the race's own is not touched.
func TestRaceDoesNotDropWhatItDidNotCreate(t *testing.T) {
	dsns := localtest.Databases(t, "eu", "us")
	conn := connect(t, dsns["us"])
	if _, err := conn.Exec(t.Context(), "CREATE SCHEMA question"); err != nil {
		t.Fatal(err)
	}
	_, err := Race(t.Context(), drop(dsns, NoLock))
	if err == nil || !strings.Contains(err.Error(), `schema "question" already exists`) {
		t.Errorf("got %v", err)
	}
	if !hasQuestion(t, dsns["us"]) || hasQuestion(t, dsns["eu"]) {
		t.Error("dropped another's schema, or left its own")
	}
}

func connect(t *testing.T, dsn string) *pgx.Conn {
	t.Helper()
	conn, err := pgx.Connect(t.Context(), dsn)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := conn.Close(context.Background()); err != nil {
			t.Error(err)
		}
	})
	return conn
}

func hasQuestion(t *testing.T, dsn string) (has bool) {
	t.Helper()
	row := connect(t, dsn).QueryRow(t.Context(), "SELECT to_regnamespace('question') IS NOT NULL")
	if err := row.Scan(&has); err != nil {
		t.Fatal(err)
	}
	return has
}

func TestRaceSaysWhatIsMissing(t *testing.T) {
	good := drop(map[string]string{"eu": "postgres://127.0.0.1:1/none"}, NoLock)
	for name, spoil := range map[string]func(*RaceConfig){
		"no databases":     func(c *RaceConfig) { c.DSNs = nil },
		"no buyers":        func(c *RaceConfig) { c.Buyers = 0 },
		"no payment":       func(c *RaceConfig) { c.Payment = 0 },
		"unknown strategy": func(c *RaceConfig) { c.Strategy = 9 },
		"no such server":   func(*RaceConfig) {},
	} {
		t.Run(name, func(t *testing.T) {
			config := good
			spoil(&config)
			if _, err := Race(t.Context(), config); err == nil {
				t.Error("accepted")
			}
		})
	}
}
