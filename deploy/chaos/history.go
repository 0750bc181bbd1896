package chaos

import (
	"cmp"
	"fmt"
	"os"
	"slices"
	"strings"
	"sync"
	"time"

	holdfastv1 "github.com/holdfast-io/holdfast/api/holdfast/v1"
	"github.com/holdfast-io/holdfast/worker/ledger"
)

// Kind is what a caller wants.
type Kind string

// The kinds. A purchase begins with one of the first two; the next four are of a
// purchase, and the last one is of a product.
const (
	Buy     Kind = "buy"
	Hold    Kind = "hold"
	Extend  Kind = "extend"
	Confirm Kind = "confirm"
	Cancel  Kind = "cancel"
	Return  Kind = "return"
	Deliver Kind = "deliver"
)

// creates tells the kinds with which a purchase begins.
func (k Kind) creates() bool { return k == Buy || k == Hold }

// Answer is what a caller was told in the end.
type Answer int

const (
	Unanswered Answer = iota // neither, within his patience: it may have happened
	Admitted                 // it is done
	Refused                  // it was not, for Op.Reason
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

// Op is one thing that somebody wanted, with all repetitions under its request id: it is
// called once and returns once.
type Op struct {
	Kind      Kind
	Product   string
	RequestID string
	Amount    int64         // as asked for: 0 is all there is; negative for what was found missing
	Until     time.Duration // the end of a hold that was asked for, when that was a moment; 0 otherwise

	Call, Return time.Duration // since the start; Return is of the last attempt
	Answer       Answer
	Reason       string // when Refused
	PurchaseID   string // when Admitted; of what is done to a purchase, always; the id of a delivery
	Told         Told   // when Admitted; nothing of a delivery
	Again        string // what a repetition after the answer was told, if there was one: a purchase id or a reason
	Failure      string // the last that was no answer, if any was
	Attempts     int
}

// Told is what an answer says of a purchase.
type Told struct {
	State    ledger.State
	Released int64         // of its amount
	Expires  time.Duration // of its hold; 0 when there is none
}

func (o Op) String() string {
	text := fmt.Sprintf("%s %s %s ×%d %s", o.Kind, o.Product, o.RequestID, o.Amount, o.Answer)
	if o.Reason != "" {
		text += " (" + o.Reason + ")"
	}
	if o.PurchaseID != "" {
		text += " " + o.PurchaseID
	}
	return fmt.Sprintf("%s [%.3fs, %.3fs]", text, o.Call.Seconds(), o.Return.Seconds())
}

// History is what the callers did and were told. It is safe for concurrent use.
type History struct {
	start time.Time

	mu    sync.Mutex
	stock map[string]int64 // amount in storage by product
	ops   []Op
}

// NewHistory starts its clock.
func NewHistory() *History { return &History{start: time.Now(), stock: map[string]int64{}} }

func (h *History) now() time.Duration { return time.Since(h.start) }

// at is a moment of the wall clock, by which shards tell the time, on the history's clock.
// Never 0, which stands for no moment.
func (h *History) at(t time.Time) time.Duration { return cmp.Or(t.Sub(h.start.Round(0)), 1) }

// maybe is a moment, or 0 when there is none.
func (h *History) maybe(t *time.Time) time.Duration {
	if t == nil {
		return 0
	}
	return h.at(*t)
}

func (h *History) told(p *holdfastv1.Purchase) Told {
	t := Told{State: stateTold[p.GetState()], Released: p.GetAmountReleased()}
	if p.GetExpireTime() != nil {
		t.Expires = h.at(p.GetExpireTime().AsTime())
	}
	return t
}

var stateTold = map[holdfastv1.PurchaseState]ledger.State{
	holdfastv1.PurchaseState_PURCHASE_STATE_HELD:      ledger.Held,
	holdfastv1.PurchaseState_PURCHASE_STATE_CONFIRMED: ledger.Confirmed,
	holdfastv1.PurchaseState_PURCHASE_STATE_CANCELLED: ledger.Cancelled,
	holdfastv1.PurchaseState_PURCHASE_STATE_EXPIRED:   ledger.Expired,
	holdfastv1.PurchaseState_PURCHASE_STATE_RETURNED:  ledger.Returned,
}

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

// oversold reports whether customers have more of any product than there is.
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
		fmt.Fprintf(&text, "%v told=%v again=%q attempts=%d failure=%q\n", o, o.Told, o.Again, o.Attempts, o.Failure)
	}
	return os.WriteFile(path, []byte(text.String()), 0o600)
}
