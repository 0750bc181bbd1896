package local

import (
	"cmp"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"runtime"
	"syscall"
	"time"
)

// outputGrace bounds how long a process counts as running after its exit
// because children of its own still hold its output.
const outputGrace = 5 * time.Second

// ProcessConfig says what StartProcess runs.
type ProcessConfig struct {
	Name string   // for errors; the path when empty
	Path string   // the executable, required; looked up in $PATH when it has no slash
	Args []string // without the name of the executable
	Env  []string // "key=value"; nil inherits the environment of this process
	Dir  string   // working directory; that of this process when empty

	// Log receives stdout and stderr, one write at a time; nil drops them.
	Log io.Writer

	// Credential is the user to run as; nil means the user of this process.
	Credential *syscall.Credential

	// deathSignal is what the child gets when this process dies; 0 is SIGKILL.
	deathSignal syscall.Signal
}

// Process is a running child. It is in a process group of its own, so that an
// interrupt from the terminal reaches only its parent, which then decides in
// which order its children stop. On Linux it gets SIGKILL when its parent dies,
// however that happens.
type Process struct {
	name string
	cmd  *exec.Cmd
	done chan struct{}
	err  error // of cmd.Wait; read after done
}

// StartProcess starts a child and returns as soon as it runs. The caller must
// end it (Kill, Terminate) or wait for it.
func StartProcess(cfg ProcessConfig) (*Process, error) {
	if cfg.Path == "" {
		return nil, errors.New("start process: no path")
	}
	cmd := exec.Command(cfg.Path, cfg.Args...) //nolint:noctx // the child outlives the call; Kill and Terminate end it
	cmd.Env, cmd.Dir = cfg.Env, cfg.Dir
	cmd.Stdout, cmd.Stderr = cfg.Log, cfg.Log
	cmd.WaitDelay = outputGrace
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Credential: cfg.Credential}
	dieWithParent(cmd.SysProcAttr, cmp.Or(cfg.deathSignal, syscall.SIGKILL))

	p := &Process{name: cmp.Or(cfg.Name, cfg.Path), cmd: cmd, done: make(chan struct{})}
	started := make(chan error)
	go p.run(started)
	if err := <-started; err != nil {
		return nil, fmt.Errorf("start %s: %w", p.name, err)
	}
	return p, nil
}

// run starts the child and stays on its thread until the child has ended: the
// kernel sends the death signal when the thread that forked is gone, and the
// Go runtime ends idle threads as it likes.
func (p *Process) run(started chan<- error) {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	defer close(p.done)
	err := p.cmd.Start()
	started <- err
	if err == nil {
		p.err = p.cmd.Wait()
	}
}

// Pid is the process id. After the end of the process it may be anybody's.
func (p *Process) Pid() int { return p.cmd.Process.Pid }

// Done is closed when the process has ended and its output was passed on.
func (p *Process) Done() <-chan struct{} { return p.done }

// Wait blocks until Done and returns nil for exit status 0, else an error with
// the exit status or the signal (an *exec.ExitError).
func (p *Process) Wait() error {
	<-p.done
	if p.err != nil {
		return fmt.Errorf("%s: %w", p.name, p.err)
	}
	return nil
}

// Signal sends a signal, also SIGSTOP and SIGCONT. The error is
// os.ErrProcessDone when the process has ended.
func (p *Process) Signal(signal os.Signal) error {
	if err := p.cmd.Process.Signal(signal); err != nil {
		return fmt.Errorf("send %s to %s: %w", signal, p.name, err)
	}
	return nil
}

// Kill sends SIGKILL and waits for the end. A process that has ended already
// is no error.
func (p *Process) Kill() error {
	if err := p.Signal(syscall.SIGKILL); err != nil && !errors.Is(err, os.ErrProcessDone) {
		return err
	}
	<-p.done
	return nil
}

// Terminate sends SIGTERM and waits for the end; after the grace period it
// kills. It returns whether the process ended by itself.
func (p *Process) Terminate(grace time.Duration) bool {
	if p.signalAndWait(syscall.SIGTERM, grace) {
		return true
	}
	_ = p.Kill() // fails only for a process that is gone
	return false
}

// signalAndWait returns whether the process ended within the grace period.
func (p *Process) signalAndWait(signal os.Signal, grace time.Duration) bool {
	_ = p.cmd.Process.Signal(signal) // fails only for a process that is gone
	timer := time.NewTimer(grace)
	defer timer.Stop()
	select {
	case <-p.done:
		return true
	case <-timer.C:
		return false
	}
}
