package bench

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"go.etcd.io/etcd/client/v3/concurrency"
)

// twoDatabases is what the strategies have in common that guard a purchase over
// the databases of all regions: every buyer has a connection to each.
type twoDatabases struct {
	tables
	pools []*pgxpool.Pool // in the order of the shards, in which all lock
}

// Prepare implements Strategy.
func (d *twoDatabases) Prepare(ctx context.Context, buyers int) error {
	for _, shard := range d.servers.shards {
		pool, err := d.open(ctx, shard, buyers)
		if err != nil {
			return err
		}
		d.pools = append(d.pools, pool)
	}
	return nil
}

// Close implements Strategy.
func (d *twoDatabases) Close() {
	for _, pool := range d.pools {
		pool.Close()
	}
}

// home is the index of the database that stores an order.
func (d *twoDatabases) home(o *Order) int { return o.Region % len(d.pools) }

// twoPhase locks the product's row in every database, adds up what all of them
// have sold, and commits to all of them or none with prepared transactions.
type twoPhase struct {
	twoDatabases
	sales atomic.Int64
}

func newTwoPhaseCommit(s *servers) Strategy {
	return &twoPhase{twoDatabases: twoDatabases{tables: s.tablesOf("two-phase-commit")}}
}

var errNoPrepared = errors.New("max_prepared_transactions is 0")

// Prepare implements Strategy.
func (p *twoPhase) Prepare(ctx context.Context, buyers int) error {
	if err := p.twoDatabases.Prepare(ctx, buyers); err != nil {
		return err
	}
	for _, pool := range p.pools {
		var most int
		if err := pool.QueryRow(ctx, `SELECT current_setting('max_prepared_transactions')::int`).Scan(&most); err != nil {
			return err
		}
		if most == 0 {
			return errNoPrepared
		}
		if most < buyers {
			return fmt.Errorf("max_prepared_transactions is %d, want at least %d", most, buyers)
		}
	}
	return nil
}

// Buy implements Strategy.
func (p *twoPhase) Buy(ctx context.Context, _ int, orders []Order, outcomes []error) {
	for i := range orders {
		outcomes[i] = p.sell(ctx, &orders[i])
	}
}

func (p *twoPhase) sell(ctx context.Context, o *Order) error {
	conns := make([]*pgxpool.Conn, 0, len(p.pools))
	defer func() {
		for _, conn := range conns {
			conn.Release() // closes what is still in a transaction
		}
	}()
	left := -o.Amount
	for i, pool := range p.pools {
		conn, err := pool.Acquire(ctx)
		if err != nil {
			return err
		}
		conns = append(conns, conn)
		storage, sold, err := lockAndSum(ctx, conn, o.Product)
		if err != nil {
			return err
		}
		if i == 0 {
			left += storage
		}
		left -= sold
	}
	if left < 0 {
		return errors.Join(ErrSoldOut, onAll(ctx, conns, "ROLLBACK"))
	}
	_, err := conns[p.home(o)].Exec(ctx, insertPurchase, newID(), o.Product, o.Request, o.Amount, o.Customer)
	if err != nil {
		return errors.Join(err, onAll(ctx, conns, "ROLLBACK"))
	}
	return p.commit(ctx, conns)
}

// lockAndSum begins a transaction, locks the product's row and adds up its sales.
func lockAndSum(ctx context.Context, conn *pgxpool.Conn, id string) (storage, sold int64, err error) {
	if _, err := conn.Exec(ctx, "BEGIN"); err != nil {
		return 0, 0, err
	}
	if err := conn.QueryRow(ctx, lockStorage, id).Scan(&storage); err != nil {
		return 0, 0, err
	}
	return storage, sold, conn.QueryRow(ctx, sumPurchases, id).Scan(&sold)
}

// commit is the two phases. What one database has prepared and another has not
// is rolled back; a coordinator that dies here would leave it locked.
func (p *twoPhase) commit(ctx context.Context, conns []*pgxpool.Conn) error {
	sale := fmt.Sprintf("'%s-%d'", p.schema, p.sales.Add(1))
	if err := onAll(ctx, conns, "PREPARE TRANSACTION "+sale); err != nil {
		return errors.Join(err, onAll(context.WithoutCancel(ctx), conns, "ROLLBACK PREPARED "+sale))
	}
	return onAll(ctx, conns, "COMMIT PREPARED "+sale)
}

// onAll runs a command of transactions, which takes no parameters, everywhere.
func onAll(ctx context.Context, conns []*pgxpool.Conn, sql string) error {
	var failures error
	for _, conn := range conns {
		_, err := conn.Exec(ctx, sql, pgx.QueryExecModeSimpleProtocol)
		failures = errors.Join(failures, err)
	}
	return failures
}

// etcdMutex takes a mutex in etcd for every purchase, and trusts it: each buyer
// has a session of his own, since two mutexes of one session exclude nobody.
type etcdMutex struct {
	twoDatabases
	sessions []*concurrency.Session
}

func newEtcdMutex(s *servers) Strategy {
	return &etcdMutex{twoDatabases: twoDatabases{tables: s.tablesOf("etcd-mutex")}}
}

// Prepare implements Strategy.
func (m *etcdMutex) Prepare(ctx context.Context, buyers int) error {
	for range buyers {
		session, err := concurrency.NewSession(m.servers.etcd)
		if err != nil {
			return err
		}
		m.sessions = append(m.sessions, session)
	}
	return m.twoDatabases.Prepare(ctx, buyers)
}

// Buy implements Strategy.
func (m *etcdMutex) Buy(ctx context.Context, buyer int, orders []Order, outcomes []error) {
	for i := range orders {
		outcomes[i] = m.sell(ctx, m.sessions[buyer], &orders[i])
	}
}

func (m *etcdMutex) sell(ctx context.Context, session *concurrency.Session, o *Order) error {
	mutex := concurrency.NewMutex(session, "/holdfast-bench/"+o.Product)
	if err := mutex.Lock(ctx); err != nil {
		return err
	}
	return errors.Join(m.checkAndInsert(ctx, o), mutex.Unlock(context.WithoutCancel(ctx)))
}

func (m *etcdMutex) checkAndInsert(ctx context.Context, o *Order) error {
	var left int64
	if err := m.pools[0].QueryRow(ctx, readStorage, o.Product).Scan(&left); err != nil {
		return err
	}
	for _, pool := range m.pools {
		var sold int64
		if err := pool.QueryRow(ctx, sumPurchases, o.Product).Scan(&sold); err != nil {
			return err
		}
		left -= sold
	}
	if left < o.Amount {
		return ErrSoldOut
	}
	_, err := m.pools[m.home(o)].Exec(ctx, insertPurchase, newID(), o.Product, o.Request, o.Amount, o.Customer)
	return err
}

// Close implements Strategy.
func (m *etcdMutex) Close() {
	for _, session := range m.sessions {
		_ = session.Close() // its lease ends by itself otherwise
	}
	m.twoDatabases.Close()
}
