package doctor

import "fmt"

type upstream struct{}

func (upstream) About() About {
	return About{
		Name:    "upstream",
		Symptom: "nothing outside is reached by IPv6, from the host itself neither",
		Why:     "the next hop of the host's default route is asked for its link-layer address, as every packet would have it asked, and does not answer within a second",
		Fix:     "`ip -6 neigh show dev LINK`, `rdisc6 LINK` and `tcpdump -ni LINK icmp6` show who is there; a route that was set by hand may name a router that is gone",
	}
}

func (upstream) Judge(f Facts) []Finding {
	var findings []Finding
	for _, r := range f.Routers {
		if !r.Answers {
			findings = append(findings, Finding{Level: Problem, On: r.Link, Found: fmt.Sprintf("router %s does not answer neighbor solicitations", r.Addr),
				Expected: "an advertisement within a second", Fix: fmt.Sprintf("rdisc6 %s; ip -6 route show default", r.Link)})
		}
	}
	return findings
}
