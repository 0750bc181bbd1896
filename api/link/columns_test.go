package link

import (
	"math"
	"reflect"
	"testing"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"
	"pgregory.net/rapid"

	holdfastv1 "github.com/holdfast-io/holdfast/api/holdfast/v1"
	workerv1 "github.com/holdfast-io/holdfast/api/holdfast/worker/v1"
)

// over carries a message over the wire.
func over[M proto.Message](t *rapid.T, msg, into M) M {
	wire, err := proto.Marshal(msg)
	if err == nil {
		err = proto.Unmarshal(wire, into)
	}
	if err != nil {
		t.Fatal(err)
	}
	return into
}

// holds are what a coordinator makes of holds, mostly none: any end after 1970, to the microsecond.
func holds() *rapid.Generator[*holdfastv1.Hold] {
	const latest = 253402300799_999999 // the last microsecond of the year 9999
	return rapid.Custom(func(t *rapid.T) *holdfastv1.Hold {
		at := rapid.OneOf(rapid.Just(int64(0)), rapid.Just(int64(0)), rapid.Int64Range(1, latest)).Draw(t, "until")
		if at == 0 {
			return nil
		}
		return &holdfastv1.Hold{Expiration: &holdfastv1.Hold_ExpireTime{ExpireTime: timestamppb.New(time.UnixMicro(at))}}
	})
}

// origins are those of purchases, mostly of such as are not traced.
func origins() *rapid.Generator[*origin] {
	return rapid.Custom(func(t *rapid.T) *origin {
		if rapid.IntRange(0, 3).Draw(t, "traced") > 0 {
			return nil
		}
		o := &origin{}
		copy(o[:], rapid.SliceOfN(rapid.ByteRange(1, 255), originSize, originSize).Draw(t, "origin"))
		return o
	})
}

func TestPurchasesArriveAsTheyWereSent(t *testing.T) {
	text := rapid.String()
	rapid.Check(t, func(t *rapid.T) {
		sent := rapid.SliceOf(rapid.Custom(func(t *rapid.T) numbered {
			until := time.UnixMilli(rapid.Int64Range(-1<<50, 1<<50).Draw(t, "until"))
			return numbered{rapid.Uint64().Draw(t, "number"), &holdfastv1.CreatePurchaseRequest{
				ProductId: text.Draw(t, "product"), Amount: rapid.Int64().Draw(t, "amount"),
				CustomerId: text.Draw(t, "customer"), Region: text.Draw(t, "region"),
				PaymentMethod: text.Draw(t, "payment"), RequestId: text.Draw(t, "request"), Hold: holds().Draw(t, "hold"),
			}, until, origins().Draw(t, "from")}
		})).Draw(t, "sent")
		got, err := unpackSales(over(t, packSales(sent), &workerv1.SellRequest{}))
		if err != nil || len(got) != len(sent) {
			t.Fatalf("%d of %d purchases: %v", len(got), len(sent), err)
		}
		for i := range sent {
			if got[i].number != sent[i].number || !got[i].until.Equal(sent[i].until) || !proto.Equal(got[i].req, sent[i].req) ||
				!reflect.DeepEqual(got[i].from, sent[i].from) {
				t.Errorf("got %v, want %v", got[i], sent[i])
			}
		}
	})
}

func TestAnswersArriveAsTheyWereSent(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		sent := rapid.SliceOf(rapid.Custom(func(t *rapid.T) decided {
			d := decided{number: rapid.Uint64().Draw(t, "number")}
			if rapid.Bool().Draw(t, "failed") {
				d.failed = status.New(codes.Code(rapid.Uint32Range(0, 16).Draw(t, "code")), rapid.String().Draw(t, "message"))
				return d
			}
			d.stored = Stored{
				PurchaseID: rapid.String().Draw(t, "id"), State: holdfastv1.PurchaseState(rapid.Int32().Draw(t, "state")),
				CreateTime: time.UnixMicro(rapid.Int64Range(0, math.MaxInt64/2).Draw(t, "time")).UTC(),
				Released:   rapid.OneOf(rapid.Just(int64(0)), rapid.Int64Range(0, math.MaxInt64)).Draw(t, "released"),
			}
			if hold := holds().Draw(t, "hold"); hold != nil {
				d.stored.ExpireTime = hold.GetExpireTime().AsTime()
			}
			return d
		})).Draw(t, "sent")
		got, err := unpackAnswers(over(t, packAnswers(sent), &workerv1.SellResponse{}))
		if err != nil || len(got) != len(sent) {
			t.Fatalf("%d of %d answers: %v", len(got), len(sent), err)
		}
		var want []decided // first what is stored, then what is not
		for _, failed := range []bool{false, true} {
			for _, d := range sent {
				if (d.failed != nil) == failed {
					want = append(want, d)
				}
			}
		}
		for i, w := range want {
			g := got[i]
			if g.number != w.number || g.stored != w.stored || g.failed.Code() != w.failed.Code() || g.failed.Message() != w.failed.Message() {
				t.Errorf("got %+v, want %+v", g, w)
			}
		}
	})
}

// What comes from another version, or from nobody that speaks this, is refused as a whole.
func FuzzUnpack(f *testing.F) {
	for _, msg := range []proto.Message{
		packSales([]numbered{{1, &holdfastv1.CreatePurchaseRequest{ProductId: "p", Amount: 3, Region: "eu", RequestId: "r"}, time.UnixMilli(1), nil}}),
		packSales([]numbered{
			{1, &holdfastv1.CreatePurchaseRequest{}, time.UnixMilli(1), nil},
			{2, &holdfastv1.CreatePurchaseRequest{Hold: holds().Filter(isHold).Example(1)}, time.UnixMilli(2), &origin{1, 23: 1}},
		}),
		packAnswers([]decided{{number: 3}, {number: 1, stored: Stored{ExpireTime: time.UnixMicro(5), Released: 3}}, {number: 4}}),
		&workerv1.SellRequest{ExpireTimes: []int64{1}}, &workerv1.SellRequest{Traces: make([]byte, originSize)},
		&workerv1.SellRequest{Traces: []byte{1}}, &workerv1.SellResponse{Released: []int64{1}},
		packAnswers([]decided{{number: 1, stored: Stored{PurchaseID: "eu-1"}}, {number: 2, failed: status.New(codes.Aborted, "no")}}),
	} {
		wire, err := proto.Marshal(msg)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(wire)
	}
	f.Fuzz(func(t *testing.T, wire []byte) {
		request, response := &workerv1.SellRequest{}, &workerv1.SellResponse{}
		if proto.Unmarshal(wire, request) == nil {
			sales, err := unpackSales(request)
			if err == nil && len(sales) != len(request.GetNumbers()) {
				t.Errorf("%d purchases of %v", len(sales), request)
			}
			if n := len(request.GetTraces()); err == nil && (n%originSize != 0 || n/originSize > len(sales)) {
				t.Errorf("%d bytes of traces of %d purchases", n, len(sales))
			}
			held := 0
			for _, s := range sales {
				if s.req.GetHold() != nil {
					held++
				}
			}
			if want := notZero(request.GetExpireTimes()); err == nil && held != want {
				t.Errorf("%d holds of %v, want %d", held, request, want)
			}
		}
		if proto.Unmarshal(wire, response) == nil {
			answers, err := unpackAnswers(response)
			if err == nil && len(answers) != len(response.GetNumbers())+len(response.GetErrors()) {
				t.Errorf("%d answers of %v", len(answers), response)
			}
			held, released := 0, 0
			for _, a := range answers {
				if !a.stored.ExpireTime.IsZero() {
					held++
				}
				if a.stored.Released != 0 {
					released++
				}
			}
			if err == nil && (held != notZero(response.GetExpireTimes()) || released != notZero(response.GetReleased())) {
				t.Errorf("%d holds and %d with units released of %v", held, released, response)
			}
		}
	})
}

func isHold(h *holdfastv1.Hold) bool { return h != nil }

func notZero(column []int64) (n int) {
	for _, v := range column {
		if v != 0 {
			n++
		}
	}
	return n
}
