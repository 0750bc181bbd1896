package local

import (
	"cmp"
	"context"
	"errors"
	"os"
	"path/filepath"
	"syscall"
)

// cluster is a data folder of Postgres and the programs that use it.
type cluster struct {
	bin   string
	dir   string   // holds the folder data and the logs
	owner *account // nil: the user of this process
}

// openCluster makes the folder, if need be, and checks that the programs and
// the folder are in reach of the user who will run the server.
func openCluster(bin, dir string) (*cluster, error) {
	bin, binErr := filepath.Abs(bin)
	dir, dirErr := filepath.Abs(dir)
	owner, ownerErr := serverAccount()
	if err := errors.Join(binErr, dirErr, ownerErr); err != nil {
		return nil, err
	}
	if err := os.MkdirAll(filepath.Dir(dir), 0o711); err != nil {
		return nil, err
	}
	for _, path := range []string{filepath.Join(bin, "postgres"), dir} {
		if err := owner.checkReach(path); err != nil {
			return nil, err
		}
	}
	return &cluster{bin: bin, dir: dir, owner: owner}, owner.own(dir)
}

// data is the folder of Postgres itself.
func (c *cluster) data() string { return filepath.Join(c.dir, "data") }

// initialise makes the data folder unless there is one. It does so under
// another name, so that an interrupted attempt is not taken for a cluster.
func (c *cluster) initialise(ctx context.Context) error {
	if _, err := os.Stat(c.data()); err == nil {
		return nil
	}
	unfinished := c.data() + ".unfinished"
	if err := os.RemoveAll(unfinished); err != nil {
		return err
	}
	// --no-sync is for these files only, which cost nothing when lost.
	initdb, log, err := c.launch("initdb", syscall.SIGKILL, "--pgdata="+unfinished, "--auth=trust",
		"--username="+postgresUser, "--encoding=UTF8", "--locale=C", "--no-sync")
	if err != nil {
		return err
	}
	defer func() { _ = log.close() }()
	select {
	case <-initdb.Done():
	case <-ctx.Done():
		return cmp.Or(initdb.Kill(), context.Cause(ctx))
	}
	if err := initdb.Wait(); err != nil {
		return log.explain(err)
	}
	return os.Rename(unfinished, c.data())
}

// launch starts one of the programs as the owner of the data, with a log of
// its name. The caller closes the log when the process has ended.
func (c *cluster) launch(program string, deathSignal syscall.Signal, args ...string) (*Process, *serverLog, error) {
	log, err := openLog(filepath.Join(c.dir, program+".log"))
	if err != nil {
		return nil, nil, err
	}
	process, err := StartProcess(ProcessConfig{
		Name: program,
		Path: filepath.Join(c.bin, program),
		Args: args,
		// The messages are read below, so they must be in English; and without
		// a plain locale macOS makes the server multithreaded, which it refuses.
		Env:         append(os.Environ(), "LC_ALL=C"),
		Dir:         c.dir,
		Log:         log,
		Credential:  c.owner.credential(),
		deathSignal: deathSignal,
	})
	if err != nil {
		return nil, nil, errors.Join(err, log.close())
	}
	return process, log, nil
}
