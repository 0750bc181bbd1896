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

const envPrefix = "HOLDFAST_"

// applySettings sets the flags that were not given on the command line from the
// environment, and else from the settings file.
func applySettings(cmd *cobra.Command) error {
	k := koanf.New("/") // names of settings hold no slash
	path, explicit := settingsFile(cmd)
	if path != "" {
		err := k.Load(file.Provider(path), yaml.Parser())
		if err != nil && (explicit || !errors.Is(err, fs.ErrNotExist)) {
			return usageError("settings file %s: %w", path, err)
		}
	}
	if err := k.Load(env.Provider("/", env.Opt{Prefix: envPrefix, TransformFunc: settingOf}), nil); err != nil {
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
	var values []string
	switch {
	case f.Name == "shard":
		for shard, dsn := range k.StringMap("shard") {
			values = append(values, shard+"="+dsn)
		}
		slices.Sort(values)
	case len(k.Strings(f.Name)) > 0:
		values = []string{strings.Join(k.Strings(f.Name), ",")}
	default:
		values = []string{k.String(f.Name)}
	}
	for _, value := range values {
		if err := f.Value.Set(value); err != nil {
			return usageError("setting %s: %w", f.Name, err)
		}
		f.Changed = true
	}
	return nil
}

// settingsFile is the file to read, and whether somebody asked for it by name.
func settingsFile(cmd *cobra.Command) (path string, explicit bool) {
	if path, _ := cmd.Flags().GetString("config"); path != "" {
		return path, true
	}
	if path := os.Getenv(envPrefix + "CONFIG"); path != "" {
		return path, true
	}
	if _, err := os.Stat("holdfast.yaml"); err == nil {
		return "holdfast.yaml", false
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
	return err == nil && info.Mode().IsRegular() && info.Mode().Perm()&0o022 == 0 && ownedByUs(info)
}

// devSettingsFile is where a running `holdfast dev` tells the other commands of
// the same user how to reach it.
func devSettingsFile() string {
	return filepath.Join(os.TempDir(), "holdfast-dev-"+strconv.Itoa(os.Getuid())+".yaml")
}
