package firewall

import "slices"

// The chains of iptables' filter table that may drop what we have accepted, and the one
// of administrators, which Docker keeps at the top of the first.
const (
	ForeignTable = "filter"
	ForwardChain = "FORWARD"
	InputChain   = "INPUT"
	UserChain    = "DOCKER-USER"
)

// ForeignRule is a rule in one of those chains, as far as it matters for where ours belongs.
type ForeignRule struct {
	Ours    bool   // it carries our comment
	Vouched bool   // it accepts all that we have vouched for: ours, or an administrator's
	Ends    bool   // it refuses every packet, or logs and does nothing else
	To      string // where it leads
	All     bool   // it leads every packet there, and does nothing else
}

// PlaceOurs says how a chain comes to one rule of ours where it is wanted, and none
// elsewhere: which of its rules are to go, and after how many of the others ours is to be
// put; -1: nowhere, it is there or an administrator has one that will do.
func PlaceOurs(rules []ForeignRule, wanted bool, chain func(name string) (rules []ForeignRule, known bool)) (gone []int, after int) {
	others := slices.DeleteFunc(slices.Clone(rules), func(r ForeignRule) bool { return r.Ours })
	missing := wanted && !slices.ContainsFunc(others, func(r ForeignRule) bool { return r.Vouched })
	at := place(others, chain)
	for i, r := range rules {
		switch {
		case !r.Ours:
		case missing && i == at && r.Vouched:
			missing = false // as it should be
		default:
			gone = append(gone, i)
		}
	}
	if !missing {
		return gone, -1
	}
	return gone, at
}

// place is how many of a chain's other rules precede ours.
//
// All but those at the end that take every packet: they are a policy of drop by another
// name, which our rule is there to overcome. So are the last chains of ufw, which log
// what has come as far, and reject it. A chain that cannot be read is no such end, nor is
// DOCKER-USER: drops there, by an administrator or by fail2ban, hold for our packets too.
// Ours is not in that chain, which others leave by RETURN before its end (ufw-docker does
// with whatever comes from private addresses).
func place(others []ForeignRule, chain func(string) ([]ForeignRule, bool)) int {
	n := len(others)
	for n > 0 && others[n-1].To != UserChain && isEnd(others[n-1], chain) {
		n--
	}
	return n
}

// isEnd reports whether a rule ends the way of every packet, or leads to a chain of such rules.
func isEnd(r ForeignRule, chain func(string) ([]ForeignRule, bool)) bool {
	if r.All {
		if rules, known := chain(r.To); known {
			return !slices.ContainsFunc(rules, func(r ForeignRule) bool { return !r.Ends })
		}
	}
	return r.Ends
}
