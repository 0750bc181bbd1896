package ledger

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net"
	"net/url"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/holdfast-io/holdfast/deploy/local/localtest"
)

// begun is a shard with a hold of five units.
func begun(t *testing.T, dsn string) (*Shard, Change) {
	t.Helper()
	s, err := Open(Config{Name: "eu", DSN: dsn})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Close)
	if _, err := s.Migrate(t.Context()); err != nil {
		t.Fatal(err)
	}
	f := Fence{ProductID: "p", Topology: 1, Token: 1, TenureID: uuid.New()}
	if _, err := s.Raise(t.Context(), f); err != nil {
		t.Fatal(err)
	}
	until := time.Now().Add(time.Hour)
	p := &Purchase{PurchaseID: uuid.New(), ProductID: "p", RequestID: "r", Amount: 5, Fence: &f, ExpireTime: &until}
	if _, err := s.Commit(t.Context(), []*Purchase{p}); err != nil {
		t.Fatal(err)
	}
	return s, Change{PurchaseID: p.PurchaseID, Action: Confirm, RequestID: "c", Amount: 3}
}

// has tells what became of the purchase, the running total and the history.
func (s *Shard) has(t *testing.T, c Change) (state State, released, changes int64) {
	t.Helper()
	err := s.list.QueryRow(t.Context(), `SELECT state, coalesce((SELECT released FROM releases), 0), (SELECT count(*) FROM changes)
		FROM purchases WHERE purchase_id = $1`, c.PurchaseID).Scan(&state, &released, &changes)
	if err != nil {
		t.Fatal(err)
	}
	return state, released, changes
}

// Request lost: a connection that breaks after the purchases were locked and before
// anything was changed leaves nothing behind, no lock either, and the repetition happens.
func TestChangeWhoseConnectionBreaksInTheMiddle(t *testing.T) {
	for name, cut := range map[string]func(t *testing.T, s *Shard, pid uint32, hangUp func()){
		"server side": func(t *testing.T, s *Shard, pid uint32, _ func()) {
			if _, err := s.list.Exec(t.Context(), "SELECT pg_terminate_backend($1, 5000)", pid); err != nil {
				t.Fatal(err)
			}
		},
		"client side": func(_ *testing.T, _ *Shard, _ uint32, hangUp func()) { hangUp() },
	} {
		t.Run(name, func(t *testing.T) {
			s, c := begun(t, localtest.Databases(t, "eu")["eu"])
			conn, err := s.pool.Acquire(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(conn.Release)
			changing := &changing{purchases: map[uuid.UUID]*Purchase{}, earlier: map[changeKey]Change{}}
			if err := changing.read(t.Context(), conn, [][]Change{{c}}); err != nil {
				t.Fatal(err)
			}
			if a := changing.applyAll([]Change{c}); a[0].Err != nil {
				t.Fatal(a[0].Err)
			}
			if _, err := s.list.Exec(t.Context(), "SELECT FROM purchases FOR UPDATE NOWAIT"); err == nil {
				t.Fatal("the purchase is not locked")
			}
			cut(t, s, conn.Conn().PgConn().PID(), func() { _ = conn.Conn().PgConn().Conn().Close() })
			if err := changing.write(t.Context(), conn); err == nil {
				t.Fatal("written on a connection that is cut")
			}
			conn.Release()
			if answers, err := s.Change(t.Context(), [][]Change{{c}}); err != nil || answers[0][0].Err != nil {
				t.Fatalf("repeated: %+v, %v", answers, err)
			}
			if state, released, changes := s.has(t, c); state != Confirmed || released != 2 || changes != 1 {
				t.Errorf("%s, %d given back, %d changes", state, released, changes)
			}
		})
	}
}

// Reply lost: the change has happened, the caller is told that nobody knows, and the
// repetition finds it.
func TestChangeWhoseAnswerIsLost(t *testing.T) {
	dsn := localtest.Databases(t, "eu")["eu"]
	direct, c := begun(t, dsn)
	proxy := newDeafProxy(t, dsn, 0)
	s, err := Open(Config{Name: "eu", DSN: proxy.dsn})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	proxy.deaf.Store(true)
	if _, err := s.Change(t.Context(), [][]Change{{c}}); !errors.Is(err, ErrAmbiguous) {
		t.Fatalf("got %v, want ErrAmbiguous", err)
	}
	if state, released, changes := direct.has(t, c); state != Confirmed || released != 2 || changes != 1 {
		t.Fatalf("%s, %d given back, %d changes", state, released, changes)
	}
	proxy.deaf.Store(false)
	answers, err := s.Change(t.Context(), [][]Change{{c}})
	if err != nil || answers[0][0].Err != nil || answers[0][0].Purchase.Has() != 3 {
		t.Fatalf("repeated: %+v, %v", answers, err)
	}
	if state, released, changes := direct.has(t, c); state != Confirmed || released != 2 || changes != 1 {
		t.Errorf("after the repetition: %s, %d given back, %d changes", state, released, changes)
	}
}

// deafProxy passes everything on, but while it is deaf it hangs up instead of passing on
// that a transaction was committed. Whoever connects has to wait.
type deafProxy struct {
	dsn  string
	deaf atomic.Bool
	wait time.Duration
}

func newDeafProxy(t *testing.T, dsn string, wait time.Duration) *deafProxy {
	t.Helper()
	s, err := Open(Config{Name: "eu", DSN: dsn})
	if err != nil {
		t.Fatal(err)
	}
	config := s.pool.Config().ConnConfig
	address := net.JoinHostPort(config.Host, fmt.Sprint(config.Port))
	s.Close()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	p := &deafProxy{wait: wait, dsn: (&url.URL{
		Scheme: "postgres", User: url.UserPassword(config.User, config.Password),
		Host: l.Addr().String(), Path: "/" + config.Database, RawQuery: "sslmode=disable",
	}).String()}
	var serving sync.WaitGroup
	serving.Go(func() {
		for {
			client, err := l.Accept()
			if err != nil {
				return
			}
			serving.Go(func() { p.serve(client, address) })
		}
	})
	t.Cleanup(func() { _ = l.Close(); serving.Wait() })
	return p
}

func (p *deafProxy) serve(client net.Conn, address string) {
	defer func() { _ = client.Close() }()
	time.Sleep(p.wait) // the way
	server, err := net.Dial("tcp", address)
	if err != nil {
		return
	}
	var asking sync.WaitGroup
	asking.Go(func() { _, _ = io.Copy(server, client); _ = server.Close() })
	data := make([]byte, 1<<16)
	for {
		n, err := server.Read(data)
		if err != nil || p.deaf.Load() && bytes.Contains(data[:n], []byte("COMMIT\x00")) {
			break
		}
		if _, err := client.Write(data[:n]); err != nil {
			break
		}
	}
	_ = client.Close()
	asking.Wait()
}
