package local

import (
	"context"
	"fmt"
	"os"
	"testing"
	"time"

	"go.uber.org/goleak"
)

// patience bounds everything that tests wait for. It is long because it only
// matters when something is broken.
const patience = time.Minute

// parentOf, in the environment, makes this binary a parent that starts the
// child named by it, in the folder of parentDir, and waits to be killed.
const (
	parentOf  = "HOLDFAST_TEST_PARENT_OF"
	parentDir = "HOLDFAST_TEST_PARENT_DIR"
)

// TestMain runs the tests, unless one of them started this binary as the
// parent of a child that it is about to orphan.
func TestMain(m *testing.M) {
	if child := os.Getenv(parentOf); child != "" {
		os.Exit(runParent(child))
	}
	goleak.VerifyTestMain(m)
}

func deadline(t *testing.T) context.Context {
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	t.Cleanup(cancel)
	return ctx
}

// serverDir is a folder that a server which does not run as root can reach, as
// it could not reach that of t.TempDir.
func serverDir(t *testing.T) string {
	dir, err := TempDir("holdfast-local-*")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := os.RemoveAll(dir); err != nil {
			t.Error(err)
		}
	})
	return dir
}

// runParent is the main function of the parent.
func runParent(child string) int {
	pid, err := startChild(child, os.Getenv(parentDir))
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	fmt.Println(pid)
	select {}
}

func startChild(child, dir string) (int, error) {
	if child == "process" {
		p, err := StartProcess(ProcessConfig{Path: "sleep", Args: []string{"1000"}})
		if err != nil {
			return 0, err
		}
		return p.Pid(), nil
	}
	bin, err := FindPostgres("")
	if err != nil {
		return 0, err
	}
	p, err := StartPostgres(context.Background(), PostgresConfig{Bin: bin, Dir: dir})
	if err != nil {
		return 0, err
	}
	return p.Pid(), nil
}
