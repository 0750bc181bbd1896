package coordinator

import (
	"bytes"
	"strings"
	"testing"

	"google.golang.org/protobuf/proto"

	holdfastv1 "github.com/holdfast-io/holdfast/api/holdfast/v1"
)

// A request that could be valid must arrive whole, and one that has too many parts still have them.
func FuzzEnoughIsWholeIfItCanBeValid(f *testing.F) {
	whole, err := proto.Marshal(&holdfastv1.CreateOrderRequest{
		CustomerId: "ann", RequestId: "r", Lines: []*holdfastv1.OrderLine{{ProductId: "p", Amount: 1}, {ProductId: "q", Amount: 2}},
	})
	if err != nil {
		f.Fatal(err)
	}
	f.Add(whole)
	f.Add(bytes.Repeat([]byte{partsField<<3 | 2, 0}, maxBatch))
	f.Add(append(bytes.Repeat([]byte{partsField<<3 | 2, 0}, maxBatch+7), whole...))
	f.Add(append(bytes.Repeat([]byte{partsField << 3, 1}, maxBatch+1), whole...)) // of another type
	f.Fuzz(func(t *testing.T, message []byte) {
		var want, got holdfastv1.CreateOrderRequest
		if proto.Unmarshal(message, &want) != nil {
			return
		}
		if err := proto.Unmarshal(enough(message), &got); err != nil {
			t.Fatal(err)
		}
		if len(want.GetLines()) > maxBatch {
			if len(got.GetLines()) != maxBatch+1 {
				t.Errorf("%d of %d lines", len(got.GetLines()), len(want.GetLines()))
			}
			return
		}
		if !bytes.Equal(enough(message), message) {
			t.Error("it is not whole")
		}
	})
}

func TestPartsOfJSON(t *testing.T) {
	for body, want := range map[string]int{
		``:                              0,
		`{"a":1,"b":2}`:                 0,
		`{"requests":[{},{},{}]}`:       2,
		`{"r":[{"a":1,"b":[1,2,3]}]}`:   0,
		`{"a":{"b":1,"c":2},"d":[1,2]}`: 2,
		`{"r":[",,,\",","\\",",]}"]}`:   2,
		`}}}],,,`:                       0,
		`{"r":[` + strings.Repeat("0,", maxParts) + `0]}`: maxParts,
	} {
		if got := partsOf([]byte(body)); got != want {
			t.Errorf("%.40s: %d, want %d", body, got, want)
		}
	}
}
