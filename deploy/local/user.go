package local

import (
	"errors"
	"fmt"
	"os"
	"os/user"
	"path/filepath"
	"strconv"
	"syscall"
)

// account is the user a Postgres server runs as: Postgres refuses to run as root.
type account struct {
	name     string
	uid, gid uint32
}

// serverAccount returns nil when the server can run as the user of this
// process, and for root somebody else: postgres or, without it, nobody.
func serverAccount() (*account, error) {
	if os.Geteuid() != 0 {
		return nil, nil
	}
	for _, name := range []string{"postgres", "nobody"} {
		if found, err := user.Lookup(name); err == nil {
			return newAccount(found)
		}
	}
	return nil, errors.New("postgres does not run as root, and there is neither a user postgres nor nobody: run as another user")
}

func newAccount(found *user.User) (*account, error) {
	uid, uidErr := strconv.ParseUint(found.Uid, 10, 32)
	gid, gidErr := strconv.ParseUint(found.Gid, 10, 32)
	if err := errors.Join(uidErr, gidErr); err != nil {
		return nil, fmt.Errorf("look up user %s: %w", found.Username, err)
	}
	return &account{name: found.Username, uid: uint32(uid), gid: uint32(gid)}, nil
}

// credential is for ProcessConfig: nil, for the same user, when a is nil.
func (a *account) credential() *syscall.Credential {
	if a == nil {
		return nil
	}
	return &syscall.Credential{Uid: a.uid, Gid: a.gid}
}

// own makes the folder, if need be, and gives it to the account.
func (a *account) own(dir string) error {
	if err := os.MkdirAll(dir, 0o700); err != nil || a == nil {
		return err
	}
	return os.Chown(dir, int(a.uid), int(a.gid))
}

// checkReach returns an error that names the first folder on the way to path
// which the account may not enter. Folders that do not exist yet are left out.
func (a *account) checkReach(path string) error {
	if a == nil {
		return nil
	}
	for folder := filepath.Dir(path); ; folder = filepath.Dir(folder) {
		info, err := os.Stat(folder)
		if err != nil && !errors.Is(err, os.ErrNotExist) {
			return err
		}
		if err == nil && !a.mayEnter(info) {
			return fmt.Errorf("postgres runs as user %s here, who may not enter %s (mode %04o): use a folder such as /tmp/holdfast",
				a.name, folder, info.Mode().Perm())
		}
		if folder == filepath.Dir(folder) {
			return nil
		}
	}
}

// mayEnter applies the owner, group or other bit, whichever is the account's.
func (a *account) mayEnter(folder os.FileInfo) bool {
	mode := folder.Mode().Perm()
	stat, ok := folder.Sys().(*syscall.Stat_t)
	switch {
	case ok && stat.Uid == a.uid:
		return mode&0o100 != 0
	case ok && stat.Gid == a.gid:
		return mode&0o010 != 0
	default:
		return mode&0o001 != 0
	}
}

// TempDir makes a new temporary folder in which StartPostgres can keep its
// data, also when this process is root and the server is not. The pattern is
// that of os.MkdirTemp. The caller removes the folder.
func TempDir(pattern string) (string, error) {
	owner, err := serverAccount()
	if err != nil {
		return "", err
	}
	parent := os.TempDir()
	if owner.checkReach(filepath.Join(parent, "x")) != nil {
		parent = "/tmp" // $TMPDIR may well be private to root
	}
	dir, err := os.MkdirTemp(parent, pattern)
	if err != nil {
		return "", err
	}
	if err := os.Chmod(dir, 0o711); err != nil {
		return "", errors.Join(err, os.Remove(dir))
	}
	return dir, nil
}
