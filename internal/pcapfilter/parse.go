package pcapfilter

import (
	"fmt"
	"net/netip"
	"strconv"
	"strings"
	"unicode"
)

// Bounds of what is compiled: a filter is typed by a person, and the kernel takes 4096
// instructions.
const (
	maxText  = 4096
	maxDepth = 64
)

// A Lookup is the addresses of a name in a filter, as of a container; none: it is unknown.
type Lookup func(name string) []netip.Addr

// words splits a text at spaces, parentheses and exclamation marks.
func words(text string) ([]string, error) {
	if len(text) > maxText {
		return nil, fmt.Errorf("filter: %d characters, allowed are %d", len(text), maxText)
	}
	var all []string
	word := ""
	end := func() {
		if word != "" {
			all = append(all, word)
			word = ""
		}
	}
	for _, c := range text {
		switch {
		case unicode.IsSpace(c):
			end()
		case c == '(' || c == ')' || c == '!':
			end()
			all = append(all, string(c))
		default:
			word += string(c)
		}
	}
	end()
	return all, nil
}

// parser reads a filter. As in tcpdump and and or bind alike, from left to right, and
// not binds closest.
type parser struct {
	words  []string
	lookup Lookup
	link   Link
	depth  int
}

func (p *parser) peek() string {
	if len(p.words) == 0 {
		return ""
	}
	return p.words[0]
}

func (p *parser) next() string {
	w := p.peek()
	if w != "" {
		p.words = p.words[1:]
	}
	return w
}

// unsupported is what is said of a word that has no place.
func unsupported(word string) error {
	if word == "" {
		return fmt.Errorf("filter: it ends too early (supported: %s)", Supported)
	}
	return fmt.Errorf("filter: %q is not supported here (supported: %s; for all of tcpdump's language capture to a file and read that with tcpdump -r)", word, Supported)
}

func (p *parser) expression() (node, error) {
	if p.depth++; p.depth > maxDepth {
		return nil, fmt.Errorf("filter: more than %d parentheses and negations in each other", maxDepth)
	}
	defer func() { p.depth-- }()
	left, err := p.factor()
	for err == nil {
		join := p.peek()
		switch join {
		case "and", "&&", "or", "||":
		default:
			return left, nil
		}
		p.next()
		var right node
		if right, err = p.factor(); err != nil {
			break
		}
		if join == "and" || join == "&&" {
			left = both{left, right}
		} else {
			left = either{left, right}
		}
	}
	return nil, err
}

func (p *parser) factor() (node, error) {
	if p.depth++; p.depth > maxDepth {
		return nil, fmt.Errorf("filter: more than %d parentheses and negations in each other", maxDepth)
	}
	defer func() { p.depth-- }()
	switch p.peek() {
	case "not", "!":
		p.next()
		n, err := p.factor()
		if err != nil {
			return nil, err
		}
		return negated{n}, nil
	case "(":
		p.next()
		n, err := p.expression()
		if err != nil {
			return nil, err
		}
		if w := p.next(); w != ")" {
			if w == "" {
				return nil, fmt.Errorf("filter: a ( is not closed")
			}
			return nil, unsupported(w)
		}
		return n, nil
	default:
		return p.primitive()
	}
}

// primitive is [protocol] [direction] [kind value].
func (p *parser) primitive() (node, error) {
	protocol := ""
	switch w := p.peek(); w {
	case "ip", "ip6", "arp", "tcp", "udp", "sctp", "icmp", "icmp6":
		protocol = p.next()
	}
	direction := ""
	switch p.peek() {
	case "src", "dst":
		direction = p.next()
	}
	kind := p.peek()
	switch kind {
	case "host", "net", "port", "portrange":
		p.next()
	case "", ")", "and", "or", "&&", "||":
		if protocol == "" || direction != "" {
			return nil, unsupported(p.peek())
		}
		return p.link.protocol(protocol), nil
	default:
		if direction == "" {
			return nil, unsupported(kind)
		}
		kind = "host" // src ADDRESS
	}
	value := p.next()
	if value == "" || value == "(" || value == ")" {
		return nil, unsupported(value)
	}
	switch kind {
	case "host":
		return p.host(protocol, direction, value)
	case "net":
		prefix, err := parseNet(value)
		if err != nil {
			return nil, err
		}
		return p.nets(protocol, direction, "net "+value, []netip.Prefix{prefix})
	default:
		return p.ports(protocol, direction, kind, value)
	}
}

func (p *parser) host(protocol, direction, value string) (node, error) {
	var addrs []netip.Addr
	if a, err := netip.ParseAddr(value); err == nil {
		addrs = []netip.Addr{a.WithZone("")}
	} else if p.lookup != nil {
		addrs = p.lookup(value)
	}
	if len(addrs) == 0 {
		return nil, fmt.Errorf("filter: host %s: neither an address nor the name of a container that has any", value)
	}
	var prefixes []netip.Prefix
	for _, a := range addrs {
		a = a.Unmap()
		if protocol == "ip" && !a.Is4() || protocol == "ip6" && !a.Is6() {
			continue // of a container's those of the family
		}
		prefixes = append(prefixes, netip.PrefixFrom(a, a.BitLen()))
	}
	return p.nets(protocol, direction, "host "+value, prefixes)
}

// nets are packets from or to addresses of any of the prefixes.
func (p *parser) nets(protocol, direction, what string, prefixes []netip.Prefix) (node, error) {
	if protocol != "" && protocol != "ip" && protocol != "ip6" {
		return nil, fmt.Errorf("filter: %s %s is not supported: say %s and %s", protocol, what, protocol, what)
	}
	var found node
	for _, prefix := range prefixes {
		if protocol == "ip" && !prefix.Addr().Is4() || protocol == "ip6" && !prefix.Addr().Is6() {
			continue
		}
		n := p.link.addresses(prefix, direction, protocol == "")
		if found == nil {
			found = n
		} else {
			found = either{found, n}
		}
	}
	if found == nil {
		return nil, fmt.Errorf("filter: %s %s: it has no address of that family", protocol, what)
	}
	return found, nil
}

func (p *parser) ports(protocol, direction, kind, value string) (node, error) {
	if protocol != "" && protocol != "tcp" && protocol != "udp" && protocol != "sctp" {
		return nil, fmt.Errorf("filter: %s %s is not supported: ports are those of tcp, udp and sctp", protocol, kind)
	}
	low, high := value, value
	if kind == "portrange" {
		var ok bool
		if low, high, ok = strings.Cut(value, "-"); !ok {
			return nil, fmt.Errorf("filter: portrange %s: allowed is N-N", value)
		}
	}
	from, err := parsePort(low)
	if err != nil {
		return nil, err
	}
	to, err := parsePort(high)
	if err != nil {
		return nil, err
	}
	if from > to {
		from, to = to, from
	}
	return p.link.ports(protocol, direction, from, to), nil
}

func parsePort(text string) (uint16, error) {
	n, err := strconv.ParseUint(text, 10, 16)
	if err != nil {
		return 0, fmt.Errorf("filter: port %q: allowed is a number from 0 to 65535", text)
	}
	return uint16(n), nil
}

func parseNet(text string) (netip.Prefix, error) {
	prefix, err := netip.ParsePrefix(text)
	if err != nil {
		return prefix, fmt.Errorf("filter: net %q: allowed is a prefix, as 2001:db8::/64 or 192.0.2.0/24", text)
	}
	if prefix.Masked() != prefix {
		return prefix, fmt.Errorf("filter: net %s: the address has bits behind the prefix's length; did you mean %s?", text, prefix.Masked())
	}
	return prefix, nil
}
