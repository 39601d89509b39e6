package doctor

type dnsAAAA struct{}

func (dnsAAAA) About() About {
	return About{
		Name:    "dns",
		Symptom: "`docker pull` fails on a host without IPv4, or containers with IPv6 alone find no names",
		Why:     "an image's registry is found by DNS; without an AAAA record, or without a resolver that answers within two seconds, it is not reached over IPv6",
		Fix:     "look at `/etc/resolv.conf`; for names without AAAA use a resolver with DNS64 on a network with NAT64, or a mirror of the registry that has IPv6",
	}
}

func (dnsAAAA) Judge(f Facts) []Finding {
	o := f.Online
	switch {
	case o == nil || o.NoUplink:
		return nil
	case o.DNS != nil:
		return []Finding{{Level: Problem, On: o.Registry, Found: o.DNS.Error(), Expected: "an answer within two seconds", Fix: "look at /etc/resolv.conf, and at what it names"}}
	case len(o.AAAA) == 0:
		return []Finding{{Level: Warning, On: o.Registry, Found: "it has no IPv6 address (AAAA)", Expected: "one, for a host or containers without IPv4", Fix: "use a mirror that has one, or DNS64 with NAT64"}}
	}
	return nil
}
