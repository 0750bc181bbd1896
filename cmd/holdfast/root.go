package main

import (
	"github.com/spf13/cobra"
)

func newRoot() *cobra.Command {
	root := &cobra.Command{
		Use:   "holdfast",
		Short: "Sell limited stock across databases, and never too much of it",
		Long: `holdfast sells limited stock whose purchases live in several databases.

Every flag can also be given as an environment variable (--http-listen is
HOLDFAST_HTTP_LISTEN) or in a YAML file (http-listen:) named by --config or
HOLDFAST_CONFIG. A flag wins over the environment, and that over the file.

Exit codes: 0 done, 1 failed or found something wrong, 2 wrong usage,
3 not enough stock, 4 a server did not answer.`,
		SilenceErrors: true,
		SilenceUsage:  true,
		PersistentPreRunE: func(cmd *cobra.Command, _ []string) error {
			visible, _ := cmd.Flags().GetStringArray("shard")
			if err := applySettings(cmd); err != nil {
				return err
			}
			return refuseVisiblePasswords(cmd, visible)
		},
	}
	root.PersistentFlags().String("config", "", "YAML file with settings (default ./holdfast.yaml, else that of a running `holdfast dev`)")
	root.SetFlagErrorFunc(func(cmd *cobra.Command, err error) error {
		return usageError("%w; see %s --help", err, cmd.CommandPath())
	})
	root.AddCommand(
		newDemo(), newDev(), newCoordinator(), newWorker(), newMigrate(),
		newProduct(), newBuy(), newPurchase(), newOrder(), newWatch(), newMovements(), newWebhook(), newReplay(), newLoad(), newCarts(),
		newAudit(), newStatus(), newTopology(), newVersion(), newPaymentSimulator(), newBench(), newChaos(), newFailover(), newEtcdMember(),
	)
	return root
}
