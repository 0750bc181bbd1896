package main

import (
	"github.com/spf13/cobra"
	"google.golang.org/grpc"

	holdfastv1 "github.com/holdfast-io/holdfast/api/holdfast/v1"
)

func newPurchase() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "purchase",
		Short: "Look purchases up",
	}
	cmd.AddCommand(newPurchaseGet(), newPurchaseList())
	return cmd
}

func newPurchaseGet() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "get PURCHASE",
		Short: "Show one purchase",
		Args:  arguments("PURCHASE"),
	}
	connect, asJSON := coordinatorFlag(cmd.Flags()), jsonFlag(cmd.Flags())
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		return withConn(connect, func(conn *grpc.ClientConn) error {
			p, err := holdfastv1.NewPurchaseServiceClient(conn).GetPurchase(cmd.Context(),
				&holdfastv1.GetPurchaseRequest{PurchaseId: args[0]})
			if err != nil {
				return callError(err)
			}
			return printPurchases(cmd, *asJSON, p)
		})
	}
	return cmd
}

func newPurchaseList() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "list",
		Short: "List purchases, one region after the other, oldest first",
		Args:  noArguments,
	}
	flags := cmd.Flags()
	connect, asJSON := coordinatorFlag(flags), jsonFlag(flags)
	product := flags.String("product", "", "only purchases of this product")
	customer := flags.String("customer", "", "only purchases of this customer")
	region := flags.String("region", "", "only purchases stored in this region")
	limit := flags.Int("limit", 1000, "at most this many purchases; 0 for all")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		req := &holdfastv1.ListPurchasesRequest{
			ProductId: *product, CustomerId: *customer, Region: *region, PageSize: 1000,
		}
		return withConn(connect, func(conn *grpc.ClientConn) error {
			return listPurchases(cmd, holdfastv1.NewPurchaseServiceClient(conn), req, *limit, *asJSON)
		})
	}
	return cmd
}

func listPurchases(
	cmd *cobra.Command, client holdfastv1.PurchaseServiceClient, req *holdfastv1.ListPurchasesRequest, limit int, asJSON bool,
) error {
	var all []*holdfastv1.Purchase
	for {
		resp, err := client.ListPurchases(cmd.Context(), req)
		if err != nil {
			return callError(err)
		}
		all = append(all, resp.GetPurchases()...)
		if limit > 0 && len(all) >= limit {
			return printPurchases(cmd, asJSON, all[:limit]...)
		}
		if req.PageToken = resp.GetNextPageToken(); req.GetPageToken() == "" {
			return printPurchases(cmd, asJSON, all...)
		}
	}
}
