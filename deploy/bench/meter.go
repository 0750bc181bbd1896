package bench

import (
	"context"
	"fmt"

	"github.com/jackc/pgx/v5"
)

// usage is what the servers have used since they started.
type usage struct {
	service, postgres, etcd, client float64 // CPU seconds of coordinator and workers, of both servers, of this process
	workerBytes                     int64   // resident memory of the largest worker
	transactions                    int64   // of all databases that have written anything
	revision                        int64   // of etcd, which grows with each write
}

// servers is the CPU time of all of them.
func (u usage) servers() float64 { return u.service + u.postgres + u.etcd }

// read asks the servers and the system. What cannot be known is 0: CPU and
// memory of servers on other machines, and on systems without /proc.
func (s *servers) read(ctx context.Context) (usage, error) {
	u := usage{client: selfCPU()}
	if s.stack != nil {
		u.service += cpuOf(s.stack.Coordinator.Pid())
		for _, w := range s.stack.Workers {
			u.service += cpuOf(w.Pid())
			u.workerBytes = max(u.workerBytes, residentBytes(w.Pid()))
		}
		for _, p := range s.stack.Postgres {
			u.postgres += cpuOfTree(p.Pid())
		}
		for _, m := range s.stack.EtcdCluster.Members {
			u.etcd += cpuOf(m.Pid())
		}
	}
	answer, err := s.etcd.Get(ctx, "holdfast-bench") // any key: the answer's header is what is wanted
	if err != nil {
		return u, fmt.Errorf("read etcd's revision: %w", err)
	}
	u.revision = answer.Header.GetRevision()
	u.transactions, err = s.transactions(ctx)
	return u, err
}

// A transaction that writes takes the next number; this only looks at it.
const nextTransaction = `SELECT pg_snapshot_xmax(pg_current_snapshot())::text::bigint`

func (s *servers) transactions(ctx context.Context) (total int64, err error) {
	err = s.eachShard(ctx, "", func(conn *pgx.Conn, _ string) error {
		var n int64
		err := conn.QueryRow(ctx, nextTransaction).Scan(&n)
		total += n
		return err
	})
	return total, err
}

// less is what was used between two readings.
func (u usage) less(before usage) usage {
	return usage{
		service: u.service - before.service, postgres: u.postgres - before.postgres,
		etcd: u.etcd - before.etcd, client: u.client - before.client,
		workerBytes:  u.workerBytes,
		transactions: u.transactions - before.transactions, revision: u.revision - before.revision,
	}
}
