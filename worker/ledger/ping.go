package ledger

import (
	"context"
	"fmt"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
)

// Ping asks the database for a sign of life. It does so on a connection of its
// own: a wait for one of the pool would say nothing of the database.
func (s *Shard) Ping(ctx context.Context) error { return s.readError("ping", s.pinger.ask(ctx)) }

// pinger has the connection for signs of life. To connect takes six ways there and back with
// TLS and a password, and more work of both ends than a purchase, so it may last longer than a
// question: what one question has begun the next one finds. Begun anew by each, it would never
// come to an end with a shard in another continent, nor with one that is so busy that it had
// fallen silent.
type pinger struct {
	pool *pgxpool.Pool // connected to in the same way
	base context.Context
	end  context.CancelFunc

	mu      sync.Mutex     // held while one asks
	conn    *pgx.Conn      // nil when there is none
	attempt chan connected // gets one; nil while nobody connects
}

type connected struct {
	conn *pgx.Conn
	err  error
}

func newPinger(pool *pgxpool.Pool) *pinger {
	p := &pinger{pool: pool}
	p.base, p.end = context.WithCancel(context.Background())
	return p
}

func (p *pinger) ask(ctx context.Context) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.conn != nil && p.conn.Ping(ctx) == nil {
		return nil
	}
	p.hangUp() // which says nothing yet: connections are cut for many reasons
	if p.attempt == nil {
		p.attempt = make(chan connected, 1)
		go p.connect(p.attempt)
	}
	select {
	case c := <-p.attempt:
		p.attempt, p.conn = nil, c.conn
		if c.err != nil {
			return c.err
		}
		return p.conn.Ping(ctx)
	case <-ctx.Done():
		return fmt.Errorf("connecting: %w", ctx.Err())
	}
}

// connect ends after the connect timeout at the latest.
func (p *pinger) connect(attempt chan<- connected) {
	cfg := p.pool.Config()
	if err := cfg.BeforeConnect(p.base, cfg.ConnConfig); err != nil {
		attempt <- connected{err: err}
		return
	}
	conn, err := pgx.ConnectConfig(p.base, cfg.ConnConfig)
	attempt <- connected{conn, err}
}

// hangUp closes the connection. The caller holds mu.
func (p *pinger) hangUp() {
	if p.conn == nil {
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), 100*time.Millisecond)
	defer cancel()
	_ = p.conn.Close(ctx)
	p.conn = nil
}

func (p *pinger) close() {
	p.end()
	p.mu.Lock()
	defer p.mu.Unlock()
	p.hangUp()
	if p.attempt != nil {
		p.conn = (<-p.attempt).conn
		p.attempt = nil
		p.hangUp()
	}
}
