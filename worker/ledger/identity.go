package ledger

import (
	"context"
	"errors"
	"fmt"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
)

var (
	// ErrWrongShard is returned when a database belongs to another cluster or is
	// another shard than the one it is asked to be.
	ErrWrongShard = errors.New("the database is another shard")
	// ErrUnclaimed is returned when a database has no schema, or is no shard of
	// any cluster yet.
	ErrUnclaimed = errors.New("the database is no shard yet: run holdfast migrate")
	// ErrUnguarded is returned when a database does not prove fences: its schema is older
	// than this program, or somebody has switched a trigger off.
	ErrUnguarded = errors.New("the triggers " + underFences + ", " + changesUnderFences + " and " + deliveriesUnderFences +
		" do not guard what is sold: run holdfast migrate, or enable them")
)

// Identity is what a database knows of itself.
type Identity struct {
	ClusterID uuid.UUID
	Shard     string
	Topology  int64 // the highest topology number seen, 0 for none
}

const selectIdentity = `
SELECT cluster_id, name, coalesce((SELECT max(number) FROM topologies), 0) FROM shard`

type querier interface {
	QueryRow(ctx context.Context, sql string, args ...any) pgx.Row
}

func readIdentity(ctx context.Context, q querier) (Identity, error) {
	var id Identity
	err := q.QueryRow(ctx, selectIdentity).Scan(&id.ClusterID, &id.Shard, &id.Topology)
	if isNoRows(err) || hasCode(err, undefinedTable) {
		return id, ErrUnclaimed
	}
	return id, err
}

// Identity reads who the database behind the DSN is, or ErrUnclaimed.
func (s *Shard) Identity(ctx context.Context) (Identity, error) {
	id, err := readIdentity(ctx, s.pool)
	return id, s.readError("read identity", err)
}

func checkIdentity(ctx context.Context, q querier, name string, clusterID uuid.UUID) error {
	id, err := readIdentity(ctx, q)
	switch {
	case err != nil:
		return err
	case id.ClusterID != clusterID:
		return fmt.Errorf("%w: it belongs to cluster %s, not to %s", ErrWrongShard, id.ClusterID, clusterID)
	case id.Shard != name:
		return fmt.Errorf("%w: it is shard %q", ErrWrongShard, id.Shard)
	}
	return nil
}

// A trigger that is enabled as usual does not fire for sessions that replicate.
const selectGuard = `
SELECT count(*) = 4 FROM pg_trigger
 WHERE tgname IN ('` + underFences + `', '` + changesUnderFences + `', '` + deliveriesUnderFences + `', '` + onlyGoOn + `')
   AND tgrelid IN (to_regclass('purchases'), to_regclass('deliveries'))
   AND (tgenabled = 'A' OR tgenabled = 'O' AND current_setting('session_replication_role') <> 'replica')`

// checkGuard makes sure that no purchase can be stored without a proof of its fence, and
// that nothing that was given back is taken again without one.
func checkGuard(ctx context.Context, q querier) error {
	var guarded bool
	if err := q.QueryRow(ctx, selectGuard).Scan(&guarded); err != nil || guarded {
		return err
	}
	return ErrUnguarded
}

const insertIdentity = `
INSERT INTO shard (cluster_id, name) VALUES (@cluster_id, @name) ON CONFLICT (singleton) DO NOTHING`

// Claim makes an unclaimed database the shard of this name in the cluster. It
// returns ErrWrongShard when the database is another one already.
func (s *Shard) Claim(ctx context.Context, clusterID uuid.UUID) error {
	_, err := s.pool.Exec(ctx, insertIdentity, pgx.NamedArgs{"cluster_id": clusterID, "name": s.name})
	if err == nil {
		err = checkIdentity(ctx, s.pool, s.name, clusterID)
	}
	return s.readError("claim", err)
}

const insertTopology = `
INSERT INTO topologies (number, document) VALUES (@number, @document::jsonb) ON CONFLICT (number) DO NOTHING`

const sameTopology = `SELECT document = @document::jsonb FROM topologies WHERE number = @number`

// PutTopology records that the shard is part of a topology, given as JSON. The
// same number with another document is an error.
func (s *Shard) PutTopology(ctx context.Context, number int64, document string) error {
	args := pgx.NamedArgs{"number": number, "document": document}
	var same bool
	err := pgx.BeginFunc(ctx, s.pool, func(tx pgx.Tx) error {
		if _, err := tx.Exec(ctx, insertTopology, args); err != nil {
			return err
		}
		return tx.QueryRow(ctx, sameTopology, args).Scan(&same)
	})
	if err == nil && !same {
		err = fmt.Errorf("topology %d is another one here", number)
	}
	return s.readError("put topology", err)
}

const selectTopology = `SELECT number, document::text FROM topologies ORDER BY number DESC LIMIT 1`

// Topology reads the newest topology that the shard has been part of. It returns
// ErrNotFound when there is none.
func (s *Shard) Topology(ctx context.Context) (number int64, document string, err error) {
	err = s.pool.QueryRow(ctx, selectTopology).Scan(&number, &document)
	return number, document, s.readError("read topology", err)
}
