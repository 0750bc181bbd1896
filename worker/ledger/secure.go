package ledger

import (
	"context"
	"crypto/tls"
	"errors"
	"path/filepath"

	"github.com/jackc/pgx/v5"
)

// errUnverified says what to change about a DSN; it quotes nothing of it.
var errUnverified = errors.New("the DSN must say sslmode=verify-full (with sslrootcert, if the database's authority is not one of the system's)")

// secured has connections of a DSN speak TLS 1.3 wherever it asks for TLS. If they must, every
// host that it names has to prove its name; one that is a socket of this machine needs none.
func secured(cc *pgx.ConnConfig, must bool) error {
	attempts := []struct {
		host string
		tls  *tls.Config
	}{{cc.Host, cc.TLSConfig}}
	for _, f := range cc.Fallbacks {
		attempts = append(attempts, struct {
			host string
			tls  *tls.Config
		}{f.Host, f.TLSConfig})
	}
	for _, a := range attempts {
		if a.tls != nil {
			a.tls.MinVersion = tls.VersionTLS13
		}
		verified := a.tls != nil && !a.tls.InsecureSkipVerify && a.tls.ServerName != ""
		if must && !verified && !filepath.IsAbs(a.host) {
			return errUnverified
		}
	}
	return nil
}

// refresh reads anew what the DSN names: certificates, keys and the file of passwords. It is
// called before each connection, so they can be replaced while the worker runs.
func refresh(dsn string, must bool) func(context.Context, *pgx.ConnConfig) error {
	return func(_ context.Context, cc *pgx.ConnConfig) error {
		now, err := pgx.ParseConfig(dsn)
		if err != nil {
			return err
		}
		if err := secured(now, must); err != nil {
			return err
		}
		cc.TLSConfig, cc.Fallbacks, cc.Password = now.TLSConfig, now.Fallbacks, now.Password
		return nil
	}
}
