package doctor

type carrier struct{}

func (carrier) About() About {
	return About{
		Name:    "carrier",
		Symptom: "nothing outside is reached, and `v6net status` says that the parent is down",
		Why:     "packets from and to the upstream network go by the parent link; while it is absent, down or without a carrier none does",
		Fix:     "`ip link set dev LINK up`; look at the cable, or at the virtual machine's network settings; or name another parent (`-o parent=LINK`)",
	}
}

func (carrier) Judge(f Facts) []Finding {
	var findings []Finding
	for _, name := range f.Parents() {
		l, there := f.link(name)
		found := Finding{Level: Problem, On: name, Expected: "up, with a carrier"}
		switch {
		case !there:
			found.Found, found.Fix = "there is no such link", "bring the link back, or make the network anew with -o parent=LINK"
		case !l.Up:
			found.Found, found.Fix = "it is down", "ip link set dev "+name+" up"
		case !l.Carrier:
			found.Found, found.Fix = "it is up and has no carrier", "look at the cable, the switch, or the virtual machine's network settings"
		default:
			continue
		}
		findings = append(findings, found)
	}
	return findings
}
