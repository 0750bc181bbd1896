package chaos

import (
	"context"
	"errors"
	"fmt"
	"syscall"
	"time"

	"github.com/jackc/pgx/v5"
)

// busyBackend prefers a backend in the middle of a transaction, which may hold
// locks on fences.
const busyBackend = `
SELECT pid, state FROM pg_stat_activity
 WHERE application_name = 'holdfast' AND backend_type = 'client backend' AND pid <> pg_backend_pid()
 ORDER BY state = 'idle', xact_start
 LIMIT 1`

// pauseBackend stops one backend of a server, of which its client knows nothing.
func pauseBackend(ctx context.Context, w *World, pick uint64) (string, func() error, error) {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	shard := w.shard(pick)
	conn, err := pgx.Connect(ctx, w.stack.DSNs()[shard])
	if err != nil {
		return shard, nil, err
	}
	defer func() { _ = conn.Close(context.WithoutCancel(ctx)) }()
	var pid int
	var state string
	for try := 0; pid == 0 || state == "idle" && try < 200; try++ { // until one is caught at work
		err := conn.QueryRow(ctx, busyBackend).Scan(&pid, &state)
		if errors.Is(err, pgx.ErrNoRows) { // nobody is back since the last fault
			sleep(ctx, 20*time.Millisecond)
			continue
		}
		if err != nil {
			return shard, nil, err
		}
	}
	heal := func() error {
		if err := syscall.Kill(pid, syscall.SIGCONT); !errors.Is(err, syscall.ESRCH) {
			return err
		}
		return nil // it was ended by then
	}
	return fmt.Sprintf("shard %s, backend %d (%s): SIGSTOP", shard, pid, state), heal, syscall.Kill(pid, syscall.SIGSTOP)
}
