package local

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"strconv"
	"sync/atomic"
	"syscall"
)

// loopback is the only address on which servers of this package listen.
const loopback = "127.0.0.1"

// The ports FreePort chooses from lie below the range from which Linux
// (32768-60999) and macOS (49152-65535) take the ports of outgoing connections.
// So no connection can take the port of a server that is down for a moment,
// as happens all the time where servers are killed and started again.
const (
	firstPort = 20000
	portCount = 10000
)

// portCursor walks through the ports from a random start, so that a port which
// is free only because its server has not been started yet is not given out
// twice, and processes that run side by side rarely look at the same ones.
var portCursor = func() *atomic.Uint32 {
	cursor := new(atomic.Uint32)
	cursor.Store(rand.Uint32N(portCount))
	return cursor
}()

// FreePort returns a TCP port of 127.0.0.1, between 20000 and 29999, on which
// nothing listens. The same process gets the same port again only after all
// others. Another process may still take it before it is used.
func FreePort() (int, error) {
	for range portCount {
		port := firstPort + int(portCursor.Add(1)%portCount)
		if listenable(port) {
			return port, nil
		}
	}
	return 0, fmt.Errorf("find free port: all %d ports from %d on are taken", portCount, firstPort)
}

func listenable(port int) bool {
	listener, err := net.Listen("tcp", hostPort(port)) //nolint:noctx // binding to loopback does not wait
	if err != nil {
		return false
	}
	return listener.Close() == nil
}

func hostPort(port int) string { return net.JoinHostPort(loopback, strconv.Itoa(port)) }

// startAttempts is how many free ports are tried before a server that was not
// told its port gives up.
const startAttempts = 3

// onPort runs start with the wanted port or, when that is 0, with free ports
// until one is not taken by somebody else in the meantime.
func onPort[T any](wanted int, start func(port int) (T, error)) (T, error) {
	if wanted != 0 {
		return start(wanted)
	}
	var failure error
	for range startAttempts {
		port, err := FreePort()
		if err != nil {
			return *new(T), err
		}
		server, err := start(port)
		if !errors.Is(err, syscall.EADDRINUSE) {
			return server, err
		}
		failure = err
	}
	return *new(T), failure
}
