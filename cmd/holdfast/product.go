package main

import (
	"context"
	"strconv"

	"github.com/spf13/cobra"

	"github.com/holdfast-io/holdfast/api/client"
	holdfastv1 "github.com/holdfast-io/holdfast/api/holdfast/v1"
)

func newProduct() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "product",
		Short: "Create products, deliver units of them, and see what is left",
	}
	cmd.AddCommand(newProductCreate(), newProductDeliver(), newProductGet(), newProductList())
	return cmd
}

func newProductCreate() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "create PRODUCT AMOUNT",
		Short: "Create a product with an amount in storage and limits, which never change",
		Args:  arguments("PRODUCT", "AMOUNT"),
	}
	flags := cmd.Flags()
	connected, asJSON := coordinatorFlags(flags), jsonFlag(flags)
	perCustomer := flags.Int64("max-per-customer", 0, "most units that one customer may have; 0 for no limit")
	perPurchase := flags.Int64("max-per-purchase", 0, "most units of one purchase; 0 for no limit")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		amount, err := wholeNumber("AMOUNT", args[1])
		if err != nil {
			return err
		}
		return connected(func(c *client.Client) error {
			p, err := c.CreateProduct(cmd.Context(), &holdfastv1.CreateProductRequest{
				ProductId: args[0], AmountInStorage: amount, MaxPerCustomer: *perCustomer, MaxPerPurchase: *perPurchase,
			})
			if err != nil {
				return err
			}
			return printProducts(cmd, *asJSON, p)
		})
	}
	return cmd
}

func newProductDeliver() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "deliver PRODUCT AMOUNT",
		Short: "Add units to a product, or take away what was found missing",
		Example: `  holdfast product deliver ticket 50
  holdfast product deliver ticket -- -3`,
		Args: arguments("PRODUCT", "AMOUNT"),
	}
	flags := cmd.Flags()
	connected, asJSON, request := coordinatorFlags(flags), jsonFlag(flags), requestFlag(flags)
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		amount, err := wholeNumber("AMOUNT", args[1])
		if err != nil {
			return err
		}
		return connected(func(c *client.Client) error {
			d, err := c.CreateDelivery(cmd.Context(), &holdfastv1.CreateDeliveryRequest{
				ProductId: args[0], Amount: amount, RequestId: *request,
			})
			if err != nil {
				return err
			}
			return printDelivery(cmd, *asJSON, d)
		})
	}
	return cmd
}

func wholeNumber(name, s string) (int64, error) {
	n, err := strconv.ParseInt(s, 10, 64)
	if err != nil {
		return 0, usageError("%s: %q is not a whole number", name, s)
	}
	return n, nil
}

func newProductGet() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "get PRODUCT",
		Short: "Show a product and exactly how many units are left",
		Args:  arguments("PRODUCT"),
	}
	connected, asJSON := coordinatorFlags(cmd.Flags()), jsonFlag(cmd.Flags())
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		return connected(func(c *client.Client) error {
			p, err := c.GetProduct(cmd.Context(), &holdfastv1.GetProductRequest{ProductId: args[0]})
			if err != nil {
				return err
			}
			return printProducts(cmd, *asJSON, p)
		})
	}
	return cmd
}

func newProductList() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "list",
		Short: "List all products by id",
		Args:  noArguments,
	}
	connected, asJSON := coordinatorFlags(cmd.Flags()), jsonFlag(cmd.Flags())
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		return connected(func(c *client.Client) error {
			all, err := allProducts(cmd.Context(), c)
			if err != nil {
				return err
			}
			return printProducts(cmd, *asJSON, all...)
		})
	}
	return cmd
}

func allProducts(ctx context.Context, c *client.Client) (all []*holdfastv1.Product, err error) {
	req := &holdfastv1.ListProductsRequest{PageSize: 1000}
	for {
		resp, err := c.ListProducts(ctx, req)
		if err != nil {
			return nil, err
		}
		all = append(all, resp.GetProducts()...)
		if req.PageToken = resp.GetNextPageToken(); req.GetPageToken() == "" {
			return all, nil
		}
	}
}
