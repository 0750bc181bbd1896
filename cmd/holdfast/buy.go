package main

import (
	"github.com/google/uuid"
	"github.com/spf13/cobra"
	"google.golang.org/grpc"

	holdfastv1 "github.com/holdfast-io/holdfast/api/holdfast/v1"
)

func newBuy() *cobra.Command {
	cmd := &cobra.Command{
		Use:     "buy PRODUCT",
		Short:   "Buy units of a product",
		Example: "  holdfast buy ticket --amount 2 --customer ann --region eu",
		Args:    arguments("PRODUCT"),
	}
	flags := cmd.Flags()
	connect, asJSON := coordinatorFlag(flags), jsonFlag(flags)
	amount := flags.Int64("amount", 1, "units")
	customer := flags.String("customer", "", "who buys (required)")
	region := flags.String("region", "", "shard that stores the purchase (default follows from the customer)")
	payment := flags.String("payment-method", "", "how the customer pays; stored with the purchase")
	request := flags.String("request-id", "", "idempotency key; give the same one to repeat (default a new one)")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		if *request == "" {
			*request = uuid.NewString()
		}
		return withConn(connect, func(conn *grpc.ClientConn) error {
			p, err := holdfastv1.NewPurchaseServiceClient(conn).CreatePurchase(cmd.Context(), &holdfastv1.CreatePurchaseRequest{
				ProductId: args[0], Amount: *amount, CustomerId: *customer, Region: *region,
				PaymentMethod: *payment, RequestId: *request,
			})
			if err != nil {
				return callError(err)
			}
			return printPurchases(cmd, *asJSON, p)
		})
	}
	return cmd
}
