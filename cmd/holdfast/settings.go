package main

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/knadh/koanf/parsers/yaml"
	"github.com/knadh/koanf/providers/env/v2"
	"github.com/knadh/koanf/providers/file"
	"github.com/knadh/koanf/v2"
	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

const (
	envPrefix = "HOLDFAST_"
	// folderFile is read in the folder in which a command is run.
	folderFile = "holdfast.yaml"
)

// applySettings sets the flags that were not given on the command line from the
// environment, and else from the settings file.
func applySettings(cmd *cobra.Command) error {
	variables := koanf.New("/") // names of settings hold no slash
	if err := variables.Load(env.Provider("/", env.Opt{Prefix: envPrefix, TransformFunc: settingOf}), nil); err != nil {
		return usageError("environment: %w", err)
	}
	k, err := fileSettings(cmd, variables)
	if err != nil {
		return err
	}
	if err := k.Merge(variables); err != nil {
		return usageError("environment: %w", err)
	}
	var failure error
	cmd.Flags().VisitAll(func(f *pflag.Flag) {
		if failure == nil && !f.Changed && k.Exists(f.Name) {
			failure = setFlag(f, k)
		}
	})
	return failure
}

// fileSettings are those of the settings file. What dev says is not for a command that is told to
// reach something else: above all not that this may be in the clear.
func fileSettings(cmd *cobra.Command, variables *koanf.Koanf) (*koanf.Koanf, error) {
	k := koanf.New("/")
	path, explicit := settingsFile(cmd)
	if path == "" {
		return k, nil
	}
	if path == folderFile && !explicit && !isTrusted(path) {
		return nil, usageError("./%s is another user's, or everybody may write it; chown or chmod o-w it, or name it by --config", path)
	}
	err := k.Load(file.Provider(path), yaml.Parser())
	if err != nil && (explicit || !errors.Is(err, fs.ErrNotExist)) {
		return nil, usageError("settings file %s: %w", path, err)
	}
	if path == devSettingsFile() && !explicit && elsewhere(cmd.Flags(), variables, k) {
		return koanf.New("/"), nil
	}
	return k, nil
}

// elsewhere reports whether a command is told to reach something that dev has not started.
func elsewhere(flags *pflag.FlagSet, variables, dev *koanf.Koanf) bool {
	for _, name := range []string{"etcd", "coordinator", "shard"} {
		f := flags.Lookup(name)
		if f == nil {
			continue
		}
		var told []string
		if list, ok := f.Value.(pflag.SliceValue); ok && f.Changed {
			told = list.GetSlice()
		} else if variables.Exists(name) {
			told = valuesOf(name, variables)
		}
		known := valuesOf(name, dev)
		if slices.ContainsFunc(told, func(value string) bool { return !slices.Contains(known, value) }) {
			return true
		}
	}
	return false
}

// settingOf turns a variable into the setting's name: HOLDFAST_HTTP_LISTEN is
// http-listen, and HOLDFAST_SHARD_EU_WEST the shard eu-west.
func settingOf(key, value string) (string, any) {
	name := strings.ReplaceAll(strings.ToLower(strings.TrimPrefix(key, envPrefix)), "_", "-")
	if shard, ok := strings.CutPrefix(name, "shard-"); ok {
		return "shard/" + shard, value
	}
	return name, value
}

func setFlag(f *pflag.Flag, k *koanf.Koanf) error {
	for _, value := range valuesOf(f.Name, k) {
		if err := f.Value.Set(value); err != nil {
			return usageError("setting %s: %w", f.Name, err)
		}
		f.Changed = true
	}
	return nil
}

// valuesOf are what a flag is to be set to, one after the other.
func valuesOf(name string, k *koanf.Koanf) (values []string) {
	switch {
	case name == "shard":
		for shard, dsn := range k.StringMap("shard") {
			values = append(values, shard+"="+dsn)
		}
		slices.Sort(values)
		return values
	case len(k.Strings(name)) > 0:
		return []string{strings.Join(k.Strings(name), ",")}
	}
	return []string{k.String(name)}
}

// settingsFile is the file to read, and whether somebody asked for it by name.
func settingsFile(cmd *cobra.Command) (path string, explicit bool) {
	if path, _ := cmd.Flags().GetString("config"); path != "" {
		return path, true
	}
	if path := os.Getenv(envPrefix + "CONFIG"); path != "" {
		return path, true
	}
	if _, err := os.Stat(folderFile); err == nil {
		return folderFile, false
	}
	// What dev says is for commands that look at it, and must not make a server insecure.
	if cmd.Name() != "coordinator" && cmd.Name() != "worker" && isOurs(devSettingsFile()) {
		return devSettingsFile(), false
	}
	return "", false
}

// isOurs reports whether a file is this user's alone to write: anybody may make one in the folder
// of temporary files.
func isOurs(path string) bool {
	info, err := os.Lstat(path)
	return err == nil && info.Mode().IsRegular() && info.Mode().Perm()&0o022 == 0 && ownedBy(info, os.Getuid())
}

// isTrusted reports whether a file, and the link to it, is this user's or root's, and not for
// everybody to write: whoever runs a command in a folder of others must not be told by them whom
// to trust. A group that may write is one that the owner trusts; many systems give each user one
// of his own.
func isTrusted(path string) bool {
	link, err := os.Lstat(path)
	if err != nil || !ownedBy(link, os.Getuid(), 0) {
		return false
	}
	info, err := os.Stat(path)
	return err == nil && info.Mode().Perm()&0o002 == 0 && ownedBy(info, os.Getuid(), 0)
}

// devSettingsFile is where a running `holdfast dev` tells the other commands of
// the same user how to reach it.
func devSettingsFile() string {
	return filepath.Join(os.TempDir(), "holdfast-dev-"+strconv.Itoa(os.Getuid())+".yaml")
}
