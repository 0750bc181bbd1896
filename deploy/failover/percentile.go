package failover

import (
	"math"
	"slices"
	"time"
)

// percentile is the smallest of the waits that p per cent of them do not exceed
// ("nearest rank"), so it is always one that somebody had. It is 0 without waits.
func percentile(waits []time.Duration, p float64) time.Duration {
	if len(waits) == 0 {
		return 0
	}
	sorted := slices.Sorted(slices.Values(waits))
	rank := int(math.Ceil(p / 100 * float64(len(sorted))))
	return sorted[min(max(rank, 1), len(sorted))-1]
}

func milliseconds(d time.Duration) float64 { return float64(d.Microseconds()) / 1000 }
