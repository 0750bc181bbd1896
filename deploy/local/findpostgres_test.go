package local

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// Whoever names a folder gets that one or an error; else what the user runs
// every day comes before what a package has hidden.
func TestFindPostgresOrder(t *testing.T) {
	root := t.TempDir()
	for _, dir := range []string{"named", "env", "path", "debian/9.6/bin", "debian/15/bin", "debian/17/bin",
		"brew/postgresql/bin", "brew/postgresql@9/bin", "brew/postgresql@17/bin"} {
		fakeExecutables(t, filepath.Join(root, dir), "postgres", "initdb")
	}
	fakeExecutables(t, filepath.Join(root, "debian/18/bin"), "pg_dump")
	fakeExecutables(t, filepath.Join(root, "client"), "psql", "initdb")
	fakeExecutables(t, filepath.Join(root, "linked"), "postgres")
	fakeExecutables(t, filepath.Join(root, "notes"), "postgres", "initdb")
	for _, name := range []string{"postgres", "initdb"} {
		if err := os.Chmod(filepath.Join(root, "notes", name), 0o600); err != nil {
			t.Fatal(err)
		}
	}

	cases := map[string]struct{ explicit, env, path, patterns, want string }{
		"explicit wins":            {"named", "env", "path", "debian/*/bin", "named"},
		"then HOLDFAST_PG_BIN":     {"", "env", "path", "debian/*/bin", "env"},
		"then PATH":                {"", "", "path", "debian/*/bin", "path"},
		"PATH needs both":          {"", "", "client:linked:missing:path", "debian/*/bin", "path"},
		"then the highest version": {"", "", "client", "debian/*/bin:brew/postgresql*/bin", "debian/17/bin"},
		"Homebrew's highest":       {"", "", "", "missing/*/bin:brew/postgresql*/bin", "brew/postgresql@17/bin"},
		"a version without server": {"", "", "", "debian/1[58]/bin", "debian/15/bin"},
		"nothing":                  {"", "", "client", "missing/*/bin", "no PostgreSQL server found: install it (apt-get install postgresql, or brew install postgresql@17)"},
		"explicit is not replaced": {"client", "env", "path", "debian/*/bin", "named by --postgres-bin"},
		"HOLDFAST_PG_BIN neither":  {"", "linked", "path", "debian/*/bin", "named by HOLDFAST_PG_BIN"},
		"explicit that is missing": {"missing", "", "", "", "set HOLDFAST_PG_BIN or --postgres-bin"},
		"files, not executables":   {"", "", "notes", "notes/", "no PostgreSQL server found"},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			env := map[string]string{"HOLDFAST_PG_BIN": under(root, c.env), "PATH": under(root, c.path)}
			got, err := findPostgres(under(root, c.explicit), func(key string) string { return env[key] },
				filepath.SplitList(under(root, c.patterns)))
			if err == nil && got != filepath.Join(root, c.want) {
				t.Errorf("found %s, want %s", got, c.want)
			}
			if err != nil && (!strings.Contains(err.Error(), c.want) || strings.Contains(err.Error(), "\n")) {
				t.Errorf("error %q, want one line with %q", err, c.want)
			}
		})
	}
}

// under puts every folder of a list separated by colons below root.
func under(root, list string) string {
	dirs := filepath.SplitList(list)
	for i, dir := range dirs {
		dirs[i] = filepath.Join(root, dir)
	}
	return strings.Join(dirs, string(filepath.ListSeparator))
}

func fakeExecutables(t *testing.T, dir string, names ...string) {
	t.Helper()
	if err := os.MkdirAll(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	for _, name := range names {
		if err := os.WriteFile(filepath.Join(dir, name), nil, 0o700); err != nil {
			t.Fatal(err)
		}
	}
}
