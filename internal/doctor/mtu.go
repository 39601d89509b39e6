package doctor

import (
	"fmt"
	"strconv"

	"github.com/v6net/v6net/internal/spec"
)

type mtu struct{}

func (mtu) About() About {
	return About{
		Name:    "mtu",
		Symptom: "connections open and then hang with the first large packet; downloads stall, ping works",
		Why:     "where containers send larger packets than the parent's link takes, each destination has to be learned by an ICMPv6 error that many networks drop; below 1280 bytes a link has no IPv6 at all (RFC 8200 §5)",
		Fix:     "`docker network create -o com.docker.network.driver.mtu=N` with the parent's; a router that advertises an MTU means all of the link; a link below 1280 needs `ip link set dev LINK mtu 1280` or more",
	}
}

func (mtu) Judge(f Facts) []Finding {
	var findings []Finding
	for _, name := range f.Parents() {
		if l, ok := f.link(name); ok && l.MTU < spec.MinMTU {
			findings = append(findings, Finding{Level: Problem, On: name, Found: fmt.Sprintf("MTU %d", l.MTU), Expected: fmt.Sprintf("%d or more", spec.MinMTU),
				Fix: fmt.Sprintf("ip link set dev %s mtu 1500", name)})
		}
	}
	for _, n := range f.Networks() {
		l, ok := f.link(n.Bridge)
		takes, known := ipv6MTU(f, n.Parent)
		if n.Internal || !ok || !known || l.MTU <= takes {
			continue
		}
		findings = append(findings, Finding{Level: Warning, On: network(n), Found: fmt.Sprintf("MTU %d, and %s takes %d", l.MTU, n.Parent, takes),
			Expected: fmt.Sprintf("%d or less", takes), Fix: fmt.Sprintf("make the network anew with -o com.docker.network.driver.mtu=%d", takes)})
	}
	return findings
}

// ipv6MTU is a link's for IPv6, which a router may have made smaller than its own
// (RFC 4861 §4.6.4).
func ipv6MTU(f Facts, link string) (int, bool) {
	n, err := strconv.Atoi(f.Sysctls[confKey(link, "mtu")])
	return n, err == nil && n >= spec.MinMTU
}
