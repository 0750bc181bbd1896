package local

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
)

// postgresRemedy ends every error of FindPostgres.
const postgresRemedy = "install it (apt-get install postgresql, or brew install postgresql@17), or set HOLDFAST_PG_BIN or --postgres-bin to the folder that holds `postgres` and `initdb`"

// postgresFolders are the patterns of the folders where packages put servers,
// which are mostly not in PATH: those of Debian, and of Homebrew on Apple and
// Intel processors.
var postgresFolders = []string{
	"/usr/lib/postgresql/*/bin",
	"/opt/homebrew/opt/postgresql*/bin",
	"/usr/local/opt/postgresql*/bin",
}

// FindPostgres returns the folder with the executables `postgres` and
// `initdb`: the explicit one, else $HOLDFAST_PG_BIN, else that of the first
// `postgres` in PATH that has an initdb next to it, else the highest version
// that a package of Debian or Homebrew has installed. A folder that is named
// explicitly or by $HOLDFAST_PG_BIN is not replaced by another when it lacks
// them. The error is one line that says what to install or to set.
func FindPostgres(explicit string) (string, error) {
	return findPostgres(explicit, os.Getenv, postgresFolders)
}

func findPostgres(explicit string, getenv func(string) string, patterns []string) (string, error) {
	if explicit != "" {
		return namedPostgres("--postgres-bin", explicit)
	}
	if dir := getenv("HOLDFAST_PG_BIN"); dir != "" {
		return namedPostgres("HOLDFAST_PG_BIN", dir)
	}
	for _, dir := range filepath.SplitList(getenv("PATH")) {
		if dir, err := filepath.Abs(dir); err == nil && hasServer(dir) {
			return dir, nil
		}
	}
	for _, pattern := range patterns {
		if dir, ok := highestVersion(pattern); ok {
			return dir, nil
		}
	}
	return "", fmt.Errorf("no PostgreSQL server found: %s", postgresRemedy)
}

// namedPostgres checks the folder that the given setting names.
func namedPostgres(setting, dir string) (string, error) {
	dir, err := filepath.Abs(dir)
	if err != nil {
		return "", fmt.Errorf("find folder of %s: %w", setting, err)
	}
	if !hasServer(dir) {
		return "", fmt.Errorf("no PostgreSQL server in %s, named by %s: %s", dir, setting, postgresRemedy)
	}
	return dir, nil
}

// hasServer wants both executables: the client packages bring neither, and a
// distribution may link only one of them into PATH.
func hasServer(dir string) bool {
	for _, name := range []string{"postgres", "initdb"} {
		// With a slash in it, LookPath does not search but checks that the
		// file exists and is executable.
		if _, err := exec.LookPath(filepath.Join(dir, name)); err != nil {
			return false
		}
	}
	return true
}

func highestVersion(pattern string) (string, bool) {
	dirs, err := filepath.Glob(pattern)
	if err != nil {
		return "", false
	}
	dirs = slices.DeleteFunc(dirs, func(dir string) bool { return !hasServer(dir) })
	if len(dirs) == 0 {
		return "", false
	}
	return slices.MaxFunc(dirs, func(a, b string) int { return folderVersion(a) - folderVersion(b) }), true
}

var digits = regexp.MustCompile(`\d+`)

// folderVersion reads the major version from the folder above bin, such as
// /usr/lib/postgresql/17/bin or /usr/local/opt/postgresql@17/bin; 0 if there is
// none, as in Homebrew's unversioned alias.
func folderVersion(bin string) int {
	version, err := strconv.Atoi(digits.FindString(filepath.Base(filepath.Dir(bin))))
	if err != nil {
		return 0
	}
	return version
}
