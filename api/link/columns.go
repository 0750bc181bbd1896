package link

import (
	"strings"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/timestamppb"

	holdfastv1 "github.com/holdfast-io/holdfast/api/holdfast/v1"
	workerv1 "github.com/holdfast-io/holdfast/api/holdfast/worker/v1"
)

// numbered is a purchase on its way to the worker.
type numbered struct {
	number uint64
	req    *holdfastv1.CreatePurchaseRequest
	until  time.Time // when it must be decided
	from   *origin   // nil when it is not traced
}

// Stored is what a worker tells of a purchase that is stored. All else of it is as it was
// asked for.
type Stored struct {
	PurchaseID string
	State      holdfastv1.PurchaseState
	CreateTime time.Time // to the microsecond, as is the next
	ExpireTime time.Time // zero when it was never held
	Released   int64     // units given back
}

// decided is an answer on its way to the coordinator.
type decided struct {
	number uint64
	stored Stored
	failed *status.Status // nil when it is stored
}

const textsOfAPurchase = 5

// textsOf lists a purchase's texts in the order of the columns.
func textsOf(req *holdfastv1.CreatePurchaseRequest) [textsOfAPurchase]string {
	return [...]string{
		req.GetProductId(), req.GetCustomerId(), req.GetRegion(), req.GetPaymentMethod(), req.GetRequestId(),
	}
}

// packSales makes a message of purchases.
func packSales(sales []numbered) *workerv1.SellRequest {
	n := len(sales)
	msg := &workerv1.SellRequest{
		Numbers: make([]uint64, n), Amounts: make([]int64, n), TextLengths: make([]uint32, 0, n*textsOfAPurchase),
		Untils: make([]int64, n),
	}
	size := 0
	for i, s := range sales {
		msg.Numbers[i], msg.Amounts[i], msg.Untils[i] = s.number, s.req.GetAmount(), s.until.UnixMilli()
		if hold := s.req.GetHold(); hold != nil {
			if msg.ExpireTimes == nil {
				msg.ExpireTimes = make([]int64, n)
			}
			msg.ExpireTimes[i] = hold.GetExpireTime().AsTime().UnixMicro()
		}
		if s.from != nil {
			msg.Traces = append(msg.Traces, make([]byte, i*originSize-len(msg.Traces))...)
			msg.Traces = append(msg.Traces, s.from[:]...)
		}
		for _, text := range textsOf(s.req) {
			msg.TextLengths = append(msg.TextLengths, uint32(len(text)))
			size += len(text)
		}
	}
	var texts strings.Builder
	texts.Grow(size)
	for _, s := range sales {
		for _, text := range textsOf(s.req) {
			texts.WriteString(text)
		}
	}
	msg.Texts = texts.String()
	return msg
}

// together is how many purchases of a message share memory: as few as still make it cheap,
// for one of them may have to wait for long.
const together = 16

// unpackSales is the inverse of packSales. Whoever keeps a text of a purchase for longer
// than the purchase must clone it.
func unpackSales(msg *workerv1.SellRequest) ([]numbered, error) {
	n, text, lengths := len(msg.GetNumbers()), msg.GetTexts(), msg.GetTextLengths()
	if len(lengths) != n*textsOfAPurchase || len(msg.GetAmounts()) != n || len(msg.GetUntils()) != n ||
		!fits(msg.GetExpireTimes(), n) || !originsFit(msg.GetTraces(), n) {
		return nil, errUneven
	}
	sales := make([]numbered, 0, n)
	for left := n; left > 0; left = n - len(sales) {
		reqs := make([]holdfastv1.CreatePurchaseRequest, min(left, together))
		some := lengths[len(sales)*textsOfAPurchase:][:len(reqs)*textsOfAPurchase]
		size := total(some)
		if size > uint64(len(text)) {
			return nil, errUneven
		}
		own := cut(strings.Clone(text[:size]), some)
		text = text[size:]
		for i := range reqs {
			r, texts := &reqs[i], own[i*textsOfAPurchase:]
			r.ProductId, r.CustomerId, r.Region = texts[0], texts[1], texts[2]
			r.PaymentMethod, r.RequestId = texts[3], texts[4]
			r.Amount = msg.GetAmounts()[len(sales)]
			if expires := entry(msg.GetExpireTimes(), len(sales)); expires != 0 {
				at := timestamppb.New(time.UnixMicro(expires))
				r.Hold = &holdfastv1.Hold{Expiration: &holdfastv1.Hold_ExpireTime{ExpireTime: at}}
			}
			i := len(sales)
			sales = append(sales, numbered{msg.GetNumbers()[i], r, time.UnixMilli(msg.GetUntils()[i]), originOf(msg.GetTraces(), i)})
		}
	}
	if text != "" {
		return nil, errUneven
	}
	return sales, nil
}

// packAnswers makes a message of answers.
func packAnswers(answers []decided) *workerv1.SellResponse {
	msg := &workerv1.SellResponse{}
	var ids strings.Builder
	for _, a := range answers {
		if a.failed != nil {
			msg.Errors = append(msg.Errors, &workerv1.SaleError{Number: a.number, Status: a.failed.Proto()})
			continue
		}
		msg.Numbers = append(msg.Numbers, a.number)
		msg.States = append(msg.States, a.stored.State)
		msg.CreateTimes = append(msg.CreateTimes, a.stored.CreateTime.UnixMicro())
		msg.PurchaseIdLengths = append(msg.PurchaseIdLengths, uint32(len(a.stored.PurchaseID)))
		ids.WriteString(a.stored.PurchaseID)
		if !a.stored.ExpireTime.IsZero() {
			last := len(msg.Numbers) - 1
			msg.ExpireTimes = append(msg.ExpireTimes, make([]int64, last+1-len(msg.ExpireTimes))...)
			msg.ExpireTimes[last] = a.stored.ExpireTime.UnixMicro()
		}
		if a.stored.Released != 0 {
			last := len(msg.Numbers) - 1
			msg.Released = append(msg.Released, make([]int64, last+1-len(msg.Released))...)
			msg.Released[last] = a.stored.Released
		}
	}
	msg.PurchaseIds = ids.String()
	return msg
}

// fits reports whether a column that may be left out, or left short where the rest of it is
// 0, is no longer than the others.
func fits(column []int64, n int) bool { return len(column) <= n }

// entry is an entry of such a column.
func entry(column []int64, i int) int64 {
	if i < len(column) {
		return column[i]
	}
	return 0
}

// unpackAnswers is the inverse of packAnswers, but for the order.
func unpackAnswers(msg *workerv1.SellResponse) ([]decided, error) {
	n, text, lengths := len(msg.GetNumbers()), msg.GetPurchaseIds(), msg.GetPurchaseIdLengths()
	if len(lengths) != n || total(lengths) != uint64(len(text)) || len(msg.GetStates()) != n || len(msg.GetCreateTimes()) != n ||
		!fits(msg.GetExpireTimes(), n) || !fits(msg.GetReleased(), n) {
		return nil, errUneven
	}
	ids := cut(text, lengths)
	answers := make([]decided, 0, n+len(msg.GetErrors()))
	for i, number := range msg.GetNumbers() {
		stored := Stored{
			PurchaseID: ids[i], State: msg.GetStates()[i], CreateTime: time.UnixMicro(msg.GetCreateTimes()[i]).UTC(),
			Released: entry(msg.GetReleased(), i),
		}
		if expires := entry(msg.GetExpireTimes(), i); expires != 0 {
			stored.ExpireTime = time.UnixMicro(expires).UTC()
		}
		answers = append(answers, decided{number: number, stored: stored})
	}
	for _, e := range msg.GetErrors() {
		answers = append(answers, decided{number: e.GetNumber(), failed: status.FromProto(e.GetStatus())})
	}
	return answers, nil
}

func total(lengths []uint32) (sum uint64) {
	for _, n := range lengths {
		sum += uint64(n)
	}
	return sum
}

// cut cuts a text into parts of these lengths, which are as long as the text together.
func cut(text string, lengths []uint32) []string {
	parts := make([]string, len(lengths))
	for i, n := range lengths {
		parts[i], text = text[:n], text[n:]
	}
	return parts
}

var errUneven = status.Error(codes.Internal, "the columns of the message do not fit together")

// answer is what the coordinator makes of what it was told.
func (d *decided) answer(req *holdfastv1.CreatePurchaseRequest) Answer {
	switch {
	case d.failed == nil:
		return Answer{Purchase: d.stored.purchase(req)}
	case d.failed.Code() == codes.OK:
		return Answer{Err: errNoAnswer}
	}
	return Answer{Err: d.failed.Err()}
}

func (s *Stored) purchase(req *holdfastv1.CreatePurchaseRequest) *holdfastv1.Purchase {
	p := &holdfastv1.Purchase{
		PurchaseId: s.PurchaseID, ProductId: req.GetProductId(), Amount: req.GetAmount(), CustomerId: req.GetCustomerId(),
		Region: req.GetRegion(), PaymentMethod: req.GetPaymentMethod(), RequestId: req.GetRequestId(),
		State: s.State, CreateTime: timestamppb.New(s.CreateTime), AmountReleased: s.Released,
	}
	if !s.ExpireTime.IsZero() {
		p.ExpireTime = timestamppb.New(s.ExpireTime)
	}
	return p
}

var errNoAnswer = status.Error(codes.Internal, "the worker's answer is neither a purchase nor an error")
