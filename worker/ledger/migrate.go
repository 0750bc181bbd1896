package ledger

import (
	"context"
	"embed"
	"errors"
	"fmt"
	"io/fs"

	"github.com/jackc/pgx/v5/stdlib"
	"github.com/pressly/goose/v3"
	"github.com/pressly/goose/v3/lock"
)

//go:embed migrations/*.sql
var migrations embed.FS

// Migrate brings the schema of the shard up to date. It may run twice at once:
// an advisory lock in the database lets one go first. It returns the number of
// migrations applied.
func (s *Shard) Migrate(ctx context.Context) (int, error) {
	applied, err := s.migrate(ctx)
	if err != nil {
		return applied, fmt.Errorf("shard %s: migrate: %w", s.name, err)
	}
	return applied, nil
}

func (s *Shard) migrate(ctx context.Context) (int, error) {
	locker, err := lock.NewPostgresSessionLocker()
	if err != nil {
		return 0, err
	}
	files, err := fs.Sub(migrations, "migrations")
	if err != nil {
		return 0, err
	}
	db := stdlib.OpenDBFromPool(s.pool)
	provider, err := goose.NewProvider(goose.DialectPostgres, db, files, goose.WithSessionLocker(locker))
	if err != nil {
		return 0, errors.Join(err, db.Close())
	}
	results, err := provider.Up(ctx)
	return len(results), errors.Join(err, provider.Close())
}
