package main

import (
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/holdfast-io/holdfast/api/client"
	holdfastv1 "github.com/holdfast-io/holdfast/api/holdfast/v1"
)

func newBuy() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "buy PRODUCT",
		Short: "Buy units of a product, or hold them",
		Example: `  holdfast buy ticket --amount 2 --customer ann --region eu
  holdfast buy ticket --customer ann --hold-for 5m`,
		Args: arguments("PRODUCT"),
	}
	flags := cmd.Flags()
	connected, asJSON := coordinatorFlags(flags), jsonFlag(flags)
	amount := flags.Int64("amount", 1, "units")
	customer := flags.String("customer", "", "who buys (required)")
	region := flags.String("region", "", "shard that stores the purchase (default follows from the customer)")
	payment := flags.String("payment-method", "", "how the customer pays; stored with the purchase")
	request, hold := requestFlag(flags), holdFlags(flags)
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		h, err := hold()
		if err != nil {
			return err
		}
		return connected(func(c *client.Client) error {
			p, err := c.CreatePurchase(cmd.Context(), &holdfastv1.CreatePurchaseRequest{
				ProductId: args[0], Amount: *amount, CustomerId: *customer, Region: *region,
				PaymentMethod: *payment, RequestId: *request, Hold: h,
			})
			if err != nil {
				return err
			}
			return printPurchases(cmd, *asJSON, p)
		})
	}
	return cmd
}

func requestFlag(flags *pflag.FlagSet) *string {
	return flags.String("request-id", "", "idempotency key; give the same one to repeat (default a new one)")
}

// holdFlags returns how to read the hold that is asked for, nil for none.
func holdFlags(flags *pflag.FlagSet) func() (*holdfastv1.Hold, error) {
	hold := flags.Bool("hold", false, "hold the units, for as long as the coordinator has it by default, instead of buying them at once")
	lasts := flags.Duration("hold-for", 0, "hold them for this long")
	return func() (*holdfastv1.Hold, error) {
		switch {
		case flags.Changed("hold-for"):
			return holdFor("hold-for", *lasts)
		case *hold:
			return &holdfastv1.Hold{}, nil
		}
		return nil, nil
	}
}

func holdFor(flag string, lasts time.Duration) (*holdfastv1.Hold, error) {
	if lasts <= 0 {
		return nil, usageError("--%s: want more than 0, got %v", flag, lasts)
	}
	return &holdfastv1.Hold{Expiration: &holdfastv1.Hold_Duration{Duration: durationpb.New(lasts)}}, nil
}
