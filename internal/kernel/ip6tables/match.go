package ip6tables

import (
	"fmt"
	"net/netip"
	"strconv"
	"strings"

	"github.com/v6net/v6net/internal/firewall"
	"github.com/v6net/v6net/internal/spec"
)

// family is IPv4 or IPv6, as the names of rules' keys begin.
type family string

const (
	ip4 family = "ip"
	ip6 family = "ip6"
)

// has reports whether packets of the family have the key.
func (f family) has(key string) bool {
	switch word, _, _ := strings.Cut(key, " "); word {
	case "ip", "icmp":
		return f == ip4
	case "ip6", "icmpv6":
		return f == ip6
	}
	return true
}

// flags are the options by which links and addresses are compared.
var flags = map[string]string{
	"iifname": "-i", "oifname": "-o", "ip saddr": "-s", "ip daddr": "-d", "ip6 saddr": "-s", "ip6 daddr": "-d",
}

// protocols are those of packets that have a key.
var protocols = map[string]string{"icmpv6 type": "ipv6-icmp", "icmp type": "icmp"}

// single is the match of one key with a value that is no element of a set.
func single(t test) (string, error) {
	key, value, not := t.keys[0], t.value, ""
	if t.not {
		not = "! "
	}
	switch key {
	case "iifname", "oifname":
		name := unquote(value)
		if begins, open := strings.CutSuffix(name, "*"); open {
			name = begins + "+"
		}
		return not + flags[key] + " " + name, nil
	case "ip saddr", "ip daddr", "ip6 saddr", "ip6 daddr":
		if t.mask != "" {
			value += "/" + t.mask
		}
		return not + flags[key] + " " + value, nil
	case "icmpv6 type":
		number, ok := firewall.ICMPv6Types[value]
		if !ok {
			return "", fmt.Errorf("%q is no type of ICMPv6 messages", value)
		}
		return fmt.Sprintf("-p ipv6-icmp -m icmp6 %s--icmpv6-type %d", not, number), nil
	case "icmp type":
		number, ok := firewall.ICMPTypes[value]
		if !ok {
			return "", fmt.Errorf("%q is no type of ICMP messages", value)
		}
		return fmt.Sprintf("-p icmp -m icmp %s--icmp-type %d", not, number), nil
	case "ether saddr":
		return "-m mac " + not + "--mac-source " + value, nil
	case "udp dport":
		return fmt.Sprintf("-p udp -m udp %s--dport %s", not, value), nil
	case "meta l4proto":
		return not + "-p " + value, nil
	case "ct state":
		return "-m conntrack " + not + "--ctstate " + strings.ToUpper(value), nil
	case "ct status":
		if value == "dnat" {
			return "-m conntrack " + not + "--ctstate DNAT", nil
		}
	case "fib daddr type":
		return "-m addrtype " + not + "--dst-type " + strings.ToUpper(value), nil
	case "meta mark":
		if t.mask != "" {
			return fmt.Sprintf("-m mark %s--mark %s/%s", not, value, t.mask), nil
		}
	}
	return "", fmt.Errorf("iptables does not compare %s with %q here", key, value)
}

// entry is an element of a set: a value for each key, and of a map what is done.
type entry struct {
	parts  []string
	target string
}

// full is the match of all keys with the entry's values.
func full(keys []string, e entry) (string, error) {
	var out []string
	protocol := ""
	for i, key := range keys {
		value := e.parts[i]
		switch key {
		case "meta l4proto":
			protocol = value
			out = append(out, "-p "+value)
		case "th dport":
			if protocol == "" {
				return "", fmt.Errorf("port %s of no protocol", value)
			}
			out = append(out, fmt.Sprintf("-m %s --dport %s", protocol, value))
		default:
			text, err := single(test{keys: []string{key}, value: value})
			if err != nil {
				return "", err
			}
			out = append(out, text)
		}
	}
	return strings.Join(out, " "), nil
}

// units are what an entry's values are split by in a tree: the letters of a name,
// half bytes of addresses and ports.
func units(keys []string, e entry) (out []string) {
	for i, key := range keys {
		value := e.parts[i]
		switch key {
		case "iifname", "oifname":
			out = append(append(out, strings.Split(unquote(value), "")...), "$")
		case "ip saddr", "ip daddr", "ip6 saddr", "ip6 daddr":
			text, bits, is := strings.Cut(value, "/")
			a, _ := netip.ParseAddr(text)
			digits := strings.Split(fmt.Sprintf("%x", a.AsSlice()), "")
			if n, err := strconv.Atoi(bits); is && err == nil {
				digits = digits[:n/4]
			}
			out = append(out, digits...)
		case "th dport":
			n, _ := strconv.Atoi(value)
			out = append(out, strings.Split(fmt.Sprintf("%04x", n), "")...)
		default:
			out = append(out, value)
		}
	}
	return out
}

// partial is the match of the first n units of an entry's values.
func partial(keys []string, e entry, n int) (string, error) {
	var out []string
	for i, key := range keys {
		if n == 0 {
			break
		}
		value := e.parts[i]
		size := len(units(keys[i:i+1], entry{parts: e.parts[i : i+1]}))
		if n >= size && !strings.Contains(value, "/") {
			n -= size
			if key == "th dport" { // after its protocol
				out = append(out, fmt.Sprintf("-m %s --dport %s", e.parts[i-1], value))
				continue
			}
			text, err := full(keys[i:i+1], entry{parts: e.parts[i : i+1]})
			if err != nil {
				return "", err
			}
			out = append(out, text)
			continue
		}
		switch key {
		case "iifname", "oifname":
			out = append(out, flags[key]+" "+unquote(value)[:n]+"+")
		case "th dport":
			number, _ := strconv.Atoi(value)
			low := number >> (16 - 4*n) << (16 - 4*n)
			out = append(out, fmt.Sprintf("-m %s --dport %d:%d", e.parts[i-1], low, low+1<<(16-4*n)-1))
		default:
			text, _, _ := strings.Cut(value, "/")
			a, err := netip.ParseAddr(text)
			if err != nil {
				return "", err
			}
			p, err := a.Prefix(4 * n)
			if err != nil {
				return "", err
			}
			out = append(out, flags[key]+" "+p.String())
		}
		n = 0
	}
	return strings.Join(out, " "), nil
}

func unquote(name string) string { return strings.TrimSuffix(strings.TrimPrefix(name, `"`), `"`) }

// sayable reports whether iptables takes the names of links for what they are.
func sayable(keys, parts []string) bool {
	for i, key := range keys {
		if (key == "iifname" || key == "oifname") && !spec.PlainName(unquote(parts[i])) {
			return false
		}
	}
	return true
}
