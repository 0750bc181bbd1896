package main

import (
	"context"
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"github.com/holdfast-io/holdfast/api/client"
	holdfastv1 "github.com/holdfast-io/holdfast/api/holdfast/v1"
	"github.com/holdfast-io/holdfast/deploy/load"
)

func newLoad() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "load",
		Short: "Buy at a steady rate from a running holdfast, and tell the longest wait",
		Long: `load creates products, or takes those of --product, and buys one unit of them after the other,
at a steady rate, whatever becomes of the purchases before. It is for what you do meanwhile: upgrade, kill a pod, lose
a node. Calls whose outcome is open are repeated for as long as --timeout says; it exits
with 1 when one fails all the same. Recount what was sold with holdfast audit.`,
		Example: "  holdfast load --coordinator holdfast:7070 --rate 200 --duration 2m --timeout 30s",
		Args:    noArguments,
	}
	flags := cmd.Flags()
	connected, asJSON := coordinatorFlags(flags), jsonFlag(flags)
	perSecond := flags.Float64("rate", 200, "purchases a second")
	duration := flags.Duration("duration", time.Minute, "until the last one begins")
	products := flags.Int("products", 10, "how many products are created and bought")
	existing := flags.StringSlice("product", nil, "products to buy that are there already, instead of new ones")
	regions := flags.StringSlice("region", nil, "regions of the customers, in turn (default follows from the customer)")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		if *products < 1 || *products > 1000 {
			return usageError("--products: want 1 to 1000, got %d", *products)
		}
		return connected(func(c *client.Client) error {
			cfg := load.Config{
				Purchases: c, Products: *existing, Regions: *regions, Prefix: time.Now().UTC().Format("20060102150405.000-"),
				Rate: *perSecond, Duration: *duration,
			}
			if len(cfg.Products) == 0 {
				var err error
				if cfg.Products, err = createProducts(cmd.Context(), c, cfg.Prefix, *products); err != nil {
					return err
				}
			}
			p := newProgress(cmd.ErrOrStderr(), "purchases")
			expected := int(*perSecond * duration.Seconds())
			cfg.Progress = func(answered int) { p.update(min(answered, expected), expected) }
			f, err := load.Run(cmd.Context(), cfg)
			p.done()
			if err != nil {
				return usageError("%w", err)
			}
			return printLoad(cmd, f, *asJSON)
		})
	}
	return cmd
}

// createProducts creates so many products that are never sold out, and returns their ids.
func createProducts(ctx context.Context, c *client.Client, prefix string, count int) (ids []string, err error) {
	for i := range count {
		id := fmt.Sprintf("load-%s%d", prefix, i)
		_, err := c.CreateProduct(ctx, &holdfastv1.CreateProductRequest{ProductId: id, AmountInStorage: 1 << 40})
		if err != nil {
			return nil, err
		}
		ids = append(ids, id)
	}
	return ids, nil
}

func printLoad(cmd *cobra.Command, f *load.Figures, asJSON bool) error {
	out := cmd.OutOrStdout()
	milliseconds := func(d time.Duration) float64 { return float64(d.Microseconds()) / 1000 }
	var err error
	if asJSON {
		err = printJSON(out, struct {
			*load.Figures
			P50     float64 `json:"p50_ms"`
			P99     float64 `json:"p99_ms"`
			Longest float64 `json:"longest_wait_ms"`
			At      float64 `json:"longest_wait_at_s"`
		}{f, milliseconds(f.P50), milliseconds(f.P99), milliseconds(f.LongestWait), f.LongestAt.Seconds()})
	} else {
		_, err = fmt.Fprintf(out, "%d purchases, %.0f/s; %d refused, %d failed\nwaits: p50 %v, p99 %v, longest %v, %v after the start\n",
			f.Purchases, f.PerSecond, f.Refused, f.Failed, f.P50, f.P99,
			f.LongestWait.Round(time.Millisecond), f.LongestAt.Round(100*time.Millisecond))
	}
	if err == nil && f.Failed > 0 {
		err = fmt.Errorf("%d purchases failed, the first one: %s", f.Failed, f.Failure)
	}
	return err
}
