package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"
	"text/tabwriter"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/holdfast-io/holdfast/api/client"
	holdfastv1 "github.com/holdfast-io/holdfast/api/holdfast/v1"
)

func jsonFlag(flags *pflag.FlagSet) *bool {
	return flags.Bool("json", false, "print JSON, one object a line")
}

// printMessage writes a message of the API as one line of JSON, as HTTP does.
func printMessage(w io.Writer, m proto.Message) error {
	encoded, err := protojson.MarshalOptions{UseProtoNames: true, EmitUnpopulated: true}.Marshal(m)
	if err != nil {
		return err
	}
	_, err = fmt.Fprintf(w, "%s\n", encoded)
	return err
}

func printJSON(w io.Writer, v any) error { return json.NewEncoder(w).Encode(v) }

// table writes rows of cells in columns.
func table(w io.Writer, header []any, rows [][]any) error {
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	for _, row := range append([][]any{header}, rows...) {
		for i, cell := range row {
			if i > 0 {
				fmt.Fprint(t, "\t")
			}
			fmt.Fprint(t, cell)
		}
		fmt.Fprintln(t)
	}
	return t.Flush()
}

func printProducts(cmd *cobra.Command, asJSON bool, products ...*holdfastv1.Product) error {
	return printAll(cmd, asJSON, products,
		[]any{"PRODUCT", "IN STORAGE", "DELIVERED", "AVAILABLE", "PER CUSTOMER", "PER PURCHASE"},
		func(p *holdfastv1.Product) []any {
			return []any{
				p.GetProductId(), p.GetAmountInStorage(), p.GetAmountDelivered(), p.GetAmountAvailableForPurchase(),
				limit(p.GetMaxPerCustomer()), limit(p.GetMaxPerPurchase()),
			}
		})
}

// limit shows a limit, of which 0 is none.
func limit(units int64) any {
	if units == 0 {
		return "-"
	}
	return units
}

func printPurchases(cmd *cobra.Command, asJSON bool, purchases ...*holdfastv1.Purchase) error {
	return printAll(cmd, asJSON, purchases,
		[]any{"PURCHASE", "PRODUCT", "AMOUNT", "LEFT", "CUSTOMER", "STATE", "CREATED", "EXPIRES"},
		func(p *holdfastv1.Purchase) []any {
			return []any{
				p.GetPurchaseId(), p.GetProductId(), p.GetAmount(), p.GetAmount() - p.GetAmountReleased(), p.GetCustomerId(),
				stateName(p.GetState()), instant(p.GetCreateTime()), instant(p.GetExpireTime()),
			}
		})
}

func printDelivery(cmd *cobra.Command, asJSON bool, d *holdfastv1.Delivery) error {
	return printAll(cmd, asJSON, []*holdfastv1.Delivery{d}, []any{"DELIVERY", "PRODUCT", "AMOUNT", "CREATED"},
		func(d *holdfastv1.Delivery) []any {
			return []any{d.GetDeliveryId(), d.GetProductId(), d.GetAmount(), instant(d.GetCreateTime())}
		})
}

// printAll prints messages of the API as JSON, or as rows of a table.
func printAll[M proto.Message](cmd *cobra.Command, asJSON bool, all []M, header []any, row func(M) []any) error {
	out := cmd.OutOrStdout()
	var rows [][]any
	for _, m := range all {
		if !asJSON {
			rows = append(rows, row(m))
		} else if err := printMessage(out, m); err != nil {
			return err
		}
	}
	if asJSON {
		return nil
	}
	return table(out, header, rows)
}

func instant(t *timestamppb.Timestamp) string {
	if t == nil {
		return "-"
	}
	return t.AsTime().Format("2006-01-02 15:04:05.000")
}

func stateName(s holdfastv1.PurchaseState) string {
	return strings.ToLower(strings.TrimPrefix(s.String(), "PURCHASE_STATE_"))
}

// callError turns the error of a call to a coordinator into one with advice and an exit
// code. Others it leaves as they are.
func callError(err error) error {
	var e *client.Error
	if !errors.As(err, &e) {
		return err
	}
	failed := errors.New(e.Message)
	switch {
	case e.Reason == client.ErrInsufficientStock:
		return &exitError{exitRefused, fmt.Errorf("not enough stock: %w", failed)}
	case e.Reason != "" && e.Code == codes.Unavailable, e.Reason == client.ErrOverloaded:
		return &exitError{exitUnavailable, retryAdvice(e)}
	case e.Code == codes.Unavailable, e.Code == codes.DeadlineExceeded:
		return &exitError{exitUnavailable, fmt.Errorf(
			"no coordinator answers: %w\nIs one running? `holdfast dev` starts everything; --coordinator or HOLDFAST_COORDINATOR names another", retryAdvice(e))}
	case e.Code == codes.InvalidArgument:
		return &exitError{exitUsage, failed}
	}
	return failed
}

// retryAdvice says how to repeat a call that may have been done.
func retryAdvice(e *client.Error) error {
	if e.RequestID == "" {
		return errors.New(e.Message)
	}
	return fmt.Errorf("%s; to repeat it safely: --request-id %s", e.Message, e.RequestID)
}
