package ip6tables

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
)

// rule is one rule of package firewall's, taken apart.
type rule struct {
	tests   []test
	mark    uint64 // bits that it sets
	rewrite bool   // it changes addresses without state, which iptables cannot before conntrack
	verdict string // accept, drop, return, goto, masquerade, dnat or snat; empty: the next rule decides
	to      string // of goto: the chain
	of      string // of dnat and snat: the family, ip or ip6
	pairs   test   // of dnat and snat: the keys and the map
	log     string // of a rule that tells: the limit for each element, and the target
}

// test compares keys with a set, or one key with a value.
type test struct {
	keys  []string
	not   bool
	set   string
	value string
	mask  string
}

// words are how many words the names of keys have that begin like that; others have one.
var words = map[string]int{"meta": 2, "ip": 2, "ip6": 2, "icmpv6": 2, "icmp": 2, "th": 2, "udp": 2, "ct": 2, "ether": 2, "fib": 3}

// parse reads a rule.
func parse(text string) (r rule, err error) {
	rest := strings.Fields(text)
	next := func() (w string) {
		if len(rest) > 0 {
			w, rest = rest[0], rest[1:]
		}
		return w
	}
	accept := func(phrase ...string) bool {
		if len(rest) < len(phrase) || !slices.Equal(rest[:len(phrase)], phrase) {
			return false
		}
		rest = rest[len(phrase):]
		return true
	}
	keys := func() (out []string) {
		for {
			n := max(1, words[rest[0]])
			if n > len(rest) {
				return nil
			}
			out, rest = append(out, strings.Join(rest[:n], " ")), rest[n:]
			if !accept(".") || len(rest) == 0 {
				return out
			}
		}
	}
	for len(rest) > 0 {
		switch {
		case accept("counter"): // every rule of iptables has one
		case accept("accept"), accept("drop"), accept("return"), accept("masquerade"):
			r.verdict = text[strings.LastIndex(text, " ")+1:]
		case accept("update"): // of each element its own limit
			next() // the set of their limits
			if !accept("{") || len(keys()) != 1 || !accept("limit", "rate") {
				return r, fmt.Errorf("rule %q: not understood", text)
			}
			rate := strings.TrimSuffix(next(), "/second")
			if !accept("burst") {
				return r, fmt.Errorf("rule %q: not understood", text)
			}
			r.log = fmt.Sprintf("-m limit --limit %s/sec --limit-burst %s ", rate, next())
			if !accept("packets", "}") {
				return r, fmt.Errorf("rule %q: not understood", text)
			}
		case accept("log", "prefix"):
			prefix := next()
			if !accept("group") {
				return r, fmt.Errorf("rule %q: not understood", text)
			}
			group := next()
			if !accept("snaplen") {
				return r, fmt.Errorf("rule %q: not understood", text)
			}
			r.verdict = "log"
			r.log += fmt.Sprintf("-j NFLOG --nflog-prefix %s --nflog-group %s --nflog-size %s", unquote(prefix), group, next())
		case accept("goto"):
			r.verdict, r.to = "goto", next()
		case accept("meta", "mark", "set", "meta", "mark", "|"):
			if r.mark, err = strconv.ParseUint(next(), 0, 32); err != nil {
				return r, fmt.Errorf("rule %q: %w", text, err)
			}
		case rest[0] == "dnat" || rest[0] == "snat":
			r.verdict, r.of = next(), next()
			if !accept("to") {
				return r, fmt.Errorf("rule %q: %s without a map", text, r.verdict)
			}
			r.pairs.keys = keys()
			if !accept("map") {
				return r, fmt.Errorf("rule %q: %s without a map", text, r.verdict)
			}
			r.pairs.set = strings.TrimPrefix(next(), "@")
		default:
			t := test{keys: keys()}
			if accept("set") {
				r.rewrite = true
				keys()
				next() // map
				next()
				continue
			}
			if accept("&") {
				t.mask = next()
				accept("==")
			}
			t.not = accept("!=")
			switch w := next(); {
			case strings.HasPrefix(w, "@"):
				t.set = w[1:]
			default:
				t.value = w
			}
			if len(t.keys) == 0 || t.set == "" && (t.value == "" || len(t.keys) > 1) {
				return r, fmt.Errorf("rule %q: not understood", text)
			}
			r.tests = append(r.tests, t)
		}
	}
	return r, nil
}
