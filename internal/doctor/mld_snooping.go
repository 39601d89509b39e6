package doctor

import "fmt"

type mldSnooping struct{}

func (mldSnooping) About() About {
	return About{
		Name:    "mld_snooping",
		Symptom: "containers are reached for some minutes and then not, or not until they have sent something themselves",
		Why:     "a bridge or switch that snoops forwards multicast only to ports that asked for the group. Solicitations are multicast: where a port's reports are lost, and with more addresses than groups can be joined for, they do not arrive",
		Fix:     "on v6net's bridges `ip link set dev BRIDGE type bridge mcast_snooping 0`, as it had made them; on a switch turn MLD snooping off for the parent's port or VLAN, or have the prefix routed to this host",
	}
}

func (mldSnooping) Judge(f Facts) []Finding {
	var findings []Finding
	for _, l := range f.bridges() {
		if l.Snooping {
			findings = append(findings, Finding{Level: Problem, On: l.Name, Found: "the bridge of a network snoops multicast", Expected: "mcast_snooping 0, as v6net made it",
				Fix: "ip link set dev " + l.Name + " type bridge mcast_snooping 0"})
		}
	}
	if f.Status == nil {
		return findings
	}
	for _, p := range f.Status.Proxies {
		parent, ok := f.link(p.Parent)
		switch {
		case ok && parent.Kind == "bridge" && parent.Snooping && p.AllMulticast: // else it knows the groups that are joined
			findings = append(findings, Finding{Level: Warning, On: p.Parent, Found: fmt.Sprintf("the parent is a bridge that snoops multicast, and %d addresses are answered for, more than groups are joined for", p.Leases), Expected: "no snooping",
				Fix: "ip link set dev " + p.Parent + " type bridge mcast_snooping 0"})
		case p.AllMulticast:
			findings = append(findings, Finding{Level: Note, On: p.Parent, Found: fmt.Sprintf("%d addresses are answered for, more than groups are joined for", p.Leases),
				Expected: "no switch on the way that snoops MLD", Fix: "turn MLD snooping off for the parent's port, or have the prefix routed to this host"})
		}
	}
	return findings
}
