package cloud

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"strings"

	"github.com/v6net/v6net/internal/spec"
)

// mostPrefixes bounds how many prefixes metadata may name.
const mostPrefixes = 16

// errNone says that metadata were read and have no prefix for the link.
var errNone = errors.New("no IPv6 prefix is assigned to this machine's interface")

// prefixes reads them out of metadata. What may not be lent is left out.
func (r reading) prefixes(body []byte, mac string) ([]netip.Prefix, error) {
	texts, err := r.texts(body, mac)
	if err != nil {
		return nil, err
	}
	var found []netip.Prefix
	for _, text := range texts {
		p, err := r.parse(text)
		if err != nil {
			return nil, err
		}
		for _, p := range p {
			if spec.IsDelegable(p) && len(found) < mostPrefixes && !slices.ContainsFunc(found, p.Overlaps) {
				found = append(found, p)
			}
		}
	}
	if len(found) == 0 {
		return nil, errNone
	}
	return found, nil
}

// texts are the prefixes as the metadata write them.
func (r reading) texts(body []byte, mac string) ([]string, error) {
	switch {
	case r.lines:
		return strings.Fields(string(body)), nil
	case r.pattern != nil:
		var texts []string
		for _, m := range r.pattern.FindAllSubmatch(body, mostPrefixes) {
			texts = append(texts, string(m[1]))
		}
		return texts, nil
	}
	var root any
	if err := json.Unmarshal(body, &root); err != nil {
		return nil, fmt.Errorf("metadata are no JSON: %w", err)
	}
	var texts []string
	for _, leaf := range follow(root, r.path, mac) {
		if text, ok := r.leaf(leaf); ok {
			texts = append(texts, text)
		}
	}
	return texts, nil
}

// follow is what a path leads to; what is not there leads nowhere.
func follow(at any, path []string, mac string) []any {
	if len(path) == 0 {
		return []any{at}
	}
	step, rest := path[0], path[1:]
	field, value, filter := strings.Cut(step, "=")
	if !filter && step != "*" {
		object, ok := at.(map[string]any)
		if !ok || object[field] == nil {
			return nil
		}
		return follow(object[field], rest, mac)
	}
	if value == "" {
		value = mac
	}
	array, _ := at.([]any)
	var found []any
	for _, each := range array {
		if filter {
			object, _ := each.(map[string]any)
			if text, ok := object[field].(string); !ok || !strings.EqualFold(text, value) {
				continue
			}
		}
		found = append(found, follow(each, rest, mac)...)
	}
	return found
}

// leaf is the text of what stands at the end of a path.
func (r reading) leaf(at any) (string, bool) {
	object, ok := at.(map[string]any)
	if !ok {
		text, ok := at.(string)
		return text, ok && text != ""
	}
	addr, _ := object[r.address].(string)
	var bits string
	switch v := object[r.bits].(type) {
	case string:
		bits = v
	case float64:
		bits = strconv.FormatFloat(v, 'f', -1, 64)
	}
	return addr + "/" + bits, addr != "" && bits != ""
}

// parse reads one prefix, as the parts of it that may be used.
func (r reading) parse(text string) ([]netip.Prefix, error) {
	if r.length > 0 {
		addr, err := netip.ParseAddr(text)
		if err != nil || !addr.Is6() {
			return nil, fmt.Errorf("metadata name %q, which is no IPv6 address", shorten(text))
		}
		return beside(netip.PrefixFrom(addr, r.length)), nil
	}
	p, err := netip.ParsePrefix(text)
	if err != nil || !p.Addr().Is6() {
		return nil, fmt.Errorf("metadata name %q, which is no IPv6 prefix", shorten(text))
	}
	return []netip.Prefix{p.Masked()}, nil
}

// smallBits is the length of prefixes of which an address of this host, which is one
// of few, leaves no larger part to a pool.
const smallBits = 112

// beside are the parts of a small prefix that do not hold its address, the largest
// first: the address is the machine's own. Of a larger one they are the prefix.
func beside(p netip.Prefix) []netip.Prefix {
	if p.Bits() < smallBits {
		return []netip.Prefix{p.Masked()}
	}
	var parts []netip.Prefix
	for bits := p.Bits() + 1; bits <= spec.MaxDelegationBits; bits++ {
		other := p.Addr().As16()
		other[(bits-1)/8] ^= 0x80 >> ((bits - 1) % 8)
		parts = append(parts, netip.PrefixFrom(netip.AddrFrom16(other), bits).Masked())
	}
	return parts
}

// shorten is a text for people.
func shorten(text string) string {
	if len(text) > 60 {
		return text[:60] + "…"
	}
	return text
}
