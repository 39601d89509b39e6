package doctor

import "slices"

type acceptRA struct{}

func (acceptRA) About() About {
	return About{
		Name:    "accept_ra",
		Symptom: "IPv6 of the whole host stops some minutes after a container engine was started, or at once (moby#43466)",
		Why:     "a host that forwards is a router, and with accept_ra=1 a router takes no advertisements: the default route that came by one is dropped, or ends with its lifetime",
		Fix:     "`sysctl -w net/ipv6/conf/LINK/accept_ra=2`, and in `/etc/sysctl.d` to keep it; the route is back with the router's next advertisement (`rdisc6 LINK` asks for one). v6net sets it where it turns forwarding on itself; `--fix` does where somebody else had",
	}
}

func (acceptRA) Judge(f Facts) []Finding {
	var findings []Finding
	for _, name := range f.Parents() {
		s := Setting{confKey(name, "accept_ra"), "2"}
		// It is the link's own forwarding that counts (the kernel's ipv6_accept_ra).
		if f.Sysctls[confKey(name, "forwarding")] != "1" || f.Sysctls[s.Key] != "1" || !needsAdvertisements(f, name) {
			continue
		}
		findings = append(findings, Finding{Level: Problem, On: name, Found: "accept_ra=1 while the host forwards", Expected: "accept_ra=2",
			Fix: sysctlCommand(s), Settings: []Setting{s}})
	}
	return findings
}

// needsAdvertisements reports whether the host has no default route over a link but
// by router advertisement: one that was set by hand, or by a network manager, stays.
func needsAdvertisements(f Facts, link string) bool {
	if len(f.Defaults) == 0 {
		l, ok := f.link(link)
		return ok && l.MayRouter // which may be the one that it has lost
	}
	return slices.ContainsFunc(f.Defaults, func(d Default) bool { return d.Link == link && d.RA })
}
