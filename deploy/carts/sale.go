package carts

import (
	"context"
	"fmt"
	"math/rand/v2"
	"sync"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	holdfastv1 "github.com/holdfast-io/holdfast/api/holdfast/v1"
	"github.com/holdfast-io/holdfast/deploy/books"
	"github.com/holdfast-io/holdfast/deploy/replay"
)

const (
	maxLines = 100 // of an order
	currency = "GBP"

	// attemptTimeout is for an order of a hundred lines, on a machine that has other
	// things to do; patience is until a customer counts as one who was told nothing.
	attemptTimeout = 30 * time.Second
	patience       = 3 * time.Minute
)

// sale is all customers, and what they have.
type sale struct {
	cfg       *Config
	products  holdfastv1.ProductServiceClient
	purchases holdfastv1.PurchaseServiceClient
	orders    holdfastv1.OrderServiceClient
	shards    []string

	mu      sync.Mutex              // guards:
	figures Figures                 // Kills is the killer's
	has     map[string][]*purchased // by customer and product, the most recent last
	told    map[string]answer       // by the order's request id
	done    int                     // carts
}

// purchased is what a customer has of one purchase.
type purchased struct {
	id  string
	has int64
}

// answer is what a customer was told about an order.
type answer string

const (
	confirmed answer = "confirmed"
	declined  answer = "declined"
	failed    answer = "failed"  // not all lines were to be had
	expired   answer = "expired" // the money took longer than the hold
	untold    answer = "untold"
)

func newSale(cfg *Config, conn grpc.ClientConnInterface, shards []string) *sale {
	s := &sale{
		cfg: cfg, shards: shards, has: map[string][]*purchased{}, told: map[string]answer{},
		products:  holdfastv1.NewProductServiceClient(conn),
		purchases: holdfastv1.NewPurchaseServiceClient(conn), orders: holdfastv1.NewOrderServiceClient(conn),
	}
	s.figures.CreditNotesUnmatched, s.figures.Wrong = []Unmatched{}, []string{}
	s.figures.Carts = len(cfg.Carts.Carts)
	s.figures.Skipped = cfg.Carts.Skipped
	return s
}

// shop goes through all carts, each customer through his own in their order.
func (s *sale) shop(ctx context.Context) {
	next := make(chan func())
	var customers sync.WaitGroup
	for range s.cfg.Customers {
		customers.Go(func() {
			for do := range next {
				do()
			}
		})
	}
	last := map[string]chan struct{}{} // by customer: closed when his cart before is done
	for i := range s.cfg.Carts.Carts {
		cart := &s.cfg.Carts.Carts[i]
		before, done := last[cart.CustomerID], make(chan struct{})
		last[cart.CustomerID] = done
		next <- func() {
			defer close(done)
			if before != nil {
				<-before
			}
			if ctx.Err() == nil {
				s.take(ctx, cart)
			}
		}
	}
	close(next)
	customers.Wait()
}

func (s *sale) take(ctx context.Context, cart *replay.Cart) {
	if cart.Return {
		for _, line := range cart.Lines {
			s.giveBack(ctx, cart, line)
		}
	} else {
		for i, lines := range cart.Split(maxLines) {
			request := cart.Invoice
			if i > 0 {
				request = fmt.Sprintf("%s-%d", cart.Invoice, i+1)
			}
			s.order(ctx, cart, request, lines)
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.done++
	s.cfg.Progress(s.done, len(s.cfg.Carts.Carts))
}

// order orders and pays.
func (s *sale) order(ctx context.Context, cart *replay.Cart, request string, lines []replay.CartLine) {
	region := s.shards[1]
	if cart.Country == "United Kingdom" {
		region = s.shards[0]
	}
	var asked []*holdfastv1.OrderLine
	for _, l := range lines {
		asked = append(asked, &holdfastv1.OrderLine{
			ProductId: l.ProductID, Amount: l.Amount,
			UnitPrice: &holdfastv1.Money{CurrencyCode: currency, MinorUnits: l.UnitPrice},
		})
	}
	ask := func() (order *holdfastv1.Order, err error) {
		err = insist(ctx, func(ctx context.Context) (err error) {
			order, err = s.orders.CreateOrder(ctx, &holdfastv1.CreateOrderRequest{
				Lines: asked, CustomerId: cart.CustomerID, Region: region, PaymentMethod: "simulated", RequestId: request,
			})
			return err
		})
		return order, err
	}
	order, err := ask()
	again, againErr := order, err
	if lines[0].Number%4 == 0 && !leavesOpen(err) {
		again, againErr = ask() // as if the first answer had been lost
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	f, told := &s.figures, untold
	if !leavesOpen(againErr) && (holdfastv1.Reason(err) != holdfastv1.Reason(againErr) || order.GetState() != again.GetState()) {
		f.wrong("order %s was told %v (state %v), and then %v (state %v)", request, err, order.GetState(), againErr, again.GetState())
	}
	f.Orders++
	f.Lines += len(lines)
	switch reason := holdfastv1.Reason(err); {
	case err == nil && order.GetState() == holdfastv1.PurchaseState_PURCHASE_STATE_CONFIRMED:
		told = confirmed
		f.Confirmed++
		for _, p := range order.GetPurchases() {
			key := cart.CustomerID + " " + p.GetProductId()
			s.has[key] = append(s.has[key], &purchased{p.GetPurchaseId(), p.GetAmount()})
			f.ConfirmedLines++
		}
	case reason == holdfastv1.ReasonOrderFailed:
		told = failed
		f.countFailure(err)
	case reason == holdfastv1.ReasonPaymentDeclined:
		told = declined
		f.Declined++
	case reason == holdfastv1.ReasonHoldExpired:
		told = expired
		f.Expired++
	case leavesOpen(err):
		f.Untold++
	default:
		f.wrong("order %s has no outcome: %v (state %v)", request, err, order.GetState())
	}
	s.told[request] = told
}

// countFailure tells orders for which there was no stock from those that failed otherwise.
func (f *Figures) countFailure(err error) {
	reasons := map[string]bool{}
	for _, detail := range status.Convert(err).Details() {
		failure, ok := detail.(*holdfastv1.OrderFailure)
		for _, line := range failure.GetLines() {
			reasons[holdfastv1.Reason(status.ErrorProto(line.GetStatus()))] = ok
		}
	}
	if reasons[holdfastv1.ReasonInsufficientStock] {
		f.FailedForStock++
		return
	}
	f.FailedOtherwise++
	for reason := range reasons {
		if f.OtherReasons == nil {
			f.OtherReasons = map[string]int{}
		}
		f.OtherReasons[reason]++
	}
}

// giveBack returns what a line of a credit note says, from the most recent purchase on.
func (s *sale) giveBack(ctx context.Context, cart *replay.Cart, line replay.CartLine) {
	s.mu.Lock()
	of := s.has[cart.CustomerID+" "+line.ProductID] // only this customer changes it, and he is here
	s.figures.CreditNoteLines++
	s.mu.Unlock()
	left := line.Amount
	for i := len(of) - 1; i >= 0 && left > 0; i-- {
		units := min(left, of[i].has)
		if units == 0 {
			continue
		}
		err := insist(ctx, func(ctx context.Context) error {
			_, err := s.purchases.ReturnPurchase(ctx, &holdfastv1.ReturnPurchaseRequest{
				PurchaseId: of[i].id, Amount: units, RequestId: fmt.Sprintf("%s-%d", cart.Invoice, line.Number),
			})
			return err
		})
		s.mu.Lock()
		if err != nil {
			s.figures.wrong("credit note %s: %d units of purchase %s not returned: %v", cart.Invoice, units, of[i].id, err)
		} else {
			of[i].has -= units
			left -= units
			s.figures.ReturnedUnits += units
		}
		s.mu.Unlock()
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case left == 0:
		s.figures.CreditNoteLinesReturned++
	case left < line.Amount:
		s.figures.CreditNoteLinesInPart++
		fallthrough
	default:
		s.figures.CreditNotesUnmatched = append(s.figures.CreditNotesUnmatched, Unmatched{
			CreditNote: cart.Invoice, Line: line.Number, ProductID: line.ProductID, Units: left,
		})
	}
}

// compare holds what customers were told against the rows.
func (s *sale) compare(orders []*books.Order) {
	rows := map[string]*books.Order{}
	for _, o := range orders {
		rows[o.RequestID] = o
	}
	for request, told := range s.told {
		o := rows[request]
		switch {
		case told == untold: // whatever the rows say, the books must agree with it
		case o == nil:
			s.figures.wrong("order %s was told %s, and is not stored", request, told)
		case o.IsConfirmed() != (told == confirmed):
			s.figures.wrong("order %s was told %s, and its rows say confirmed: %v", request, told, o.IsConfirmed())
		}
	}
	returned := int64(0)
	for _, o := range orders {
		for _, l := range o.Lines {
			returned += l.Returned
		}
	}
	if returned != s.figures.ReturnedUnits {
		s.figures.wrong("%d units were returned, and the rows say %d", s.figures.ReturnedUnits, returned)
	}
}

// insist repeats a call until its answer says what happened.
func insist(ctx context.Context, call func(context.Context) error) error {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	for {
		attempt, cancel := context.WithTimeout(ctx, attemptTimeout)
		err := call(attempt)
		cancel()
		if !leavesOpen(err) || !sleep(ctx, 10*time.Millisecond+rand.N(90*time.Millisecond)) {
			return err
		}
	}
}

// leavesOpen tells that a call may be answered when it is repeated.
func leavesOpen(err error) bool {
	switch status.Code(err) {
	case codes.Unavailable, codes.DeadlineExceeded, codes.Aborted, codes.ResourceExhausted, codes.Canceled:
		return true
	}
	return false
}
