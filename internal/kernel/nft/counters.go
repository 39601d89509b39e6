package nft

import (
	"context"
	"fmt"
	"strings"

	"github.com/v6net/v6net/internal/firewall"
)

// Counters reads what the sets of the applied ruleset have counted. They are all of
// links. Where none is applied there are none.
func (f *Firewall) Counters(ctx context.Context) (firewall.Counters, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	counted := firewall.Counters{}
	if f.applied == nil {
		return counted, nil
	}
	if err := drain(f.socket); err != nil {
		return nil, err
	}
	ts, err := newTables(*f.applied, f.frameless)
	if err != nil {
		return nil, err
	}
	for _, name := range firewall.CountingSets() {
		s, ok := ts.sets[name]
		if !ok {
			continue // of a table that this kernel cannot have
		}
		elements, err := f.conn.GetSetElements(s.Set)
		if err != nil {
			return nil, fmt.Errorf("read the counters of set %s: %w", name, err)
		}
		counted[name] = map[string]uint64{}
		for _, e := range elements {
			if e.Counter != nil {
				counted[name][`"`+strings.TrimRight(string(e.Key), "\x00")+`"`] = e.Counter.Packets
			}
		}
	}
	return counted, nil
}
