package bench

import (
	"bytes"
	"flag"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

var update = flag.Bool("update", false, "write the golden files anew")

func sampleOf(rate int64, milliseconds ...int64) sample {
	r := &result{purchases: rate, stored: rate, elapsed: time.Second, errors: map[string]int64{}, latencies: newLatencies()}
	for _, ms := range milliseconds {
		_ = r.latencies.RecordValue(ms * 1000)
	}
	return sample{result: r, used: usage{
		service: float64(rate) / 1000, postgres: float64(rate) / 500, revision: 2 * rate, transactions: rate / 4,
		workerBytes: 64 << 20,
	}}
}

func TestFiguresAreMediansWithTheirSpread(t *testing.T) {
	c := candidate{buyers: 4, batch: 1}
	f := figuresOf("hot", baseline, c, []sample{
		sampleOf(100, 1, 2, 3), sampleOf(300, 100), sampleOf(120, 4, 5, 6),
	})
	if f.PurchasesPerSecond != 120 || f.LowestPerSecond != 100 || f.HighestPerSecond != 300 {
		t.Errorf("rates %v, %v to %v; want 120, 100 to 300", f.PurchasesPerSecond, f.LowestPerSecond, f.HighestPerSecond)
	}
	if f.P50 < 3.9 || f.P50 > 4.1 || f.P999 < 99 || f.P999 > 101 {
		t.Errorf("p50 %v, p99.9 %v; want 4 and 100 over the purchases of all repetitions", f.P50, f.P999)
	}
	if f.ServiceCPU != 1 || f.PostgresCPU != 2 || f.EtcdWrites != 2 || f.PerTransaction != 4 || f.WorkerMB != 64 {
		t.Errorf("CPU %v and %v, %v etcd writes, %v in one transaction, %v MB; want 1, 2, 2, 4, 64",
			f.ServiceCPU, f.PostgresCPU, f.EtcdWrites, f.PerTransaction, f.WorkerMB)
	}
}

func TestMedian(t *testing.T) {
	for _, tt := range []struct {
		values []float64
		want   float64
	}{
		{nil, 0}, {[]float64{3}, 3}, {[]float64{4, 2}, 3}, {[]float64{9, 1, 5}, 5}, {[]float64{1, 2, 3, 100}, 2.5},
	} {
		if got := median(tt.values); got != tt.want {
			t.Errorf("median of %v: %v, want %v", tt.values, got, tt.want)
		}
	}
}

// Without the strategy to compare with there is no ratio, rather than an
// infinite one.
func TestRatios(t *testing.T) {
	figures := []Figures{
		{Strategy: baseline, PurchasesPerSecond: 200},
		{Strategy: "holdfast-unary", PurchasesPerSecond: 5000},
		{Strategy: ceiling, PurchasesPerSecond: 50_000},
	}
	compare(figures)
	if u := figures[1]; u.ToBaseline != 25 || u.ToCeiling != 0.1 {
		t.Errorf("ratios %v and %v, want 25 and 0.1", u.ToBaseline, u.ToCeiling)
	}
	if u := figures[1]; u.ToUnary != 0 {
		t.Errorf("ratio %v to itself without a repetition", u.ToUnary)
	}
	alone := figures[1:2]
	compare(alone)
	if alone[0].ToBaseline != 0 || alone[0].ToCeiling != 0 {
		t.Errorf("ratios to nothing: %v and %v", alone[0].ToBaseline, alone[0].ToCeiling)
	}
}

// On a machine that is busy at times, a repetition is compared with the one beside it.
func TestRatiosToUnaryAreOfPairs(t *testing.T) {
	figures := []Figures{
		{Strategy: plainCall, rates: []float64{100, 10, 200}, costs: []float64{1, 4, 1}},
		{Strategy: "holdfast-hold-confirm", rates: []float64{50, 5, 120}, costs: []float64{3, 12, 2}},
		{Strategy: "holdfast-order-3", rates: []float64{20}, costs: []float64{2}}, // failed then
		{Strategy: "holdfast-order-10"},
	}
	compare(figures)
	for i, want := range []struct{ rate, cpu float64 }{{1, 1}, {0.5, 3}, {0.2, 2}, {0, 0}} {
		if f := figures[i]; f.ToUnary != want.rate || f.CPUToUnary != want.cpu {
			t.Errorf("%s: ratios %v and %v, want %v and %v", f.Strategy, f.ToUnary, f.CPUToUnary, want.rate, want.cpu)
		}
	}
}

// A promise that nobody was there to break has not been kept.
func TestSlowProviderPromise(t *testing.T) {
	besideThem := func(paid, ratio float64) []Figures {
		return []Figures{
			{Strategy: plainCall, ToUnary: 1}, {Strategy: besidePayersName, PaidPerSecond: paid, ToUnary: ratio},
		}
	}
	for name, tt := range map[string]struct {
		figures []Figures
		want    string
	}{
		"kept":         {besideThem(8, 0.9), ""},
		"missed":       {besideThem(8, 0.89), "ratio_to_holdfast_unary"},
		"few payers":   {besideThem(5, 0.99), "paid_per_second"},
		"no payers":    {besideThem(0, 0.99), "paid_per_second"},
		"no other run": {besideThem(8, 0)[1:], "needs the strategies"},
	} {
		said, err := slowProviderPromise(tt.figures)
		if tt.want == "" && (err != nil || !strings.Contains(said, "0.900")) {
			t.Errorf("%s: said %q, error %v", name, said, err)
		}
		if tt.want != "" && (err == nil || !strings.Contains(err.Error(), tt.want)) {
			t.Errorf("%s: error %v, want one with %q", name, err, tt.want)
		}
	}
}

// exampleFigures are of four workloads, one of them with everything that can go
// wrong.
func exampleFigures() []Figures {
	first := figuresOf("hot", baseline, candidate{buyers: 4, batch: 1}, []sample{sampleOf(400, 1, 2, 3)})
	second := figuresOf("hot", "holdfast-batch", candidate{buyers: 8, batch: 500}, []sample{sampleOf(20_000, 8, 9), sampleOf(24_000, 9, 10)})
	second.Errors = map[string]int64{"NO_WORKER": 2, "deadline": 1}
	second.Refused, second.Unsent = 7, 11
	top := figuresOf("hot", ceiling, candidate{buyers: 2, batch: 1000, form: "COPY"}, []sample{sampleOf(80_000, 12)})
	top.Oversold = 5
	idle := Figures{
		Workload: "idle", Strategy: "holdfast-batch", PurchasesPerSecond: 900, HeldProducts: 100_000,
		BytesPerHeld: 5321, EtcdBytesPerHeld: 789, IdleServiceCPU: 0.25, IdleEtcdCPU: 0.5,
	}
	unary := figuresOf("cart", plainCall, candidate{buyers: 256, batch: 1}, []sample{sampleOf(5000, 20)})
	carts := figuresOf("cart", "holdfast-order-10", candidate{buyers: 256, batch: 10, form: asOneOrder}, []sample{sampleOf(3000, 400)})
	paying := sampleOf(4500, 22)
	paying.beside = beside{perSecond: 31}
	payers := figuresOf("slow-provider", besidePayersName, candidate{buyers: 256, batch: 1}, []sample{paying})
	figures := []Figures{first, second, top, unary, carts, payers, idle}
	compare(figures[:3])
	compare(figures[3:5])
	return figures
}

func TestTable(t *testing.T) {
	var out bytes.Buffer
	if err := WriteTable(&out, exampleFigures()); err != nil {
		t.Fatal(err)
	}
	golden := filepath.Join("testdata", "table.txt")
	if *update {
		if err := os.WriteFile(golden, out.Bytes(), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(golden)
	if err != nil {
		t.Fatal(err)
	}
	if out.String() != string(want) {
		t.Errorf("the table is not that of %s; if it should be, run the test with -update\n%s", golden, out.String())
	}
}

func TestChartsTellStrategiesApart(t *testing.T) {
	dir := t.TempDir()
	if err := WriteCharts(dir, exampleFigures()); err != nil {
		t.Fatal(err)
	}
	svg, err := os.ReadFile(filepath.Join(dir, "hot.svg"))
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{baseline, "holdfast-batch", ceiling, "22000", "99.9", "stroke-dasharray"} {
		if !strings.Contains(string(svg), want) {
			t.Errorf("no %q in the chart", want)
		}
	}
	if _, err := os.Stat(filepath.Join(dir, "idle.svg")); err == nil {
		t.Error("a chart of the workload idle, which has nothing to compare")
	}
}
