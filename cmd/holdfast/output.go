package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"text/tabwriter"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"

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
	out := cmd.OutOrStdout()
	var rows [][]any
	for _, p := range products {
		if asJSON {
			if err := printMessage(out, p); err != nil {
				return err
			}
		}
		rows = append(rows, []any{p.GetProductId(), p.GetAmountInStorage(), p.GetAmountAvailableForPurchase()})
	}
	if asJSON {
		return nil
	}
	return table(out, []any{"PRODUCT", "IN STORAGE", "AVAILABLE"}, rows)
}

func printPurchases(cmd *cobra.Command, asJSON bool, purchases ...*holdfastv1.Purchase) error {
	out := cmd.OutOrStdout()
	var rows [][]any
	for _, p := range purchases {
		if asJSON {
			if err := printMessage(out, p); err != nil {
				return err
			}
		}
		rows = append(rows, []any{
			p.GetPurchaseId(), p.GetProductId(), p.GetAmount(), p.GetCustomerId(),
			stateName(p.GetState()), p.GetCreateTime().AsTime().Format("2006-01-02 15:04:05.000"),
		})
	}
	if asJSON {
		return nil
	}
	return table(out, []any{"PURCHASE", "PRODUCT", "AMOUNT", "CUSTOMER", "STATE", "CREATED"}, rows)
}

func stateName(s holdfastv1.PurchaseState) string {
	if s == holdfastv1.PurchaseState_PURCHASE_STATE_CONFIRMED {
		return "confirmed"
	}
	return s.String()
}

// callError turns an answer of a coordinator into an error with advice and an
// exit code.
func callError(err error) error {
	if err == nil {
		return nil
	}
	st := status.Convert(err)
	failed := errors.New(st.Message())
	switch {
	case holdfastv1.Reason(err) == holdfastv1.ReasonInsufficientStock:
		return &exitError{exitRefused, fmt.Errorf("not enough stock: %w", failed)}
	case holdfastv1.Reason(err) != "" && st.Code() == codes.Unavailable:
		return &exitError{exitUnavailable, failed}
	case st.Code() == codes.Unavailable:
		return &exitError{exitUnavailable, fmt.Errorf(
			"no coordinator answers: %w\nIs one running? `holdfast dev` starts everything; --coordinator or HOLDFAST_COORDINATOR names another", failed)}
	case st.Code() == codes.InvalidArgument:
		return &exitError{exitUsage, failed}
	}
	return failed
}
