package main

import (
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"github.com/holdfast-io/holdfast/api/client"
	holdfastv1 "github.com/holdfast-io/holdfast/api/holdfast/v1"
)

func newWatch() *cobra.Command {
	cmd := &cobra.Command{
		Use:     "watch",
		Short:   "Tell what happens, until Ctrl-C: purchases, holds, returns, deliveries",
		Example: "  holdfast watch --product ticket --from-now\n  holdfast watch --json --cursor CURSOR",
		Args:    noArguments,
	}
	flags := cmd.Flags()
	connected, asJSON := coordinatorFlags(flags), jsonFlag(flags)
	product := flags.String("product", "", "only events of this product")
	cursor := flags.String("cursor", "", "go on after this cursor, which --json prints (default the very first event)")
	fromNow := flags.Bool("from-now", false, "begin with what comes")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		req := &holdfastv1.WatchEventsRequest{ProductId: *product, Cursor: *cursor, FromNow: *fromNow}
		return connected(func(c *client.Client) error {
			stream, err := c.WatchEvents(cmd.Context(), req)
			if err != nil {
				return callError(err)
			}
			for {
				m, err := stream.Recv()
				switch {
				case cmd.Context().Err() != nil:
					return nil // who watches has seen enough
				case err != nil:
					return callError(err)
				}
				if err := printWatched(cmd, *asJSON, m); err != nil {
					return err
				}
			}
		})
	}
	return cmd
}

func printWatched(cmd *cobra.Command, asJSON bool, m *holdfastv1.WatchEventsResponse) error {
	switch e := m.GetEvent(); {
	case asJSON:
		return printMessage(cmd.OutOrStdout(), m)
	case e != nil:
		_, err := fmt.Fprintln(cmd.OutOrStdout(), strings.TrimRight(fmt.Sprintf("%s  %-9s  %+5d  %s  %s %s",
			eventTime(e), kindName(e), moved(e), e.GetProductId(), e.GetPurchaseId(), e.GetCustomerId()), " "))
		return err
	}
	return nil
}

func eventTime(e *holdfastv1.Event) string {
	return e.GetCreateTime().AsTime().Format("2006-01-02 15:04:05.000")
}

func kindName(e *holdfastv1.Event) string {
	return strings.ToLower(strings.TrimPrefix(e.GetKind().String(), "EVENT_KIND_"))
}

// moved is by how much the event changed what may be sold.
func moved(e *holdfastv1.Event) int64 {
	if e.GetPurchaseId() == "" {
		return e.GetAmount()
	}
	return -e.GetUnits()
}

func newMovements() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "movements PRODUCT",
		Short: "List everything that changed what is left of a product",
		Args:  arguments("PRODUCT"),
	}
	connected, asJSON := coordinatorFlags(cmd.Flags()), jsonFlag(cmd.Flags())
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		return connected(func(c *client.Client) error {
			return listMovements(cmd, c, args[0], *asJSON)
		})
	}
	return cmd
}

func listMovements(cmd *cobra.Command, events holdfastv1.EventServiceClient, product string, asJSON bool) error {
	var rows [][]any
	for req := (&holdfastv1.ListMovementsRequest{ProductId: product, PageSize: 1000}); ; {
		resp, err := events.ListMovements(cmd.Context(), req)
		if err != nil {
			return callError(err)
		}
		for _, e := range resp.GetMovements() {
			if asJSON {
				if err := printMessage(cmd.OutOrStdout(), e); err != nil {
					return err
				}
				continue
			}
			rows = append(rows, []any{eventTime(e), kindName(e), fmt.Sprintf("%+d", moved(e)), e.GetPurchaseId(), e.GetCustomerId(), e.GetRegion()})
		}
		if req.PageToken = resp.GetNextPageToken(); req.GetPageToken() == "" {
			break
		}
	}
	if asJSON {
		return nil
	}
	return table(cmd.OutOrStdout(), []any{"TIME", "WHAT", "AVAILABLE", "PURCHASE", "CUSTOMER", "REGION"}, rows)
}
