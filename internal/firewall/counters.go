package firewall

import (
	"strings"

	"github.com/v6net/v6net/internal/spec"
)

// Counters are the packets that sets with Counter have counted, by the set's name
// and the element's key.
type Counters map[string]map[string]uint64

// CountingSets are the names of those sets.
func CountingSets() []string {
	var names []string
	for _, t := range tables(wanted{}) {
		for _, s := range t.Sets {
			if s.Counter {
				names = append(names, s.Name)
			}
		}
	}
	return names
}

// Of is what was counted for a network.
func (c Counters) Of(n Network) spec.FirewallCounters {
	bridge := quote(n.Bridge)
	out := spec.FirewallCounters{
		LetIn: c["let_in"][bridge], LetOut: c["let_out"][bridge], DeniedIn: c["denied_in"][bridge], DeniedOut: c["denied_out"][bridge],
	}
	for _, container := range n.Containers {
		if forged := c["forgers"][quote(container.Port)]; forged > 0 {
			if out.Forged == nil {
				out.Forged = map[string]uint64{}
			}
			out.Forged[strings.TrimPrefix(strings.TrimPrefix(container.Name, "container "), "endpoint ")] = forged
		}
	}
	return out
}

// Denied are all packets of a network that have been dropped, forged ones included, by the
// sets that have counted them, and of forged ones by the container's port.
func (c Counters) Denied(n Network) map[string]uint64 {
	all := map[string]uint64{"denied_in": c["denied_in"][quote(n.Bridge)], "denied_out": c["denied_out"][quote(n.Bridge)]}
	for _, container := range n.Containers {
		all["forgers "+container.Port] = c["forgers"][quote(container.Port)]
	}
	return all
}
