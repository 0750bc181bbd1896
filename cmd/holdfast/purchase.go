package main

import (
	"context"

	"github.com/spf13/cobra"

	"github.com/holdfast-io/holdfast/api/client"
	holdfastv1 "github.com/holdfast-io/holdfast/api/holdfast/v1"
)

func newPurchase() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "purchase",
		Short: "Look purchases up, and confirm, cancel, extend or return them",
	}
	cmd.AddCommand(
		newPurchaseGet(), newPurchaseList(),
		newPurchaseConfirm(), newPurchaseCancel(), newPurchaseExtend(), newPurchaseReturn(),
	)
	return cmd
}

func newPurchaseGet() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "get PURCHASE",
		Short: "Show one purchase",
	}
	return purchaseCall(cmd, func(ctx context.Context, c *client.Client, purchase string) (*holdfastv1.Purchase, error) {
		return c.GetPurchase(ctx, &holdfastv1.GetPurchaseRequest{PurchaseId: purchase})
	})
}

// purchaseCall makes a command of a call about one purchase, and prints what it has become.
func purchaseCall(
	cmd *cobra.Command, call func(ctx context.Context, c *client.Client, purchase string) (*holdfastv1.Purchase, error),
) *cobra.Command {
	connected, asJSON := coordinatorFlags(cmd.Flags()), jsonFlag(cmd.Flags())
	cmd.Args = arguments("PURCHASE")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		return connected(func(c *client.Client) error {
			p, err := call(cmd.Context(), c, args[0])
			if err != nil {
				return err
			}
			return printPurchases(cmd, *asJSON, p)
		})
	}
	return cmd
}

func newPurchaseConfirm() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "confirm PURCHASE",
		Short: "Sell what is held, or a part of it; the rest is given back",
	}
	request := requestFlag(cmd.Flags())
	amount := cmd.Flags().Int64("amount", 0, "units to confirm (default all)")
	return purchaseCall(cmd, func(ctx context.Context, c *client.Client, purchase string) (*holdfastv1.Purchase, error) {
		return c.ConfirmPurchase(ctx, &holdfastv1.ConfirmPurchaseRequest{PurchaseId: purchase, Amount: *amount, RequestId: *request})
	})
}

func newPurchaseCancel() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "cancel PURCHASE",
		Short: "Give a hold back",
	}
	request := requestFlag(cmd.Flags())
	return purchaseCall(cmd, func(ctx context.Context, c *client.Client, purchase string) (*holdfastv1.Purchase, error) {
		return c.CancelPurchase(ctx, &holdfastv1.CancelPurchaseRequest{PurchaseId: purchase, RequestId: *request})
	})
}

func newPurchaseExtend() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "extend PURCHASE",
		Short: "Move the end of a hold",
	}
	flags := cmd.Flags()
	request := requestFlag(flags)
	lasts := flags.Duration("for", 0, "end it this long from now (default as long as the coordinator has it for new holds)")
	return purchaseCall(cmd, func(ctx context.Context, c *client.Client, purchase string) (_ *holdfastv1.Purchase, err error) {
		hold := &holdfastv1.Hold{}
		if flags.Changed("for") {
			if hold, err = holdFor("for", *lasts); err != nil {
				return nil, err
			}
		}
		return c.ExtendPurchase(ctx, &holdfastv1.ExtendPurchaseRequest{PurchaseId: purchase, Hold: hold, RequestId: *request})
	})
}

func newPurchaseReturn() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "return PURCHASE",
		Short: "Give back what is sold, or a part of it",
	}
	request := requestFlag(cmd.Flags())
	amount := cmd.Flags().Int64("amount", 0, "units to give back (default all that are left of it)")
	return purchaseCall(cmd, func(ctx context.Context, c *client.Client, purchase string) (*holdfastv1.Purchase, error) {
		return c.ReturnPurchase(ctx, &holdfastv1.ReturnPurchaseRequest{PurchaseId: purchase, Amount: *amount, RequestId: *request})
	})
}

func newPurchaseList() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "list",
		Short: "List purchases, one region after the other, oldest first",
		Args:  noArguments,
	}
	flags := cmd.Flags()
	connected, asJSON := coordinatorFlags(flags), jsonFlag(flags)
	product := flags.String("product", "", "only purchases of this product")
	customer := flags.String("customer", "", "only purchases of this customer")
	region := flags.String("region", "", "only purchases stored in this region")
	limit := flags.Int("limit", 1000, "at most this many purchases; 0 for all")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		req := &holdfastv1.ListPurchasesRequest{
			ProductId: *product, CustomerId: *customer, Region: *region, PageSize: 1000,
		}
		return connected(func(c *client.Client) error {
			some, err := listPurchases(cmd.Context(), c, req, *limit)
			if err != nil {
				return err
			}
			return printPurchases(cmd, *asJSON, some...)
		})
	}
	return cmd
}

func listPurchases(
	ctx context.Context, c *client.Client, req *holdfastv1.ListPurchasesRequest, limit int,
) (some []*holdfastv1.Purchase, err error) {
	for {
		resp, err := c.ListPurchases(ctx, req)
		if err != nil {
			return nil, err
		}
		some = append(some, resp.GetPurchases()...)
		if limit > 0 && len(some) >= limit {
			return some[:limit], nil
		}
		if req.PageToken = resp.GetNextPageToken(); req.GetPageToken() == "" {
			return some, nil
		}
	}
}
