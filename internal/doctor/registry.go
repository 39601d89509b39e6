package doctor

type registry struct{}

func (registry) About() About {
	return About{
		Name:    "registry",
		Symptom: "`docker pull` hangs or fails on a host without IPv4",
		Why:     "a connection to the registry over IPv6 alone was tried, and none came about within two seconds",
		Fix:     "mend what upstream, default_route and mtu have found; else the way to the registry is broken: `tracepath -6 REGISTRY`",
	}
}

func (registry) Judge(f Facts) []Finding {
	o := f.Online
	switch {
	case o == nil:
		return nil
	case o.NoUplink:
		return []Finding{{Level: Warning, On: o.Registry, Found: "not asked: this host has no IPv6 default route", Expected: "a way there", Fix: "see default_route"}}
	case o.Connect == nil:
		return nil
	}
	return []Finding{{Level: Problem, On: o.Registry, Found: o.Connect.Error(), Expected: "a connection over IPv6 within two seconds", Fix: "tracepath -6 " + o.Registry}}
}
