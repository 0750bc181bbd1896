package main

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/spf13/cobra"
)

// configured is what a command would run with, in an empty folder with an empty folder of
// temporary files.
func configured(t *testing.T, args ...string) (*cobra.Command, error) {
	t.Helper()
	root := newRoot()
	cmd, _, err := root.Find(args)
	if err != nil {
		t.Fatal(err)
	}
	cmd.RunE = func(*cobra.Command, []string) error { return nil }
	root.SetArgs(args)
	return cmd, root.ExecuteContext(t.Context())
}

func inEmptyFolders(t *testing.T) {
	t.Helper()
	t.Chdir(t.TempDir())
	t.Setenv("TMPDIR", t.TempDir())
	t.Setenv("HOLDFAST_CONFIG", "")
}

// Another user of the machine must not be able to tell our commands whom to trust.
func TestSettingsOfOthersAreNotRead(t *testing.T) {
	path := filepath.Join(t.TempDir(), "dev.yaml")
	mustWrite(t, path, "insecure: true\n")
	if !isOurs(path) {
		t.Error("our own file is not read")
	}
	if err := os.Chmod(path, 0o622); err != nil {
		t.Fatal(err)
	}
	if isOurs(path) {
		t.Error("a file that others can write is read")
	}
	link := filepath.Join(t.TempDir(), "link.yaml")
	if err := os.Chmod(path, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(path, link); err != nil {
		t.Fatal(err)
	}
	if isOurs(link) {
		t.Error("a link is followed")
	}
	if os.Getuid() != 0 {
		return // only root can give a file away
	}
	if err := os.Chown(path, 12345, 12345); err != nil {
		t.Fatal(err)
	}
	if isOurs(path) {
		t.Error("another user's file is read")
	}
}

// A file in the folder in which somebody happens to be says whom to trust, too.
func TestSettingsOfTheFolderAreOurs(t *testing.T) {
	inEmptyFolders(t)
	const path = "holdfast.yaml"
	mustWrite(t, path, "insecure: true\n")
	if cmd, err := configured(t, "status"); err != nil || cmd.Flag("insecure").Value.String() != "true" {
		t.Fatalf("our own: %v", err)
	}
	refused := func(why string) {
		t.Helper()
		if _, err := configured(t, "status"); err == nil || exitCode(err) != exitUsage || !strings.Contains(err.Error(), path) {
			t.Errorf("%s: %v", why, err)
		}
	}
	if err := os.Chmod(path, 0o664); err != nil {
		t.Fatal(err)
	}
	if _, err := configured(t, "status"); err != nil {
		t.Errorf("made where a user's group is his own: %v", err)
	}
	if err := os.Chmod(path, 0o602); err != nil {
		t.Fatal(err)
	}
	refused("everybody's")
	if err := os.Rename(path, "real"); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink("real", path); err != nil {
		t.Fatal(err)
	}
	refused("a link to what everybody may write")
	if err := os.Chmod("real", 0o644); err != nil {
		t.Fatal(err)
	}
	if _, err := configured(t, "status"); err != nil {
		t.Errorf("a link of ours to a file of ours: %v", err)
	}
	if os.Getuid() != 0 {
		return // only root can give a file away
	}
	if err := os.Chown("real", 12345, 12345); err != nil {
		t.Fatal(err)
	}
	refused("another user's")
}

// What is in the clear on this machine must not become so for another one.
func TestSettingsOfDevAreForDev(t *testing.T) {
	inEmptyFolders(t)
	mustWrite(t, devSettingsFile(), "{etcd: 127.0.0.1:1, coordinator: 127.0.0.1:2, shard: {eu: host=a, us: host=b}, insecure: true}\n")
	for _, tt := range []struct {
		args, env string
		flag      string
		value     string
		insecure  bool
	}{
		{"status", "", "etcd", "[127.0.0.1:1]", true},
		{"status --etcd 127.0.0.1:1", "", "shard", "[eu=host=a,us=host=b]", true},
		{"status --etcd etcd.example:2379", "", "shard", "[]", false},
		{"status --etcd etcd.example:2379", "", "etcd", "[etcd.example:2379]", false},
		{"status", "HOLDFAST_ETCD=etcd.example:2379", "etcd", "[etcd.example:2379]", false},
		{"status", "HOLDFAST_COORDINATOR=shop.example:7070", "etcd", "[127.0.0.1:1]", true}, // which status does not call
		{"buy x --customer a", "", "coordinator", "[127.0.0.1:2]", true},
		{"buy x --customer a --coordinator 127.0.0.1:2", "", "coordinator", "[127.0.0.1:2]", true},
		{"buy x --customer a --coordinator shop.example:7070", "", "coordinator", "[shop.example:7070]", false},
		{"buy x --customer a --coordinator shop.example:7070 --insecure", "", "coordinator", "[shop.example:7070]", true},
		{"buy x --customer a --coordinator 127.0.0.1:2,shop.example:7070", "", "timeout", "10s", false},
		{"buy x --customer a", "HOLDFAST_COORDINATOR=shop.example:7070", "coordinator", "[shop.example:7070]", false},
		{"audit", "", "shard", "[eu=host=a,us=host=b]", true},
		{"audit --shard eu=host=a", "", "shard", "[eu=host=a]", true},
		{"audit --shard eu=host=c", "", "shard", "[eu=host=c]", false},
		{"audit", "HOLDFAST_SHARD_EU=host=c", "shard", "[eu=host=c]", false},
	} {
		t.Run(fmt.Sprint(tt.args, tt.env), func(t *testing.T) {
			if name, value, ok := strings.Cut(tt.env, "="); ok {
				t.Setenv(name, value)
			}
			cmd, err := configured(t, strings.Fields(tt.args)...)
			if err != nil {
				t.Fatal(err)
			}
			if got := cmd.Flag("insecure").Value.String() == "true"; got != tt.insecure {
				t.Errorf("insecure: %t", got)
			}
			if got := cmd.Flag(tt.flag).Value.String(); got != tt.value {
				t.Errorf("--%s: %s", tt.flag, got)
			}
		})
	}
	if cmd, err := configured(t, "worker"); err != nil || cmd.Flag("insecure").Changed {
		t.Errorf("a server: %v", err)
	}
}
