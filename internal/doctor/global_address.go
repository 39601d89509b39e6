package doctor

import (
	"net/netip"
	"slices"

	"github.com/v6net/v6net/internal/spec"
)

type globalAddress struct{}

func (globalAddress) About() About {
	return About{
		Name:    "global_address",
		Symptom: "a network that is made now gets a unique local prefix and leaves under the host's address, or not at all",
		Why:     "without a global address on the parent there is no on-link prefix to take a part of, and nothing to masquerade by. A prefix that is routed to the host can still be named: `--subnet`",
		Fix:     "have the router advertise a prefix to the link, or ask the provider for one; `ip -6 address show dev LINK`",
	}
}

func (globalAddress) Judge(f Facts) []Finding {
	if len(f.Defaults) == 0 { // which has its own finding
		return nil
	}
	name := f.Defaults[0].Link
	l, there := f.link(name)
	if !there || !l.Carrier || slices.ContainsFunc(l.Addresses, isGlobal) {
		return nil
	}
	// An uplink may have link-local addresses alone, and the host its own elsewhere.
	for _, other := range f.Links {
		if other.Name != name && !isOurs(other) && slices.ContainsFunc(other.Addresses, isGlobal) {
			return nil
		}
	}
	return []Finding{{Level: Warning, On: name, Found: "no global IPv6 address", Expected: "one of 2000::/3",
		Fix: "ip -6 address show dev " + name + "; have the router advertise a prefix there (rdisc6 " + name + " shows what it says)"}}
}

// globalUnicast is what IANA has given out of it (RFC 4291 §2.4).
var globalUnicast = netip.MustParsePrefix("2000::/3")

func isGlobal(p netip.Prefix) bool { return globalUnicast.Contains(p.Addr()) }

func isOurs(l Link) bool {
	return len(l.Alias) >= len(spec.LinkAliasMark) && l.Alias[:len(spec.LinkAliasMark)] == spec.LinkAliasMark
}
