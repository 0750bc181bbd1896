package local

import (
	"bufio"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// Tests are interrupted and demos are killed; servers that stay behind would
// hold ports, memory and data folders for ever.
func TestChildrenDoNotOutliveAKilledParent(t *testing.T) {
	for _, child := range []string{"process", "postgres"} {
		t.Run(child, func(t *testing.T) {
			dir := serverDir(t)
			parent, pid := startParent(t, child, dir)
			end := endOf(t, pid)
			if err := parent.Process.Kill(); err != nil {
				t.Fatal(err)
			}
			_ = parent.Wait() // says that it was killed
			end()
			if child == "postgres" { // and the folder is free
				startTestPostgres(t, testPostgres(t, dir))
			}
		})
	}
}

// startParent returns the parent and the process id of its child.
func startParent(t *testing.T, child, dir string) (*exec.Cmd, int) {
	t.Helper()
	parent := exec.CommandContext(deadline(t), os.Args[0])
	parent.Env = append(os.Environ(), parentOf+"="+child, parentDir+"="+dir)
	parent.Stderr = os.Stderr
	output, err := parent.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := parent.Start(); err != nil {
		t.Fatal(err)
	}
	line, readErr := bufio.NewReader(output).ReadString('\n')
	pid, err := strconv.Atoi(strings.TrimSpace(line))
	if err != nil {
		t.Fatalf("the parent said %q (%v)", line, readErr)
	}
	return parent, pid
}

// endOf returns a function that waits until the process, which need not be a
// child of ours, has ended.
func endOf(t *testing.T, pid int) func() {
	t.Helper()
	handle, err := unix.PidfdOpen(pid, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = unix.Close(handle) })
	return func() {
		t.Helper()
		events := []unix.PollFd{{Fd: int32(handle), Events: unix.POLLIN}}
		if n, err := unix.Poll(events, int(patience.Milliseconds())); n != 1 {
			t.Errorf("process %d outlives its parent (%v)", pid, err)
		}
	}
}
