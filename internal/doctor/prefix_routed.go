package doctor

import "fmt"

type prefixRouted struct{}

func (prefixRouted) About() About {
	return About{
		Name:    "prefix_routed",
		Symptom: "containers send, and no answer comes back; from outside they are not reached, from the host they are",
		Why:     "the router does not send packets for the network's prefix to this host. It was tried: an echo request under the bridge's own address went to the router, whose answer has to come back by its own routes, and one under the host's address as a control",
		Fix:     "have the prefix routed to this host's address on the parent, in the provider's panel or the router's table; or, if it is part of the parent's own prefix, let v6net choose it (no `--subnet`), so that it answers for it (`ndproxy`)",
	}
}

func (prefixRouted) Judge(f Facts) []Finding {
	var findings []Finding
	for _, r := range f.Returns {
		if r.Comes {
			continue
		}
		found := Finding{Level: Problem, On: "network " + r.Network,
			Found:    fmt.Sprintf("router %s on %s answers this host, and not %s", r.Router, r.Link, r.Address),
			Expected: "an echo reply within a second", Fix: fmt.Sprintf("have the prefix of %s routed to this host", r.Address)}
		if !r.Control {
			found.Level = Note
			found.Found = fmt.Sprintf("router %s on %s answers no echo request, so that it cannot be tried whether %s is routed here", r.Router, r.Link, r.Address)
			found.Fix = fmt.Sprintf("try from outside: ping %s", r.Address)
		}
		findings = append(findings, found)
	}
	return findings
}
