package bench

import (
	"slices"
	"time"

	"github.com/HdrHistogram/hdrhistogram-go"
)

// Figures are what one strategy came to in one workload: medians over the
// repetitions, percentiles over the purchases of all of them. A figure that
// could not be measured is left out of the JSON.
type Figures struct {
	Workload    string `json:"workload"`
	Strategy    string `json:"strategy"`
	Buyers      int    `json:"buyers"`
	Batch       int    `json:"batch"` // orders of one call
	Form        string `json:"form,omitempty"`
	Repetitions int    `json:"repetitions"`

	PurchasesPerSecond float64 `json:"purchases_per_second"`
	LowestPerSecond    float64 `json:"purchases_per_second_min"`
	HighestPerSecond   float64 `json:"purchases_per_second_max"`
	P50                float64 `json:"p50_ms"`
	P99                float64 `json:"p99_ms"`
	P999               float64 `json:"p999_ms"`
	ToBaseline         float64 `json:"ratio_to_select_for_update"`
	ToCeiling          float64 `json:"ratio_to_ceiling"`

	// To CreatePurchase in the same run, the median over the repetitions, of which each
	// is compared with the one beside it: purchases/s, and the CPU seconds that all
	// servers together spend on one.
	ToUnary    float64 `json:"ratio_to_holdfast_unary,omitempty"`
	CPUToUnary float64 `json:"cpu_ratio_to_holdfast_unary,omitempty"`

	OrdersPerSecond float64 `json:"orders_per_second,omitempty"` // where purchases are lines of orders
	PaidPerSecond   float64 `json:"paid_per_second,omitempty"`   // orders that others paid meanwhile

	Purchases int64            `json:"purchases"`
	Refused   int64            `json:"refused"`
	Unsent    int64            `json:"not_sent_in_time"`
	Errors    map[string]int64 `json:"errors,omitempty"`
	Oversold  int64            `json:"oversold"`

	// CPU seconds for 1,000 purchases.
	ServiceCPU  float64 `json:"cpu_s_per_1000_service"`
	PostgresCPU float64 `json:"cpu_s_per_1000_postgres"`
	EtcdCPU     float64 `json:"cpu_s_per_1000_etcd"`
	ClientCPU   float64 `json:"cpu_s_per_1000_client"`

	EtcdWrites     float64 `json:"etcd_writes_per_purchase"`
	PerTransaction float64 `json:"purchases_per_transaction"`
	WorkerMB       float64 `json:"worker_rss_mb,omitempty"`

	// Of the workload idle: the memory of all workers and of all members of etcd,
	// and how many CPUs they keep busy while nothing is sold.
	HeldProducts     int64   `json:"held_products,omitempty"`
	BytesPerHeld     float64 `json:"worker_bytes_per_held_product,omitempty"`
	EtcdBytesPerHeld float64 `json:"etcd_bytes_per_held_product,omitempty"`
	IdleServiceCPU   float64 `json:"idle_cpus_service,omitempty"`
	IdleEtcdCPU      float64 `json:"idle_cpus_etcd,omitempty"`

	Curve []Point `json:"-"`

	stored int64 // purchases, also those that were answered too late to count

	rates, costs []float64 // by repetition: purchases/s, and CPU seconds of all servers for 1,000
}

// Point says that a percentile of the purchases took at most so long.
type Point struct{ Percentile, Milliseconds float64 }

// sample is one repetition.
type sample struct {
	*result
	used   usage
	beside beside
}

func (s sample) perSecond() float64 {
	if s.elapsed <= 0 {
		return 0
	}
	return float64(s.purchases) / s.elapsed.Seconds()
}

// curve is at which percentiles a latency curve has points.
var curve = []float64{1, 10, 25, 50, 75, 90, 95, 98, 99, 99.5, 99.8, 99.9}

// figuresOf sums samples up.
func figuresOf(workload, strategy string, c candidate, samples []sample) Figures {
	f := Figures{
		Workload: workload, Strategy: strategy, Buyers: c.buyers, Batch: c.batch, Form: c.form,
		Repetitions: len(samples), Errors: map[string]int64{},
	}
	latencies := newLatencies()
	rates := over(samples, sample.perSecond)
	f.PurchasesPerSecond, f.LowestPerSecond, f.HighestPerSecond = median(rates), slices.Min(rates), slices.Max(rates)
	for _, s := range samples {
		f.Purchases += s.purchases
		f.stored += s.stored
		f.Refused += s.refused
		f.Unsent += s.unsent
		for kind, times := range s.errors {
			f.Errors[kind] += times
		}
		latencies.Merge(s.latencies)
		f.WorkerMB = max(f.WorkerMB, float64(s.used.workerBytes)/(1<<20))
	}
	f.P50, f.P99, f.P999 = quantile(latencies, 50), quantile(latencies, 99), quantile(latencies, 99.9)
	for _, percentile := range curve {
		f.Curve = append(f.Curve, Point{percentile, quantile(latencies, percentile)})
	}
	f.rates, f.costs = rates, over(samples, per1000(usage.servers))
	f.PaidPerSecond = median(over(samples, func(s sample) float64 { return s.beside.perSecond }))
	if c.form == asOneOrder {
		f.OrdersPerSecond = f.PurchasesPerSecond / float64(c.batch)
	}
	f.ServiceCPU = median(over(samples, per1000(func(u usage) float64 { return u.service })))
	f.PostgresCPU = median(over(samples, per1000(func(u usage) float64 { return u.postgres })))
	f.EtcdCPU = median(over(samples, per1000(func(u usage) float64 { return u.etcd })))
	f.ClientCPU = median(over(samples, per1000(func(u usage) float64 { return u.client })))
	f.EtcdWrites = median(over(samples, func(s sample) float64 { return ratio(float64(s.used.revision), float64(s.purchases)) }))
	f.PerTransaction = median(over(samples, func(s sample) float64 { return ratio(float64(s.purchases), float64(s.used.transactions)) }))
	return f
}

func per1000(of func(usage) float64) func(sample) float64 {
	return func(s sample) float64 { return ratio(1000*of(s.used), float64(s.purchases)) }
}

func over(samples []sample, of func(sample) float64) []float64 {
	values := make([]float64, len(samples))
	for i, s := range samples {
		values[i] = of(s)
	}
	return values
}

// median is the middle value, and the mean of the middle two.
func median(values []float64) float64 {
	if len(values) == 0 {
		return 0
	}
	sorted := slices.Sorted(slices.Values(values))
	middle := len(sorted) / 2
	if len(sorted)%2 == 1 {
		return sorted[middle]
	}
	return (sorted[middle-1] + sorted[middle]) / 2
}

// ratio is 0 when there is nothing to compare with.
func ratio(a, b float64) float64 {
	if b == 0 {
		return 0
	}
	return a / b
}

// paired is the median of the ratios of what was measured side by side.
func paired(a, b []float64) float64 {
	var ratios []float64
	for i := range min(len(a), len(b)) {
		ratios = append(ratios, ratio(a[i], b[i]))
	}
	return median(ratios)
}

// quantile is in milliseconds.
func quantile(h *hdrhistogram.Histogram, percentile float64) float64 {
	return float64(h.ValueAtQuantile(percentile)) * float64(time.Microsecond) / float64(time.Millisecond)
}

// compare sets the ratios of the figures of one workload.
func compare(figures []Figures) {
	of := func(strategy string) float64 {
		for _, f := range figures {
			if f.Strategy == strategy {
				return f.PurchasesPerSecond
			}
		}
		return 0
	}
	unary := slices.IndexFunc(figures, func(f Figures) bool { return f.Strategy == plainCall })
	for i := range figures {
		if unary >= 0 {
			figures[i].ToUnary = paired(figures[i].rates, figures[unary].rates)
			figures[i].CPUToUnary = paired(figures[i].costs, figures[unary].costs)
		}
		figures[i].ToBaseline = ratio(figures[i].PurchasesPerSecond, of(baseline))
		figures[i].ToCeiling = ratio(figures[i].PurchasesPerSecond, of(ceiling))
	}
}
