package main

import (
	"strconv"

	"github.com/spf13/cobra"
	"google.golang.org/grpc"

	holdfastv1 "github.com/holdfast-io/holdfast/api/holdfast/v1"
)

func newProduct() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "product",
		Short: "Create products and see what is left of them",
	}
	cmd.AddCommand(newProductCreate(), newProductGet(), newProductList())
	return cmd
}

// productCall gives a command the flags to reach a coordinator and to choose the
// output, and runs call with a client.
func productCall(cmd *cobra.Command, call func(*cobra.Command, holdfastv1.ProductServiceClient, bool, []string) error) *cobra.Command {
	connect, asJSON := coordinatorFlag(cmd.Flags()), jsonFlag(cmd.Flags())
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		return withConn(connect, func(conn *grpc.ClientConn) error {
			return call(cmd, holdfastv1.NewProductServiceClient(conn), *asJSON, args)
		})
	}
	return cmd
}

func withConn(connect func() (*grpc.ClientConn, error), call func(*grpc.ClientConn) error) error {
	conn, err := connect()
	if err != nil {
		return err
	}
	defer func() { _ = conn.Close() }()
	return call(conn)
}

func newProductCreate() *cobra.Command {
	return productCall(&cobra.Command{
		Use:   "create PRODUCT AMOUNT",
		Short: "Create a product with an amount in storage that never changes",
		Args:  arguments("PRODUCT", "AMOUNT"),
	}, func(cmd *cobra.Command, client holdfastv1.ProductServiceClient, asJSON bool, args []string) error {
		amount, err := strconv.ParseInt(args[1], 10, 64)
		if err != nil {
			return usageError("AMOUNT: %q is not a whole number", args[1])
		}
		p, err := client.CreateProduct(cmd.Context(),
			&holdfastv1.CreateProductRequest{ProductId: args[0], AmountInStorage: amount})
		if err != nil {
			return callError(err)
		}
		return printProducts(cmd, asJSON, p)
	})
}

func newProductGet() *cobra.Command {
	return productCall(&cobra.Command{
		Use:   "get PRODUCT",
		Short: "Show a product and exactly how many units are left",
		Args:  arguments("PRODUCT"),
	}, func(cmd *cobra.Command, client holdfastv1.ProductServiceClient, asJSON bool, args []string) error {
		p, err := client.GetProduct(cmd.Context(), &holdfastv1.GetProductRequest{ProductId: args[0]})
		if err != nil {
			return callError(err)
		}
		return printProducts(cmd, asJSON, p)
	})
}

func newProductList() *cobra.Command {
	return productCall(&cobra.Command{
		Use:   "list",
		Short: "List all products by id",
		Args:  noArguments,
	}, func(cmd *cobra.Command, client holdfastv1.ProductServiceClient, asJSON bool, _ []string) error {
		var all []*holdfastv1.Product
		req := &holdfastv1.ListProductsRequest{PageSize: 1000}
		for {
			resp, err := client.ListProducts(cmd.Context(), req)
			if err != nil {
				return callError(err)
			}
			all = append(all, resp.GetProducts()...)
			if req.PageToken = resp.GetNextPageToken(); req.GetPageToken() == "" {
				return printProducts(cmd, asJSON, all...)
			}
		}
	})
}
