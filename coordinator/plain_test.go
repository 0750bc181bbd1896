package coordinator

import (
	"context"
	"fmt"
	"math"
	"strings"
	"testing"

	"buf.build/go/protovalidate"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/timestamppb"
	"pgregory.net/rapid"

	holdfastv1 "github.com/holdfast-io/holdfast/api/holdfast/v1"
)

func newValidator(t testing.TB) protovalidate.Validator {
	t.Helper()
	validator, err := protovalidate.New()
	if err != nil {
		t.Fatal(err)
	}
	return validator
}

// text is around what a field may hold, and mostly plain.
func text() *rapid.Generator[string] {
	short := rapid.StringMatching(`[ -~]{0,12}`)
	return rapid.OneOf(short, short, short, short, short, short,
		rapid.Map(rapid.IntRange(126, 130), func(n int) string { return strings.Repeat("~", n) }),
		rapid.Map(rapid.Byte(), func(b byte) string { return "a" + string([]byte{b}) }),
		rapid.String(),
	)
}

func purchases() *rapid.Generator[*holdfastv1.CreatePurchaseRequest] {
	valid := rapid.Int64Range(1, 1<<53)
	amount := rapid.OneOf(valid, valid, valid, rapid.Int64Range(-1, 2), rapid.Int64Range(1<<53-1, 1<<53+1), rapid.Int64())
	return rapid.Custom(func(t *rapid.T) *holdfastv1.CreatePurchaseRequest {
		return &holdfastv1.CreatePurchaseRequest{
			ProductId: text().Draw(t, "product"), CustomerId: text().Draw(t, "customer"), Region: text().Draw(t, "region"),
			PaymentMethod: text().Draw(t, "payment"), RequestId: text().Draw(t, "request"), Amount: amount.Draw(t, "amount"),
			Hold: holds().Draw(t, "hold"),
		}
	})
}

func holds() *rapid.Generator[*holdfastv1.Hold] {
	usual := rapid.Int64Range(1, 1<<20)
	seconds := rapid.OneOf(usual, usual, rapid.Int64Range(-1, 1), rapid.Int64Range(maxHoldSeconds-1, maxHoldSeconds+1), rapid.Int64())
	none := rapid.Just(int32(0))
	nanos := rapid.OneOf(none, none, rapid.Int32Range(-1, 1), rapid.Int32Range(1e9-1, 1e9+1), rapid.Int32())
	return rapid.Custom(func(t *rapid.T) *holdfastv1.Hold {
		return hold(rapid.Uint8Max(kindsOfHold).Draw(t, "kind"), seconds.Draw(t, "seconds"), nanos.Draw(t, "nanos"))
	})
}

const kindsOfHold = 5

// hold makes each kind of hold, and none.
func hold(kind uint8, seconds int64, nanos int32) *holdfastv1.Hold {
	switch kind {
	case 0:
		return &holdfastv1.Hold{}
	case 1:
		return &holdfastv1.Hold{Expiration: &holdfastv1.Hold_Duration{Duration: &durationpb.Duration{Seconds: seconds, Nanos: nanos}}}
	case 2:
		return &holdfastv1.Hold{Expiration: &holdfastv1.Hold_ExpireTime{ExpireTime: &timestamppb.Timestamp{Seconds: seconds, Nanos: nanos}}}
	case 3:
		return &holdfastv1.Hold{Expiration: &holdfastv1.Hold_Duration{}}
	case 4:
		return &holdfastv1.Hold{Expiration: &holdfastv1.Hold_ExpireTime{}}
	}
	return nil
}

// A purchase that skips the validator must be one that it would have let through.
func TestPlainRequestsAreValid(t *testing.T) {
	validator, seen := newValidator(t), 0
	rapid.Check(t, func(t *rapid.T) {
		r := purchases().Draw(t, "purchase")
		some := rapid.SliceOfN(purchases(), 0, 3).Draw(t, "more")
		for _, req := range []proto.Message{r, &holdfastv1.BatchCreatePurchasesRequest{Requests: some}} {
			if !plain(req) {
				continue
			}
			seen++
			if err := validator.Validate(req); err != nil {
				t.Fatalf("%v is plain, and not valid: %v", req, err)
			}
		}
	})
	if t.Logf("%d were plain", seen); seen == 0 {
		t.Error("nothing was plain")
	}
}

func FuzzPlainRequestsAreValid(f *testing.F) {
	f.Add("p", "c", "eu", "card", "r", int64(1), uint8(kindsOfHold), int64(0), int32(0))
	f.Add("", "", "", "", "", int64(0), uint8(0), int64(0), int32(0))
	f.Add(strings.Repeat("~", 128), "\x1f", "\x7f", "\u0085", "\xff", int64(1<<53), uint8(2), int64(1), int32(0))
	for _, seconds := range []int64{-1, 0, 1, maxHoldSeconds - 1, maxHoldSeconds, 1 << 58, math.MinInt64, math.MaxInt64} {
		for _, nanos := range []int32{-1, 0, 1, 1e9 - 1, 1e9, math.MinInt32, math.MaxInt32} {
			f.Add("p", "c", "eu", "card", "r", int64(1), uint8(1), seconds, nanos)
		}
	}
	validator := newValidator(f)
	f.Fuzz(func(t *testing.T, product, customer, region, payment, request string, amount int64, kind uint8, seconds int64, nanos int32) {
		r := &holdfastv1.CreatePurchaseRequest{
			ProductId: product, CustomerId: customer, Region: region, PaymentMethod: payment, RequestId: request, Amount: amount,
			Hold: hold(kind, seconds, nanos),
		}
		if err := validator.Validate(r); plain(r) && err != nil {
			t.Errorf("%v is plain, and not valid: %v", r, err)
		}
	})
}

// Each byte that a plain text may hold, at each length, is valid in every field.
func TestPlainTextsAreValid(t *testing.T) {
	validator := newValidator(t)
	for b := range 256 {
		for _, n := range []int{0, 1, 2, 127, 128, 129} {
			s := strings.Repeat(string([]byte{byte(b)}), n)
			for i := range 5 {
				fields := [5]string{"p", "c"}
				fields[i] = s
				r := &holdfastv1.CreatePurchaseRequest{
					ProductId: fields[0], CustomerId: fields[1], Region: fields[2], PaymentMethod: fields[3], RequestId: fields[4], Amount: 1,
				}
				if !plain(r) {
					continue
				}
				if err := validator.Validate(r); err != nil {
					t.Errorf("%v is plain, and not valid: %v", r, err)
				}
			}
		}
	}
}

// The bounds, and what buyers really send, are to be had cheaply.
func TestWhatIsPlain(t *testing.T) {
	valid := func(change func(*holdfastv1.CreatePurchaseRequest)) *holdfastv1.CreatePurchaseRequest {
		r := &holdfastv1.CreatePurchaseRequest{ProductId: "ticket 1/a", CustomerId: "ann@example.com", Amount: 1}
		change(r)
		return r
	}
	batch := func(n int, more ...*holdfastv1.CreatePurchaseRequest) *holdfastv1.BatchCreatePurchasesRequest {
		for range n {
			more = append(more, valid(func(*holdfastv1.CreatePurchaseRequest) {}))
		}
		return &holdfastv1.BatchCreatePurchasesRequest{Requests: more}
	}
	long := strings.Repeat("~", 128)
	for _, tt := range []struct {
		name string
		req  proto.Message
		want bool
	}{
		{"short", valid(func(*holdfastv1.CreatePurchaseRequest) {}), true},
		{"all fields long", valid(func(r *holdfastv1.CreatePurchaseRequest) {
			r.ProductId, r.CustomerId, r.Region, r.PaymentMethod, r.RequestId = long, long, long, long, long
		}), true},
		{"most units", valid(func(r *holdfastv1.CreatePurchaseRequest) { r.Amount = 1 << 53 }), true},
		{"too many units", valid(func(r *holdfastv1.CreatePurchaseRequest) { r.Amount = 1<<53 + 1 }), false},
		{"not ASCII", valid(func(r *holdfastv1.CreatePurchaseRequest) { r.CustomerId = "Zoë" }), false},
		{"too long", valid(func(r *holdfastv1.CreatePurchaseRequest) { r.RequestId = long + "~" }), false},
		{"held by default", valid(func(r *holdfastv1.CreatePurchaseRequest) { r.Hold = hold(0, 0, 0) }), true},
		{"held for ten minutes", valid(func(r *holdfastv1.CreatePurchaseRequest) { r.Hold = hold(1, 600, 1e9-1) }), true},
		{"held for no time", valid(func(r *holdfastv1.CreatePurchaseRequest) { r.Hold = hold(1, 0, 0) }), false},
		{"held for too many nanoseconds", valid(func(r *holdfastv1.CreatePurchaseRequest) { r.Hold = hold(1, 600, 1e9) }), false},
		{"held until a time", valid(func(r *holdfastv1.CreatePurchaseRequest) { r.Hold = hold(2, 1<<31, 0) }), false},
		{"empty batch", batch(0), false},
		{"batch", batch(1), true},
		{"largest batch", batch(1000), true},
		{"too large a batch", batch(1001), false},
		{"batch with one that is not there", batch(2, nil), false},
		{"another request", &holdfastv1.GetPurchaseRequest{PurchaseId: "p"}, false},
	} {
		if got := plain(tt.req); got != tt.want {
			t.Errorf("%s: plain is %v, want %v", tt.name, got, tt.want)
		}
	}
}

// A text that is not UTF-8 could not be stored, nor be told to anybody, wherever it
// comes in.
func TestTextThatIsNotUTF8IsRefused(t *testing.T) {
	s := &service{validate: newValidator(t)}
	for field, change := range map[string]func(*holdfastv1.CreatePurchaseRequest){
		"product_id":     func(r *holdfastv1.CreatePurchaseRequest) { r.ProductId = "a\xff" },
		"customer_id":    func(r *holdfastv1.CreatePurchaseRequest) { r.CustomerId = "\xc3" },
		"region":         func(r *holdfastv1.CreatePurchaseRequest) { r.Region = "e\xed\xa0\x80u" },
		"request_id":     func(r *holdfastv1.CreatePurchaseRequest) { r.RequestId = "\x80" },
		"payment_method": func(r *holdfastv1.CreatePurchaseRequest) { r.PaymentMethod = "card\xc0\xaf" },
	} {
		bad := &holdfastv1.CreatePurchaseRequest{ProductId: "p", CustomerId: "Zoë", Amount: 1}
		change(bad)
		_, err := s.CreatePurchase(context.Background(), bad)
		checkNames(t, err, field)
		good := &holdfastv1.CreatePurchaseRequest{ProductId: "p", CustomerId: "Zoë", Amount: 1}
		_, err = s.BatchCreatePurchases(context.Background(), &holdfastv1.BatchCreatePurchasesRequest{
			Requests: []*holdfastv1.CreatePurchaseRequest{good, bad},
		})
		checkNames(t, err, fmt.Sprintf("requests[1].%s", field))
	}
	_, err := s.GetPurchase(context.Background(), &holdfastv1.GetPurchaseRequest{PurchaseId: "eu-\xff"})
	checkNames(t, err, "purchase_id")
}

func checkNames(t *testing.T, err error, field string) {
	t.Helper()
	if status.Code(err) != codes.InvalidArgument || holdfastv1.Reason(err) != holdfastv1.ReasonInvalidField ||
		holdfastv1.Info(err).GetMetadata()["field"] != field {
		t.Errorf("got %v, want an INVALID_ARGUMENT that names %s", err, field)
	}
}
