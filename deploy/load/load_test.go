package load_test

import (
	"context"
	"errors"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"
	"google.golang.org/grpc"

	"github.com/holdfast-io/holdfast/api/client"
	holdfastv1 "github.com/holdfast-io/holdfast/api/holdfast/v1"
	"github.com/holdfast-io/holdfast/deploy/load"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// shop answers as a test wants.
type shop struct {
	holdfastv1.PurchaseServiceClient
	answer func(number int) error

	mu   sync.Mutex
	seen map[string]*holdfastv1.CreatePurchaseRequest
}

func (s *shop) CreatePurchase(
	_ context.Context, req *holdfastv1.CreatePurchaseRequest, _ ...grpc.CallOption,
) (*holdfastv1.Purchase, error) {
	s.mu.Lock()
	number := len(s.seen)
	s.seen[req.GetRequestId()] = req
	s.mu.Unlock()
	return &holdfastv1.Purchase{}, s.answer(number)
}

func (s *shop) run(t *testing.T, cfg load.Config) *load.Figures {
	t.Helper()
	s.seen = map[string]*holdfastv1.CreatePurchaseRequest{}
	cfg.Purchases = s
	f, err := load.Run(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	if told := f.Purchases + f.Refused + f.Failed; told != int64(len(s.seen)) {
		t.Errorf("%d purchases begun, %d told", len(s.seen), told)
	}
	return f
}

// An outage is seen by everybody who would have come during it, not only by the first one.
func TestOutageIsSeenByAllWhoCome(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		start := time.Now()
		s := &shop{answer: func(int) error {
			if at := time.Since(start); at >= time.Second && at < 2*time.Second {
				time.Sleep(2*time.Second - at)
			}
			return nil
		}}
		f := s.run(t, load.Config{Products: []string{"a", "b"}, Regions: []string{"eu", "us"}, Prefix: "x-", Rate: 100, Duration: 4 * time.Second})
		if f.Purchases < 395 || f.Purchases > 415 || f.Failed+f.Refused != 0 {
			t.Errorf("%+v, want about 400 purchases", f)
		}
		if f.LongestWait < 980*time.Millisecond || f.LongestWait > time.Second || f.LongestAt < 990*time.Millisecond || f.LongestAt > 1050*time.Millisecond {
			t.Errorf("longest wait %v at %v, want a second at a second", f.LongestWait, f.LongestAt)
		}
		if f.P99 < 900*time.Millisecond || f.P50 > time.Millisecond {
			t.Errorf("p50 %v, p99 %v: a quarter of the buyers waited", f.P50, f.P99)
		}
		req := s.seen["x-3"]
		if req.GetProductId() != "b" || req.GetRegion() != "us" || req.GetAmount() != 1 {
			t.Errorf("asked for %v", req)
		}
	})
}

func TestAnswersAreToldApart(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &shop{answer: func(number int) error {
			return []error{nil, client.ErrInsufficientStock, errors.New("broken"), nil}[number%4]
		}}
		f := s.run(t, load.Config{Products: []string{"a"}, Rate: 40, Duration: time.Second})
		begun := int64(len(s.seen)) // the last second may end on any of the four answers
		refused, failed := (begun+2)/4, (begun+1)/4
		if begun < 40 || f.Purchases != begun-refused-failed || f.Refused != refused || f.Failed != failed || f.Failure != "broken" {
			t.Errorf("of %d begun: %+v", begun, f)
		}
	})
}

func TestConfigIsChecked(t *testing.T) {
	good := load.Config{Purchases: &shop{}, Products: []string{"p"}, Rate: 1, Duration: time.Second}
	for field, spoil := range map[string]func(*load.Config){
		"Purchases": func(c *load.Config) { c.Purchases = nil },
		"Products":  func(c *load.Config) { c.Products = nil },
		"Rate":      func(c *load.Config) { c.Rate = 0 },
		"Duration":  func(c *load.Config) { c.Duration = -1 },
	} {
		cfg := good
		spoil(&cfg)
		if _, err := load.Run(t.Context(), cfg); err == nil || !strings.Contains(err.Error(), field) {
			t.Errorf("%s: got %v, want an error that names it", field, err)
		}
	}
}
