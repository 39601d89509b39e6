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
		Fix:     "`sysctl -w net/ipv6/conf/all/forwarding=1` (IPv4: `net/ipv4/ip_forward=1`), after `accept_ra=2` on links that live by advertisements; find who turns it off: `grep -r forward /etc/sysctl.conf /etc/sysctl.d`. `--fix` does if v6net's rules are in place: a host that forwards without rules lets everybody in",
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
		if f.Firewall.Ours {
			found.Settings = settings
		}
		findings = append(findings, found)
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
