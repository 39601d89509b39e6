package ndproxy

import "sync/atomic"

// Counters count frames by reason.
type Counters struct{ n [reasons]atomic.Uint64 }

func (c *Counters) count(r Reason) { c.n[r].Add(1) }

// Snapshot is the present value of every counter, zeros included, by reason.
func (c *Counters) Snapshot() map[string]uint64 {
	m := make(map[string]uint64, reasons)
	for r := range reasons {
		m[r.String()] = c.n[r].Load()
	}
	return m
}
