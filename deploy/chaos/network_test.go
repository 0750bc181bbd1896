package chaos

import (
	"errors"
	"io"
	"net"
	"testing"
	"time"
)

// What a fault does to a connection decides what it tests: a reply that is held
// back must arrive later, one that is swallowed never.
func TestToxicsDoToRepliesWhatTheySay(t *testing.T) {
	for name, c := range map[string]struct {
		toxic     string
		meanwhile bool   // the connection is cut at once
		after     string // what is read when it is healed; "" for the end of the connection
	}{
		"held back": {hold, false, "late"},
		"swallowed": {swallow, false, ""},
		"reset":     {reset, true, ""},
	} {
		t.Run(name, func(t *testing.T) {
			n := newNetwork()
			defer n.close()
			conn := throughNetwork(t, n)
			heal, err := n.poison(c.toxic, []string{downstream}, link{"worker-1", "echo"})
			if err != nil {
				t.Fatal(err)
			}
			if _, err := conn.Write([]byte("late")); err != nil {
				t.Fatal(err)
			}
			read := make([]byte, 4)
			_ = conn.SetReadDeadline(time.Now().Add(300 * time.Millisecond))
			_, err = io.ReadFull(conn, read)
			if timedOut := isTimeout(err); err == nil || timedOut == c.meanwhile {
				t.Errorf("before it is healed: %q, %v", read, err)
			}
			if err := heal(); err != nil {
				t.Fatal(err)
			}
			_ = conn.SetReadDeadline(time.Now().Add(10 * time.Second))
			count, err := io.ReadFull(conn, read)
			if string(read[:count]) != c.after || isTimeout(err) {
				t.Errorf("after: %q, %v", read[:count], err)
			}
		})
	}
}

func isTimeout(err error) bool {
	var timeout net.Error
	return errors.As(err, &timeout) && timeout.Timeout()
}

// throughNetwork connects to an echo server by a link.
func throughNetwork(t *testing.T, n *network) net.Conn {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = listener.Close() })
	go func() {
		server, err := listener.Accept()
		if err != nil {
			return
		}
		_, _ = io.Copy(server, server)
		_ = server.Close()
	}()
	address, err := n.route("worker-1", "echo", listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	conn, err := net.Dial("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	// An answer shows that the proxy has connected: a toxic meets only such.
	if _, err := conn.Write([]byte("here")); err != nil {
		t.Fatal(err)
	}
	if _, err := io.ReadFull(conn, make([]byte, 4)); err != nil {
		t.Fatal(err)
	}
	return conn
}
