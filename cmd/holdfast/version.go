package main

import (
	"fmt"
	"runtime"
	"runtime/debug"

	"github.com/spf13/cobra"
)

func newVersion() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "version",
		Short: "Print the version",
		Args:  noArguments,
	}
	asJSON := jsonFlag(cmd.Flags())
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		version, revision := buildVersion()
		if *asJSON {
			return printJSON(cmd.OutOrStdout(), map[string]string{
				"version": version, "revision": revision, "go": runtime.Version(),
			})
		}
		_, err := fmt.Fprintf(cmd.OutOrStdout(), "holdfast %s %s (%s)\n", version, revision, runtime.Version())
		return err
	}
	return cmd
}

// buildVersion is what the Go toolchain recorded in the binary.
func buildVersion() (version, revision string) {
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return "unknown", ""
	}
	for _, s := range info.Settings {
		if s.Key == "vcs.revision" {
			revision = s.Value
		}
	}
	return info.Main.Version, revision
}
