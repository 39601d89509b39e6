package ip6tables

import (
	"fmt"
	"slices"
	"strings"

	"github.com/v6net/v6net/internal/firewall"
)

// The chains of the filter table that may drop what we have accepted.
const (
	foreignTable = firewall.ForeignTable
	forwardChain = firewall.ForwardChain
	inputChain   = firewall.InputChain
	userChain    = firewall.UserChain
)

// vouched accepts what carries our mark.
var vouched = fmt.Sprintf("-m mark --mark %#x/%#x -j ACCEPT", firewall.VouchMark, firewall.VouchMark)

// acceptRule is vouched as ours.
var acceptRule = strings.Replace(vouched, " -j", " -m comment --comment "+tag+" -j", 1)

// accepting are the chains that are to have our rule: the forward chain, and the input
// chain where a name server of a network's is asked.
func accepting(r firewall.Ruleset, f family) map[string]bool {
	asking := r.Set(map[family]string{ip4: "asking4", ip6: "asking6"}[f])
	return map[string]bool{forwardChain: true, inputChain: asking != nil && len(asking.Elements) > 0}
}

// accepts are the lines that bring our rules in the chains of a filter table to one
// in each chain that is wanted, and none elsewhere: see [firewall.PlaceOurs].
func (t *savedTable) accepts(wanted map[string]bool) (lines []string) {
	for _, chain := range []string{forwardChain, inputChain, userChain} {
		_, present := t.policies[chain]
		gone, after := firewall.PlaceOurs(t.foreign(chain), wanted[chain] && present, func(chain string) ([]firewall.ForeignRule, bool) {
			return t.foreign(chain), slices.Contains(t.chains, chain)
		})
		for _, i := range gone {
			lines = append(lines, fmt.Sprintf("-D %s %s\n", chain, t.rules[chain][i].text))
		}
		if after >= 0 {
			lines = append(lines, fmt.Sprintf("-I %s %d %s\n", chain, after+1, acceptRule))
		}
	}
	return lines
}

// foreign are a chain's rules as far as it matters for the place of ours.
func (t *savedTable) foreign(chain string) (all []firewall.ForeignRule) {
	for _, r := range t.rules[chain] {
		to, rest := leadsTo(r.text), essence(r.text)
		all = append(all, firewall.ForeignRule{Ours: tagged(r.text), Vouched: rest == vouched, Ends: ends(r.text), To: to, All: rest == "-j "+to})
	}
	return all
}

// ends reports whether a rule refuses every packet, or logs and does nothing else.
func ends(rule string) bool {
	switch to := leadsTo(rule); to {
	case "LOG", "NFLOG":
		return true
	case "DROP", "REJECT":
		return strings.HasPrefix(essence(rule), "-j "+to)
	}
	return false
}
