package doctor

import (
	"slices"
	"strings"
)

type reversePath struct{}

func (reversePath) About() About {
	return About{
		Name:    "rp_filter",
		Symptom: "with two uplinks, or a network on another parent than the default route's, answers arrive at the host and get no further",
		Why:     "a reverse path filter drops what arrives by another link than the one that an answer would take. For IPv6 that is a rule (`fib saddr . iif`, `-m rpfilter`; firewalld has it by default), for IPv4 the sysctl rp_filter=1",
		Fix:     "firewalld: `IPv6_rpfilter=no` or `loose` in `/etc/firewalld/firewalld.conf`; else take the rule out, or loosen it (`fib saddr oif`, without `iif`); IPv4: `rp_filter=2`",
	}
}

func (reversePath) Judge(f Facts) []Finding {
	parents := uplinks(f)
	if len(parents) < 2 {
		return nil // every answer takes the one link that there is
	}
	on := strings.Join(parents, ", ")
	var findings []Finding
	for _, chain := range f.Firewall.ReversePath {
		findings = append(findings, Finding{Level: Warning, On: on, Found: "chain " + chain + " filters by the reverse path, and there are several uplinks",
			Expected: "no such rule, or a loose one", Fix: "nft list chain " + chain})
	}
	v4, _ := f.forwards()
	for _, name := range parents {
		s := Setting{"net/ipv4/conf/" + name + "/rp_filter", "2"}
		if v4 && max(f.Sysctls["net/ipv4/conf/all/rp_filter"], f.Sysctls[s.Key]) == "1" { // the kernel takes the larger one
			findings = append(findings, Finding{Level: Warning, On: name, Found: "rp_filter=1, and there are several uplinks", Expected: "0 or 2 (loose)", Fix: sysctlCommand(s)})
		}
	}
	return findings
}

// uplinks are the links of default routes, and the parents of networks.
func uplinks(f Facts) []string {
	names := f.Parents()
	for _, d := range f.Defaults {
		names = append(names, d.Link)
	}
	slices.Sort(names)
	return slices.Compact(names)
}
