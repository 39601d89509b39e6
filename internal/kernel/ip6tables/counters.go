package ip6tables

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/v6net/v6net/internal/firewall"
)

// Counters reads what the chains that count have counted, in both families.
func (f *Firewall) Counters(ctx context.Context) (firewall.Counters, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	counters := firewall.Counters{}
	if f.applied == nil {
		return counters, nil
	}
	for _, fam := range families {
		for _, name := range tableNames {
			counting := slices.DeleteFunc(slices.Clone(f.want(fam, name).chains), func(ch *chain) bool { return ch.counting == "" })
			if len(counting) == 0 {
				continue
			}
			there, err := f.space.read(ctx, f.programs, fam, name, "-v")
			if err != nil {
				return nil, fmt.Errorf("read the counters: %w", err)
			}
			for _, ch := range counting {
				if counters[ch.counting] == nil {
					counters[ch.counting] = map[string]uint64{}
				}
				for _, r := range there.rules[ch.name] {
					if link := strings.Fields(r.text); len(link) == 2 { // -i NAME
						counters[ch.counting][`"`+link[1]+`"`] += r.packets
					}
				}
			}
		}
	}
	return counters, nil
}
