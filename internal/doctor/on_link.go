package doctor

import "fmt"

type onLink struct{}

func (onLink) About() About {
	return About{
		Name:    "on_link",
		Symptom: "containers of a network on a part of the parent's own prefix send, and no answer comes back; the host itself is reached",
		Why:     "routers have to find each address of such a network on the link, by v6net's neighbor advertisements (with macvlan: the container's own). There are networks that drop those, or frames of MAC addresses, that they have not given out. It was tried: an echo request under a container's address went to the router, whose answer has to find it, and one under the host's address as a control",
		Fix:     "have the provider let neighbor advertisements for the prefix through, or route a prefix to the host; with macvlan `mode=bridge` or `mode=ipvlan`, whose containers have the parent's MAC address; else `--ipam-opt source=ula`, with which containers leave under the host's address",
	}
}

func (onLink) Judge(f Facts) []Finding {
	var findings []Finding
	for _, o := range f.OnLinks {
		found := Finding{On: "network " + o.Network, Level: Note, Expected: "an echo reply within a second"}
		switch {
		case o.Comes:
			continue
		case !o.Address.IsValid():
			found.Found = fmt.Sprintf("no container has an address of %s yet, so that it cannot be tried whether router %s on %s finds one there", o.Prefix, o.Router, o.Link)
			found.Fix = "start one, and run doctor again"
		case !o.Control:
			found.Found = fmt.Sprintf("router %s on %s answers no echo request, so that it cannot be tried whether it finds %s there", o.Router, o.Link, o.Address)
			found.Fix = fmt.Sprintf("try from outside: ping %s", o.Address)
		case o.Silent:
			found.Level = Problem
			found.Found = fmt.Sprintf("router %s on %s answers this host, and not %s of a container: with ndproxy=off v6net does not answer who asks for it, and nobody else does", o.Router, o.Link, o.Address)
			found.Fix = "make the network with ndproxy=auto; or route a prefix to this host"
		default:
			found.Level = Problem
			found.Found = fmt.Sprintf("router %s on %s answers this host, and not %s of a container", o.Router, o.Link, o.Address)
			found.Fix = "have the provider let neighbor advertisements through, or route a prefix to this host; or use --ipam-opt source=ula"
			if o.OwnMAC {
				found.Found += ", which has a MAC address of its own"
				found.Fix = "mode=bridge or mode=ipvlan; or have the network take other MAC addresses"
			}
		}
		findings = append(findings, found)
	}
	return findings
}
