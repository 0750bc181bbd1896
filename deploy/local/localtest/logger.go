package localtest

import (
	"bytes"
	"sync"
	"testing"

	"github.com/hashicorp/go-hclog"
)

// Logger returns a logger whose lines appear in the output of the test. What is
// logged after the test has ended is dropped, where testing would panic.
func Logger(t testing.TB) hclog.Logger {
	t.Helper()
	output := &testOutput{t: t}
	t.Cleanup(output.end)
	return hclog.New(&hclog.LoggerOptions{Level: hclog.Debug, Output: output})
}

type testOutput struct {
	mu    sync.Mutex
	t     testing.TB
	ended bool
}

func (o *testOutput) Write(line []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if !o.ended {
		o.t.Log(string(bytes.TrimRight(line, "\n")))
	}
	return len(line), nil
}

func (o *testOutput) end() {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.ended = true
}
