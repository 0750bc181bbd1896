package bench

import (
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"text/tabwriter"
)

// WriteTable writes figures for people, a table for each workload.
func WriteTable(out io.Writer, figures []Figures) error {
	t := tabwriter.NewWriter(out, 0, 0, 2, ' ', tabwriter.AlignRight)
	workload := ""
	for i := range figures {
		f := &figures[i]
		if f.HeldProducts > 0 {
			_ = t.Flush() // its error comes back from the last one
			writeIdle(out, f)
			continue
		}
		if f.Workload != workload {
			workload = f.Workload
			writeHead(t, workload)
		}
		writeRow(t, f)
	}
	return t.Flush()
}

func writeIdle(out io.Writer, f *Figures) {
	fmt.Fprintf(out, `
%s: %d products held, each bought once at %.0f/s
  for each   %.0f bytes of the workers, %.0f bytes of etcd
  for all    %.2f CPUs of the workers and the coordinator, %.2f CPUs of etcd, while nothing is sold
`, f.Workload, f.HeldProducts, f.PurchasesPerSecond, f.BytesPerHeld, f.EtcdBytesPerHeld, f.IdleServiceCPU, f.IdleEtcdCPU)
}

// Columns end with a tab, since they are aligned to the right; the last one is
// prose.
func writeHead(t io.Writer, workload string) {
	fmt.Fprintf(t, "\n%s\tpurchases/s\tlowest\thighest\tp50 ms\tp99 ms\tp99.9 ms\t× row lock\t× ceiling\t× unary\tits CPU\t", workload)
	fmt.Fprint(t, "CPU service\tPostgres\tetcd\tclient\tetcd writes\tin one tx\tworker MB\trefused\tnot sent\toversold\t buyers, errors\n")
}

func writeRow(t io.Writer, f *Figures) {
	fmt.Fprintf(t, "%s\t%.0f\t%.0f\t%.0f\t%.2f\t%.2f\t%.2f\t%s\t%s\t%s\t%s\t",
		f.Strategy, f.PurchasesPerSecond, f.LowestPerSecond, f.HighestPerSecond, f.P50, f.P99, f.P999,
		factor(f.ToBaseline), factor(f.ToCeiling), factor(f.ToUnary), factor(f.CPUToUnary))
	fmt.Fprintf(t, "%.3f\t%.3f\t%.3f\t%.3f\t%.3f\t%.1f\t%.0f\t%d\t%d\t%d\t %s\n",
		f.ServiceCPU, f.PostgresCPU, f.EtcdCPU, f.ClientCPU, f.EtcdWrites, f.PerTransaction, f.WorkerMB,
		f.Refused, f.Unsent, f.Oversold, remarks(f))
}

// factor writes a ratio to as many digits as it is worth, and none as a dash.
func factor(ratio float64) string {
	switch {
	case ratio == 0:
		return "–"
	case ratio < 0.995:
		return fmt.Sprintf("%.2f", ratio)
	}
	return fmt.Sprintf("%.1f", ratio)
}

func remarks(f *Figures) string {
	c := candidate{buyers: f.Buyers, batch: f.Batch, form: f.Form}
	said := []string{c.String()}
	if f.OrdersPerSecond > 0 {
		said = append(said, fmt.Sprintf("%.0f orders/s", f.OrdersPerSecond))
	}
	if f.PaidPerSecond > 0 {
		said = append(said, fmt.Sprintf("%.0f/s paid beside them", f.PaidPerSecond))
	}
	for _, kind := range slices.Sorted(maps.Keys(f.Errors)) {
		said = append(said, fmt.Sprintf("%d × %s", f.Errors[kind], kind))
	}
	return strings.Join(said, ", ")
}
