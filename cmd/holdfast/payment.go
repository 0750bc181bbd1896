package main

import (
	"fmt"
	"os"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/holdfast-io/holdfast/worker/payment"
	"github.com/holdfast-io/holdfast/worker/payment/simulated"
	"github.com/holdfast-io/holdfast/worker/payment/stripe"
)

// paymentFlags are the providers that a worker can ask for money.
func paymentFlags(flags *pflag.FlagSet) func() (payment.Providers, error) {
	simulator := flags.String("payment-simulator", "", "URL of a `holdfast payment-simulator`, for payment methods `simulated:…` (default none)")
	keyFile := flags.String("stripe-key-file", "", "file with Stripe's secret key, for payment methods `stripe:…` (default none)")
	stripeURL := flags.String("stripe-url", "", "where Stripe's API is (default Stripe's own)")
	timeout := flags.Duration("payment-timeout", 20*time.Second, "for each question to a provider")
	return func() (payment.Providers, error) {
		named := map[string]payment.Provider{}
		if *simulator != "" {
			client, err := simulated.NewClient(simulated.Config{URL: *simulator})
			if err != nil {
				return payment.Providers{}, usageError("payment-simulator: %w", err)
			}
			named["simulated"] = payment.Within(client, *timeout)
		}
		if *keyFile != "" {
			key, err := os.ReadFile(*keyFile)
			if err != nil {
				return payment.Providers{}, usageError("stripe-key-file: %w", err)
			}
			provider, err := stripe.New(stripe.Config{SecretKey: strings.TrimSpace(string(key)), URL: *stripeURL})
			if err != nil {
				return payment.Providers{}, usageError("stripe-key-file: %w", err)
			}
			named["stripe"] = payment.Within(provider, *timeout)
		}
		return payment.NewProviders(named)
	}
}

func newPaymentSimulator() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "payment-simulator",
		Short: "Run a payment provider that moves no money, and fails on demand",
		Long: `Run a payment provider that moves no money: for tests, demonstrations and faults.
Its books are in memory, and listed at /ledger. Workers are given its address with
--payment-simulator, and purchases name it as payment method simulated, simulated:decline,
simulated:slow, simulated:timeout or simulated:lost.`,
		Args: noArguments,
	}
	flags := cmd.Flags()
	address := flags.String("listen", "127.0.0.1:7079", "address to serve on")
	var f simulated.Faults
	flags.Uint64Var(&f.Seed, "seed", 1, "decides which calls go wrong")
	flags.Float64Var(&f.Decline, "decline", 0, "probability that a payment is declined")
	flags.Float64Var(&f.LostRequest, "lost-request", 0, "probability that a call is lost on its way")
	flags.Float64Var(&f.LostReply, "lost-reply", 0, "probability that an answer is lost")
	flags.Float64Var(&f.TimeoutUndone, "timeout-undone", 0, "probability that nothing is done, and that is said late")
	flags.Float64Var(&f.TimeoutDone, "timeout-done", 0, "probability that a call is done, and answered late")
	flags.Float64Var(&f.Slow, "slow", 0, "probability that a call is answered after --delay")
	flags.DurationVar(&f.Delay, "delay", 2*time.Second, "of slow calls")
	flags.DurationVar(&f.Timeout, "timeout", 5*time.Second, "of late answers")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		server, err := simulated.NewServer(f)
		if err != nil {
			return usageError("%w", err)
		}
		listener, err := listen(cmd.Context(), "listen", *address)
		if err != nil {
			return err
		}
		fmt.Fprintf(cmd.ErrOrStderr(), "payment simulator on http://%s\n", listener.Addr())
		return server.Run(cmd.Context(), listener)
	}
	return cmd
}
