package chaos

import (
	"cmp"
	"fmt"
	"os"
	"slices"
	"strings"
	"sync"
	"time"
)

// Answer is what a buyer was told in the end.
type Answer int

const (
	Unanswered Answer = iota // neither, within his patience: it may have happened
	Admitted                 // it is his
	Refused                  // there are not enough units left
)

func (a Answer) String() string {
	switch a {
	case Unanswered:
		return "unanswered"
	case Admitted:
		return "admitted"
	case Refused:
		return "refused"
	}
	return fmt.Sprintf("Answer(%d)", int(a))
}

// Op is one purchase that a buyer wanted, with all repetitions under its
// request id: it is called once and returns once.
type Op struct {
	Product   string
	RequestID string
	Amount    int64

	Call, Return time.Duration // since the start; Return is of the last attempt
	Answer       Answer
	PurchaseID   string // when Admitted
	Again        string // the purchase id that a repetition after the answer was told, if there was one
	Failure      string // the last that was no answer, if any was
	Attempts     int
}

func (o Op) String() string {
	return fmt.Sprintf("%s %s ×%d %s [%.3fs, %.3fs]",
		o.Product, o.RequestID, o.Amount, o.Answer, o.Call.Seconds(), o.Return.Seconds())
}

// Row is a purchase that a shard holds at the end.
type Row struct {
	PurchaseID string
	Product    string
	RequestID  string
	Amount     int64
}

// History is what the buyers did and were told. It is safe for concurrent use.
type History struct {
	start time.Time

	mu    sync.Mutex
	stock map[string]int64 // amount in storage by product
	ops   []Op
}

// NewHistory starts its clock.
func NewHistory() *History { return &History{start: time.Now(), stock: map[string]int64{}} }

func (h *History) now() time.Duration { return time.Since(h.start) }

func (h *History) addProduct(id string, stock int64) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.stock[id] = stock
}

func (h *History) addOp(o Op) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.ops = append(h.ops, o)
}

// oversold reports whether more was sold of any product than there is.
func (h *History) oversold(sold map[string]int64) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	for product, stock := range h.stock {
		if sold[product] > stock {
			return true
		}
	}
	return false
}

// save writes all operations to a file, in the order of their calls: whoever
// looks for the cause of a violation begins there.
func (h *History) save(path string) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	ops := slices.SortedFunc(slices.Values(h.ops), func(a, b Op) int { return cmp.Compare(a.Call, b.Call) })
	var text strings.Builder
	for _, o := range ops {
		fmt.Fprintf(&text, "%v %s %s attempts=%d failure=%q\n", o, o.PurchaseID, o.Again, o.Attempts, o.Failure)
	}
	return os.WriteFile(path, []byte(text.String()), 0o600)
}
