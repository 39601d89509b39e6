package doctor

// What makes a host a router.
const (
	forwarding6 = "net/ipv6/conf/all/forwarding"
	forwarding4 = "net/ipv4/ip_forward"
)

type forwarding struct{}

func (forwarding) About() About {
	return About{
		Name:    "forwarding",
		Symptom: "containers reach the host and each other, and nobody outside",
		Why:     "packets between a container's bridge and the parent are forwarded; v6net turns that on with the first network, and somebody has turned it off since",
		Fix:     "`sysctl -w net/ipv6/conf/all/forwarding=1` (IPv4: `net/ipv4/ip_forward=1`, and `net/ipv4/conf/LINK/forwarding=1` of the parent and of v6net's bridge, each of which can be off by itself: systemd-networkd's `IPv4Forwarding=no`), after `accept_ra=2` on links that live by advertisements; find who turns it off: `grep -r forward /etc/sysctl.conf /etc/sysctl.d`. `--fix` does if v6net's rules are in place: a host that forwards without rules lets everybody in",
	}
}

func (forwarding) Judge(f Facts) []Finding {
	v4, v6 := f.forwards()
	var findings []Finding
	for _, family := range []struct {
		wanted bool
		key    string
		before []Setting
	}{{v6, forwarding6, keepAdvertised(f)}, {v4, forwarding4, nil}} {
		if !family.wanted || f.Sysctls[family.key] != "0" {
			continue
		}
		settings := append(family.before, Setting{family.key, "1"})
		found := Finding{Level: Problem, Found: family.key + "=0", Expected: "1", Fix: sysctlCommand(settings...)}
		if f.rulesInPlace() {
			found.Settings = settings
		}
		findings = append(findings, found)
	}
	if v4 && f.Sysctls[forwarding4] == "1" { // which sets it on all links, once
		findings = append(findings, linksForward(f)...)
	}
	return findings
}

// rulesInPlace reports whether v6net's own are. Those of iptables-legacy only a daemon knows of,
// which says what keeps from it what it cannot be given.
func (f Facts) rulesInPlace() bool {
	return f.Firewall.Ours || f.Status != nil && f.Status.Firewall == "iptables-legacy" && f.Status.Error == ""
}

// linksForward looks at each link that IPv4 packets of containers come in by: the kernel
// asks that one (ip_route_input_slow in net/ipv4/route.c). Of IPv6 it asks `all` alone.
func linksForward(f Facts) []Finding {
	var findings []Finding
	asked := map[string]bool{"": true}
	for _, n := range f.Networks() {
		if n.Internal || n.Options.OnParent() || len(n.IPv4) == 0 {
			continue
		}
		for _, name := range []string{n.Parent, n.Bridge} {
			s := Setting{"net/ipv4/conf/" + name + "/forwarding", "1"}
			if asked[name] || f.Sysctls[s.Key] != "0" {
				continue
			}
			asked[name] = true
			found := Finding{Level: Problem, On: name, Found: s.Key + "=0", Expected: "1", Fix: sysctlCommand(s),
				Why: "IPv4 packets that come in by this link are forwarded nowhere, whatever net/ipv4/ip_forward says: from the bridge those of containers, from the parent the answers to them"}
			if f.rulesInPlace() {
				found.Settings = []Setting{s}
			}
			findings = append(findings, found)
		}
	}
	return findings
}

// keepAdvertised are what has to be set before forwarding, so that no default route
// is lost: the kernel drops those by advertisement the moment it is turned on.
func keepAdvertised(f Facts) []Setting {
	var settings []Setting
	for _, l := range f.Links {
		if s := (Setting{confKey(l.Name, "accept_ra"), "2"}); l.MayRouter && f.Sysctls[s.Key] == "1" {
			settings = append(settings, s)
		}
	}
	return settings
}
