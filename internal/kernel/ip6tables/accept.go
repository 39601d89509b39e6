package ip6tables

import (
	"fmt"
	"slices"
	"strings"

	"github.com/v6net/v6net/internal/firewall"
)

// The chains of the filter table that may drop what we have accepted.
const (
	foreignTable = "filter"
	forwardChain = "FORWARD"
	inputChain   = "INPUT"
	userChain    = "DOCKER-USER" // the administrator's, which Docker keeps at the top of FORWARD
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
// in each chain that is wanted, and none elsewhere. The administrator's own rules are
// judged before ours: see [savedTable.acceptPlace].
func (t *savedTable) accepts(wanted map[string]bool) (lines []string) {
	for _, chain := range []string{forwardChain, inputChain, userChain} {
		var others []string
		for _, r := range t.rules[chain] {
			if !tagged(r.text) {
				others = append(others, r.text)
			}
		}
		_, present := t.policies[chain]
		missing := wanted[chain] && present && !slices.ContainsFunc(others, func(r string) bool { return essence(r) == vouched })
		at := t.acceptPlace(others)
		for i, r := range t.rules[chain] {
			switch {
			case !tagged(r.text):
			case missing && i == at && essence(r.text) == vouched:
				missing = false // as it should be
			default:
				lines = append(lines, fmt.Sprintf("-D %s %s\n", chain, r.text))
			}
		}
		if missing {
			lines = append(lines, fmt.Sprintf("-I %s %d %s\n", chain, at+1, acceptRule))
		}
	}
	return lines
}

// acceptPlace is how many of a chain's other rules precede ours. Where Docker is, those
// up to its jump to DOCKER-USER; elsewhere all but those at the end that refuse every
// packet. Why is said in package nft, which does the same.
func (t *savedTable) acceptPlace(others []string) int {
	if i := slices.IndexFunc(others, func(r string) bool { return leadsTo(r) == userChain }); i >= 0 {
		return i + 1
	}
	n := len(others)
	for n > 0 && t.isEnd(others[n-1]) {
		n--
	}
	return n
}

// isEnd reports whether a rule does nothing but to refuse every packet, or to log what
// is about to be refused; or leads to a chain of such rules.
func (t *savedTable) isEnd(rule string) bool {
	to := leadsTo(rule)
	if essence(rule) == "-j "+to && to != userChain && slices.Contains(t.chains, to) {
		return !slices.ContainsFunc(t.rules[to], func(r savedRule) bool { return !ends(r.text) })
	}
	return ends(rule)
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
