package local

import (
	"bytes"
	"errors"
	"io"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"
	"time"
)

func TestProcessPassesOutputAndStatus(t *testing.T) {
	var log bytes.Buffer
	p := startTestProcess(t, ProcessConfig{
		Name: "worker",
		Args: []string{"-c", `echo "$GREETING from $PWD"; echo oops >&2; exit 3`},
		Env:  []string{"GREETING=hello"},
		Dir:  "/",
		Log:  &log,
	})
	err := p.Wait()
	if exit, ok := errors.AsType[*exec.ExitError](err); !ok || exit.ExitCode() != 3 || !strings.HasPrefix(err.Error(), "worker: ") {
		t.Errorf("got %v, want exit status 3 of worker", err)
	}
	if got := log.String(); got != "hello from /\noops\n" {
		t.Errorf("log is %q", got)
	}
	if err := p.Signal(syscall.SIGTERM); !errors.Is(err, os.ErrProcessDone) {
		t.Errorf("signal after the end: %v", err)
	}
	if err := p.Kill(); err != nil {
		t.Errorf("kill after the end: %v", err)
	}
}

func TestProcessThatIsNotThere(t *testing.T) {
	for _, path := range []string{"", "/missing/worker"} {
		if _, err := StartProcess(ProcessConfig{Name: "worker", Path: path}); err == nil {
			t.Errorf("started %q", path)
		}
	}
}

// Pausing a holder and killing it while it is paused is what fault tests do.
func TestKillEndsAPausedProcess(t *testing.T) {
	p := startTestProcess(t, ProcessConfig{Args: []string{"-c", "exec sleep 1000"}})
	if err := p.Signal(syscall.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	if err := p.Kill(); err != nil {
		t.Fatal(err)
	}
	exit, ok := errors.AsType[*exec.ExitError](p.Wait())
	if !ok || exit.Sys().(syscall.WaitStatus).Signal() != syscall.SIGKILL {
		t.Errorf("ended with %v", exit)
	}
}

func TestTerminateKillsOnlyTheStubborn(t *testing.T) {
	cases := map[string]struct {
		script string
		grace  time.Duration
		want   bool
	}{
		"obeys":   {"echo ready; exec sleep 1000", patience, true},
		"ignores": {"trap '' TERM; echo ready; exec sleep 1000", time.Millisecond, false},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			reader, log := io.Pipe()
			p := startTestProcess(t, ProcessConfig{Args: []string{"-c", c.script}, Log: log})
			if _, err := reader.Read(make([]byte, len("ready\n"))); err != nil {
				t.Fatal(err)
			}
			if got := p.Terminate(c.grace); got != c.want {
				t.Errorf("ended by itself: %v, want %v", got, c.want)
			}
			select {
			case <-p.Done():
			default:
				t.Error("still runs after Terminate")
			}
		})
	}
}

// startTestProcess starts a shell.
func startTestProcess(t *testing.T, cfg ProcessConfig) *Process {
	t.Helper()
	cfg.Path = "/bin/sh"
	p, err := StartProcess(cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = p.Kill() })
	return p
}
