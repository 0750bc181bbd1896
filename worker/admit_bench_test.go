package worker

import (
	"strconv"
	"testing"

	"github.com/holdfast-io/holdfast/worker/ledger"
)

// Admission of a purchase that fits, and what its lane is told, without the shard.
func BenchmarkAdmit(b *testing.B) {
	for name, f := range map[string]*follower{"nowhere": nil, "region": inEU()} {
		b.Run(name, func(b *testing.B) {
			bench := newBench(1 << 50)
			bench.follower = f
			l := bench.lanes.byShard["eu"]
			nobody := func(*ledger.Purchase, error) {}
			ids := make([]string, 1024)
			for i := range ids {
				ids[i] = strconv.Itoa(i)
			}
			b.ReportAllocs()
			for n := 0; b.Loop(); n++ {
				p := wish("eu", ids[n%len(ids)], 1)
				p.From = "eu"
				if err := bench.admit(p, nobody); err != nil {
					b.Fatal(err)
				}
				if n%len(ids) == len(ids)-1 {
					b.StopTimer()
					for bench.pending.len() > 0 {
						bench.eu.commit = all(ledger.Inserted)
						l.commit(b.Context(), l.commits.take(1))
					}
					b.StartTimer()
				}
			}
		})
	}
}
