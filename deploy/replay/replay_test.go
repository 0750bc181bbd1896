package replay

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"go.uber.org/goleak"
	"google.golang.org/grpc/codes"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// someOrders are lines of 1 to 3 units over a few products.
func someOrders(lines int) *Orders {
	orders := &Orders{Skipped: map[string]int{CreditNote: 2, NotAProduct: 1}}
	for i := range lines {
		orders.Lines = append(orders.Lines, Line{
			Number:     i + 2,
			Invoice:    "1",
			ProductID:  fmt.Sprint(10000 + i%7),
			Amount:     int64(1 + i%3),
			CustomerID: "guest-1",
			Country:    []string{"EIRE", "Japan"}[i%2],
			RequestID:  fmt.Sprint("1-", i+2),
		})
	}
	return orders
}

func mustJudge(t *testing.T, shop *shop, report *Report) Verdict {
	t.Helper()
	verdict, err := Judge(report, shop.stock, shop.everyRow())
	if err != nil {
		t.Fatal(err)
	}
	return verdict
}

// The demonstration rests on this: all real orders, and every buyer is told the
// truth.
func TestRealOrdersAreSoldToTheLastUnit(t *testing.T) {
	shop := &shop{}
	config := shop.open(t)
	orders, err := RealOrders()
	if err != nil {
		t.Fatal(err)
	}
	config.Orders = orders
	config.Region = func(country string) string {
		if country == "United Kingdom" {
			return "uk"
		}
		return "eu"
	}
	report, err := Run(t.Context(), config)
	if err != nil {
		t.Fatal(err)
	}
	verdict := mustJudge(t, shop, report)
	if err := verdict.Err(); err != nil {
		t.Error(err, verdict.Evidence)
	}
	if verdict.Offered != 9833 || verdict.Skipped != 166 || verdict.Unacknowledged != 0 {
		t.Errorf("%+v", verdict)
	}
	if verdict.Refused == 0 || verdict.Admitted+verdict.Refused != verdict.Offered {
		t.Errorf("the stock does not run out: %+v", verdict)
	}
	t.Logf("%+v", verdict)
}

// A buyer repeats himself until he knows, whichever half of the call was lost.
func TestBuyersAreToldAnOutcomeThroughFaults(t *testing.T) {
	for name, shop := range map[string]*shop{
		"request lost":        {before: faults{3, codes.Unavailable}},
		"reply lost":          {after: faults{3, codes.Unavailable}},
		"reply late":          {after: faults{4, codes.DeadlineExceeded}},
		"aborted":             {before: faults{5, codes.Aborted}},
		"both halves at once": {before: faults{3, codes.Unavailable}, after: faults{2, codes.Unavailable}},
	} {
		t.Run(name, func(t *testing.T) {
			config := shop.open(t)
			config.Orders = someOrders(200)
			report, err := Run(t.Context(), config)
			if err != nil {
				t.Fatal(err)
			}
			verdict := mustJudge(t, shop, report)
			if err := verdict.Err(); err != nil || verdict.Unacknowledged != 0 {
				t.Errorf("%v: %+v", err, verdict)
			}
			attempts := 0
			for _, outcome := range report.Outcomes {
				attempts += outcome.Attempts
			}
			if attempts <= len(report.Outcomes) {
				t.Errorf("nothing was repeated: %d attempts", attempts)
			}
		})
	}
}

func TestLyingShopsAreConvicted(t *testing.T) {
	for name, test := range map[string]struct {
		shop *shop
		of   func(Verdict) bool
	}{
		"oversells": {&shop{lie: sellsMoreThanThereIs}, func(v Verdict) bool { return v.Oversold > 0 }},
		"doubles": {&shop{lie: sellsTheSameRequestAgain, after: faults{3, codes.Unavailable}},
			func(v Verdict) bool { return v.Doubled > 0 }},
		"loses":         {&shop{lie: acknowledgesWithoutStoring}, func(v Verdict) bool { return v.Lost > 0 }},
		"holds back":    {&shop{lie: refusesTheLastUnit}, func(v Verdict) bool { return v.FalseRefusals > 0 }},
		"mixes up":      {&shop{lie: answersAnotherPurchase}, func(v Verdict) bool { return v.Failed > 0 }},
		"always breaks": {&shop{before: faults{2, codes.Internal}}, func(v Verdict) bool { return v.Failed > 0 }},
	} {
		t.Run(name, func(t *testing.T) {
			config := test.shop.open(t)
			config.Orders = someOrders(200)
			test.shop.createAll(t, config)
			config.Products = alreadyCreated{}
			report, err := Run(t.Context(), config)
			if err != nil {
				t.Fatal(err)
			}
			if verdict := mustJudge(t, test.shop, report); !test.of(verdict) || verdict.Err() == nil {
				t.Errorf("acquitted: %+v", verdict)
			}
		})
	}
}

// createAll keeps the creation of products out of the way of a fault that ends
// a run.
func (s *shop) createAll(t *testing.T, config Config) {
	t.Helper()
	before := s.before
	s.before = faults{}
	config, err := config.complete()
	if err != nil {
		t.Fatal(err)
	}
	stock := config.Orders.Demand()
	for product, demand := range stock {
		stock[product] = config.Share.Of(demand)
	}
	if err := createProducts(t.Context(), config, stock); err != nil {
		t.Fatal(err)
	}
	s.before = before
}

func TestRunsOfDifferentPrefixesDoNotTouch(t *testing.T) {
	shop := &shop{}
	config := shop.open(t)
	config.Orders = someOrders(100)
	admitted := make(map[string]int)
	for _, prefix := range []string{"a-", "b-", "a-"} {
		config.Prefix = prefix
		report, err := Run(t.Context(), config)
		if err != nil {
			t.Fatal(err)
		}
		verdict := mustJudge(t, shop, report)
		if err := verdict.Err(); err != nil || verdict.Admitted == 0 {
			t.Errorf("%s: %v: %+v", prefix, err, verdict)
		}
		if before, again := admitted[prefix]; again && before != verdict.Admitted {
			t.Errorf("the repeated run was admitted %d, the first %d", verdict.Admitted, before)
		}
		admitted[prefix] = verdict.Admitted
	}
	if len(shop.stock) != 14 {
		t.Errorf("%d products, want 14", len(shop.stock))
	}
}

func TestHalfwayIsCalledOnceAndWaitedFor(t *testing.T) {
	shop := &shop{}
	config := shop.open(t)
	config.Orders = someOrders(100)
	var answered, called, returned atomic.Int64
	config.Progress = func(done, total int) {
		if done != int(answered.Add(1)) || total != 100 {
			t.Errorf("progress %d of %d", done, total)
		}
	}
	config.Halfway = func(context.Context) {
		called.Add(1)
		if done := answered.Load(); done < 50-32 {
			t.Errorf("halfway with %d of 100 answered", done)
		}
		for answered.Load() < 100 { // buying goes on meanwhile
			time.Sleep(time.Millisecond)
		}
		returned.Add(1)
	}
	if _, err := Run(t.Context(), config); err != nil {
		t.Fatal(err)
	}
	if called.Load() != 1 || returned.Load() != 1 {
		t.Errorf("called %d times, returned %d times", called.Load(), returned.Load())
	}
}

func TestRunEndsWithItsContext(t *testing.T) {
	shop := &shop{}
	config := shop.open(t)
	config.Orders = someOrders(2000)
	ctx, cancel := context.WithCancelCause(t.Context())
	enough := errors.New("seen enough")
	config.Progress = func(done, _ int) {
		if done == 100 {
			cancel(enough)
		}
	}
	report, err := Run(ctx, config)
	if !errors.Is(err, enough) {
		t.Fatalf("got %v, want %v", err, enough)
	}
	verdict := mustJudge(t, shop, report)
	if verdict.Offered < 100 || verdict.Offered > 100+32 || verdict.Oversold+int64(verdict.Lost) > 0 {
		t.Errorf("%+v", verdict)
	}
}

func TestRunSaysWhatIsMissing(t *testing.T) {
	shop := &shop{}
	good := shop.open(t)
	good.Orders = someOrders(10)
	for name, spoil := range map[string]func(*Config){
		"no client": func(c *Config) { c.Purchases = nil },
		"no orders": func(c *Config) { c.Orders = &Orders{} },
		"no buyers": func(c *Config) { c.Buyers = -1 },
		"no stock":  func(c *Config) { c.Share = Share{0, 5} },
	} {
		t.Run(name, func(t *testing.T) {
			config := good
			spoil(&config)
			if _, err := Run(t.Context(), config); err == nil {
				t.Error("accepted")
			}
		})
	}
	t.Run("other stock", func(t *testing.T) {
		shop.stock["10003"] = 99 // before the first call: nobody else is in the shop
		if _, err := Run(t.Context(), good); err == nil || !strings.Contains(err.Error(), "create product 10003") {
			t.Errorf("got %v", err)
		}
	})
}

func TestShareLeavesTheLastFifthToBeRefused(t *testing.T) {
	share := Share{4, 5}
	for demand, want := range map[int64]int64{1: 1, 2: 1, 3: 2, 4: 3, 5: 4, 6: 4, 3409: 2727, 1 << 62: 3689348814741910323} {
		if got := share.Of(demand); got != want {
			t.Errorf("4/5 of %d is %d, want %d", demand, got, want)
		}
	}
}
