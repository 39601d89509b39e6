//go:build bench

package bench_test

import (
	"math"
	"slices"
	"time"
)

// sample is how long one thing took, time after time.
type sample []time.Duration

// quantile is the least of the times that a part q, above 0 and at most 1, of
// all does not exceed, in milliseconds.
func (s sample) quantile(q float64) float64 {
	sorted := slices.Sorted(slices.Values(s))
	return milliseconds(sorted[int(math.Ceil(q*float64(len(sorted))))-1])
}

func (s sample) median() float64 { return s.quantile(0.5) }

func milliseconds(d time.Duration) float64 { return float64(d) / float64(time.Millisecond) }
