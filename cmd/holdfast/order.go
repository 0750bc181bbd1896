package main

import (
	"context"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/google/uuid"
	"github.com/spf13/cobra"
	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/holdfast-io/holdfast/api/client"
	holdfastv1 "github.com/holdfast-io/holdfast/api/holdfast/v1"
)

func newOrder() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "order",
		Short: "Buy several products at once, all of them or none",
	}
	cmd.AddCommand(
		newOrderCreate(),
		orderCommand("get", "Show an order", func(ctx context.Context, c holdfastv1.OrderServiceClient, id string) (*holdfastv1.Order, error) {
			return c.GetOrder(ctx, &holdfastv1.GetOrderRequest{OrderId: id})
		}),
		orderCommand("pay", "Pay a held order and confirm it", func(ctx context.Context, c holdfastv1.OrderServiceClient, id string) (*holdfastv1.Order, error) {
			return c.PayOrder(ctx, &holdfastv1.PayOrderRequest{OrderId: id})
		}),
		orderCommand("confirm", "Confirm a held order that has no price", func(ctx context.Context, c holdfastv1.OrderServiceClient, id string) (*holdfastv1.Order, error) {
			return c.ConfirmOrder(ctx, &holdfastv1.ConfirmOrderRequest{OrderId: id, RequestId: "cli-confirm"})
		}),
		orderCommand("cancel", "Give a held order back", func(ctx context.Context, c holdfastv1.OrderServiceClient, id string) (*holdfastv1.Order, error) {
			return c.CancelOrder(ctx, &holdfastv1.CancelOrderRequest{OrderId: id, RequestId: "cli-cancel"})
		}),
	)
	return cmd
}

// orderCommand does one thing to an order. It may be repeated: the request id is always the
// same one.
func orderCommand(
	name, short string, do func(context.Context, holdfastv1.OrderServiceClient, string) (*holdfastv1.Order, error),
) *cobra.Command {
	cmd := &cobra.Command{Use: name + " ORDER", Short: short, Args: arguments("ORDER")}
	connected, asJSON := coordinatorFlags(cmd.Flags()), jsonFlag(cmd.Flags())
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		return connected(func(c *client.Client) error {
			o, err := do(cmd.Context(), c, args[0])
			if err != nil {
				return callError(err)
			}
			return printOrder(cmd, *asJSON, o)
		})
	}
	return cmd
}

func newOrderCreate() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "create PRODUCT=AMOUNT[@PRICE]...",
		Short: "Order, pay and confirm; or only hold, with --hold",
		Long: `create orders amounts of products, with prices of one unit in the smallest unit of
--currency. When it ends without an answer, repeat it with the --request-id that it
printed: an order has one outcome.`,
		Example: "  holdfast order create chair=4@4999 table=1@25001 --customer ann --payment-method simulated",
		Args:    cobra.MinimumNArgs(1),
	}
	flags := cmd.Flags()
	connected, asJSON := coordinatorFlags(flags), jsonFlag(flags)
	currency := flags.String("currency", "EUR", "of the prices, a code of ISO 4217")
	customer := flags.String("customer", "", "who orders (required)")
	region := flags.String("region", "", "shard that stores the order (default follows from the customer)")
	method := flags.String("payment-method", "", "provider, and after a colon its token of the customer's means of payment")
	request := flags.String("request-id", "", "idempotency key; give the same one to repeat (default a new one)")
	hold := flags.Duration("hold", 0, "only hold the lines, for so long (default pay and confirm at once)")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		req := &holdfastv1.CreateOrderRequest{
			CustomerId: *customer, Region: *region, PaymentMethod: *method, RequestId: *request, Hold: holdOf(*hold),
		}
		for _, arg := range args {
			line, err := orderLine(arg, *currency)
			if err != nil {
				return err
			}
			req.Lines = append(req.Lines, line)
		}
		if req.RequestId == "" {
			req.RequestId = uuid.NewString()
			fmt.Fprintf(cmd.ErrOrStderr(), "request id: %s\n", req.GetRequestId())
		}
		return connected(func(c *client.Client) error {
			o, err := c.CreateOrder(cmd.Context(), req)
			if err != nil {
				return callError(err)
			}
			return printOrder(cmd, *asJSON, o)
		})
	}
	return cmd
}

func holdOf(d time.Duration) *holdfastv1.Hold {
	if d == 0 {
		return nil
	}
	return &holdfastv1.Hold{Expiration: &holdfastv1.Hold_Duration{Duration: durationpb.New(d)}}
}

// orderLine reads PRODUCT=AMOUNT[@PRICE]. A product may hold any of the signs itself.
func orderLine(text, currency string) (*holdfastv1.OrderLine, error) {
	at := strings.LastIndexByte(text, '=')
	if at < 1 {
		return nil, usageError("%q is not PRODUCT=AMOUNT[@PRICE]", text)
	}
	amount, price, priced := strings.Cut(text[at+1:], "@")
	line := &holdfastv1.OrderLine{ProductId: text[:at]}
	var err error
	if line.Amount, err = strconv.ParseInt(amount, 10, 64); err != nil {
		return nil, usageError("%q: the amount is not a number", text)
	}
	if priced {
		minor, err := strconv.ParseInt(price, 10, 64)
		if err != nil {
			return nil, usageError("%q: the price is not a number of the currency's smallest unit", text)
		}
		line.UnitPrice = &holdfastv1.Money{CurrencyCode: currency, MinorUnits: minor}
	}
	return line, nil
}

func printOrder(cmd *cobra.Command, asJSON bool, o *holdfastv1.Order) error {
	out := cmd.OutOrStdout()
	if asJSON {
		return printMessage(out, o)
	}
	fmt.Fprintf(out, "order %s of %s: %s\n", o.GetOrderId(), o.GetCustomerId(), shortName(o.GetState().String(), "PURCHASE_STATE_"))
	if p := o.GetPayment(); p != nil {
		fmt.Fprintf(out, "payment of %d %s: %s, captured %d, refunded %d\n", p.GetAmount().GetMinorUnits(), p.GetAmount().GetCurrencyCode(),
			shortName(p.GetState().String(), "PAYMENT_STATE_"), p.GetCapturedMinorUnits(), p.GetRefundedMinorUnits())
	}
	return printPurchases(cmd, false, o.GetPurchases()...)
}

func shortName(name, prefix string) string { return strings.ToLower(strings.TrimPrefix(name, prefix)) }
