package main

import (
	"path/filepath"
	"testing"

	"github.com/jackc/pgx/v5/pgconn"
)

// Whatever a driver takes for a password must not stay on the command line, where ps shows it.
func TestPasswordsInDSNs(t *testing.T) {
	for dsn, want := range map[string]bool{
		"host=h password=secret":                                true,
		"host=h password = 'a b'":                               true,
		"password=secret host=h":                                true,
		"host='h'password=secret":                               true,
		"host=h sslpassword=secret":                             true,
		"postgres://u:secret@h/db":                              true,
		"postgresql://u:secret@h/db":                            true,
		"postgres://u:secret@h1:5432,h2:5432/db":                true,
		"postgres://u:sec%2Fret@h/db":                           true,
		"postgres://u:sec%zzret@h/db":                           true,
		"postgres://:secret@h/db":                               true,
		"postgres://u:secret@/db?host=/run/postgres":            true,
		"postgres://u@h/db?password=secret":                     true,
		"postgres://u@h/db?pass%77ord=secret":                   true,
		"postgres://u@h/db?sslmode=verify-full&password=secret": true,
		"host=h user=u passfile=/etc/pgpass require_auth=scram-sha-256,password sslmode=verify-full": false,
		"postgres://u@h:5432/db?sslmode=verify-full&passfile=/etc/pgpass":                            false,
		"postgres://h1:5432,h2:5432/db?application_name=a@b":                                         false,
		"postgres://u@[::1]:5432/db":                                                                 false,
		"":                                                                                           false,
	} {
		if got := showsPassword(dsn); got != want {
			t.Errorf("%s: %t", dsn, got)
		}
	}
}

func FuzzPasswordsInDSNs(f *testing.F) {
	f.Setenv("PGPASSFILE", filepath.Join(f.TempDir(), "none"))
	f.Setenv("PGPASSWORD", "")
	for _, dsn := range []string{
		"host='h'password=x", "password\t=x", "postgres://u:x@h1:1,h2:2/db", "postgres://u@h?pass%77ord=x", "postgresql://:x@", "host=h user=u",
	} {
		f.Add(dsn)
	}
	f.Fuzz(func(t *testing.T, dsn string) {
		cfg, err := pgconn.ParseConfigWithOptions(dsn, pgconn.ParseConfigOptions{
			ConnStringAllowedKeys: []string{"host", "port", "user", "dbname", "password", "application_name"}, // and none that names a file
		})
		if err == nil && cfg.Password != "" && !showsPassword(dsn) {
			t.Errorf("%q has the password %q", dsn, cfg.Password)
		}
	})
}
