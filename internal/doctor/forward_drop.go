package doctor

import (
	"fmt"
	"slices"
	"strings"

	"github.com/v6net/v6net/internal/spec"
)

type forwardDrop struct{}

func (forwardDrop) About() About {
	return About{
		Name:    "forward_drop",
		Symptom: "containers reach nobody outside, and published ports are closed, though `v6net firewall explain` says that they are let in",
		Why:     "every chain at the forward hook judges a packet, and what one accepts another can still drop. v6net has itself accepted by one rule in the `FORWARD` of iptables-nft and of iptables-legacy; other rules (firewalld, a ruleset of one's own) have to let its packets pass themselves",
		Fix:     "in the chain that is named accept what carries v6net's mark: `meta mark and 0x1000 == 0x1000 accept`; in iptables `-I FORWARD -m mark --mark 0x1000/0x1000 -j ACCEPT`",
	}
}

func (forwardDrop) Judge(f Facts) []Finding {
	v4, v6 := f.forwards()
	networks := v4 || v6 || len(f.bridges()) > 0
	findings := obstacles(f)
	for _, c := range f.Firewall.Forward {
		if f.Status != nil && networks {
			break // the daemon itself looks for those
		}
		if !c.Refuses {
			continue
		}
		level := Problem
		if !networks {
			if isIPTables(c) {
				continue // v6net's rule comes with the first network
			}
			level = Warning
		}
		found := "it drops what is forwarded, v6net's packets too"
		if c.Jumps && !isIPTables(c) { // where v6net has its own rule, it has to be there
			level, found = Warning, "it drops what is forwarded unless one of its chains accepts it, as firewalld's zones may"
		}
		findings = append(findings, Finding{Level: level, On: c.String(), Found: found,
			Expected: "a rule that accepts the mark 0x1000", Fix: acceptCommand(c)})
	}
	for _, family := range f.Firewall.Legacy {
		// A daemon has its rule there, too, or says what keeps it from that.
		if f.Status != nil {
			continue
		}
		findings = append(findings, Finding{Level: Warning, On: "iptables-legacy (" + family + ")", Found: "it filters, and v6net's rule is not known to be there",
			Expected: "a FORWARD chain that accepts the mark 0x1000",
			Fix:      "start the daemon, which adds its rule there; by hand: " + legacyProgram(family) + " -I FORWARD -m mark --mark 0x1000/0x1000 -j ACCEPT"})
	}
	return findings
}

// obstacles are the chains that the daemon has found to refuse what it lets through.
func obstacles(f Facts) []Finding {
	if f.Status == nil {
		return nil
	}
	var findings []Finding
	for _, o := range f.Status.Obstacles {
		findings = append(findings, Finding{Level: Problem, On: "table " + o.Table + ", chain " + o.Chain, Found: "it refuses what v6net lets through (" + o.Why + ")",
			Expected: "a rule that accepts the mark 0x1000", Fix: o.Fix})
	}
	return findings
}

// refuses reports whether somebody else's chain refuses packets of a family that v6net
// has let through.
func refuses(f Facts, family string) bool {
	if f.Status == nil {
		return slices.ContainsFunc(f.Firewall.Forward, func(c ForwardChain) bool {
			return c.Refuses && (c.Family == family || c.Family == "inet")
		})
	}
	return slices.ContainsFunc(f.Status.Obstacles, func(o spec.Obstacle) bool {
		of, _, _ := strings.Cut(o.Table, " ")
		return of == family || of == "inet"
	})
}

func isIPTables(c ForwardChain) bool {
	return c.Table == "filter" && c.Name == "FORWARD" && slices.Contains([]string{"ip", "ip6"}, c.Family)
}

func acceptCommand(c ForwardChain) string {
	if isIPTables(c) {
		return "start the daemon, which adds its rule there; by hand: " + nftProgram(c.Family) + " -I FORWARD -m mark --mark 0x1000/0x1000 -j ACCEPT"
	}
	return fmt.Sprintf("nft insert rule %s meta mark and 0x1000 == 0x1000 accept", c)
}

func nftProgram(family string) string {
	if family == "ip" {
		return "iptables"
	}
	return "ip6tables"
}

func legacyProgram(family string) string { return nftProgram(family) + "-legacy" }
