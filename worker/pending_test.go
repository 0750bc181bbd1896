package worker

import (
	"testing"

	"pgregory.net/rapid"

	"github.com/holdfast-io/holdfast/worker/ledger"
)

// However many there are and in whatever order they come and go, each is found by its key.
func TestPendingFindsWhatWasAdded(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var p pending
		want := map[saleKey]*sale{}
		key := rapid.Custom(func(t *rapid.T) saleKey {
			return saleKey{rapid.SampledFrom([]string{"eu", "us"}).Draw(t, "region"), rapid.StringMatching("[0-9a-c]").Draw(t, "request")}
		})
		t.Repeat(map[string]func(*rapid.T){
			"add": func(t *rapid.T) {
				k := key.Draw(t, "key")
				if want[k] == nil {
					want[k] = &sale{region: k.region, row: ledger.Purchase{RequestID: k.requestID}}
					p.add(want[k])
				}
			},
			"remove": func(t *rapid.T) {
				k := key.Draw(t, "key")
				if want[k] != nil {
					p.remove(want[k])
					delete(want, k)
				}
			},
			"": func(t *rapid.T) {
				if p.len() != len(want) {
					t.Fatalf("%d sales, want %d", p.len(), len(want))
				}
				if k := key.Draw(t, "key"); p.find(k) != want[k] {
					t.Fatalf("found %v, want %v", p.find(k), want[k])
				}
				if len(want) == 0 && (p.few != nil || p.many != nil) {
					t.Fatal("memory is kept for nothing")
				}
			},
		})
	})
}
