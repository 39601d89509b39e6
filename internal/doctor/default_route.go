package doctor

import "slices"

type defaultRoute struct{}

func (defaultRoute) About() About {
	return About{
		Name:    "default_route",
		Symptom: "containers reach nobody outside by IPv6; a network that is made now gets a unique local prefix (fd00::/8)",
		Why:     "without an IPv6 default route the host has nowhere to send packets of containers, and v6net does not know which link is the parent",
		Fix:     "have the provider or the router give the host IPv6; where it should have it, look at the other findings of the link (accept_ra, carrier) and ask the router: `rdisc6 LINK`",
	}
}

func (defaultRoute) Judge(f Facts) []Finding {
	if f.NoIPv6 || slices.ContainsFunc(f.Defaults, func(d Default) bool { return d.Usable }) {
		return nil
	}
	found := Finding{Level: Warning, Found: "no IPv6 default route", Expected: "one, by a link that is up and has a carrier",
		Fix: "ask the router for an advertisement: rdisc6 LINK; or set a route: ip -6 route add default via ROUTER dev LINK"}
	if _, v6 := f.forwards(); v6 {
		found.Level = Problem // that containers are to leave by
	}
	if len(f.Defaults) > 0 {
		found.Found = "the IPv6 default route leads over " + f.Defaults[0].Link + ", which does not work"
	}
	return []Finding{found}
}
