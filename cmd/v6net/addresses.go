package main

import (
	"bytes"
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"github.com/v6net/v6net/ndproxy"
)

// parsePrefixes reads --prefix.
func parsePrefixes(texts []string) ([]netip.Prefix, error) {
	var prefixes []netip.Prefix
	for _, text := range texts {
		p, err := netip.ParsePrefix(text)
		if err != nil || !p.Addr().Is6() || p.Addr().Is4In6() {
			return nil, fmt.Errorf("--prefix %s: allowed is an IPv6 prefix, as 2001:db8::/64", text)
		}
		if p.Masked() != p {
			return nil, fmt.Errorf("--prefix %s: the address has bits behind the prefix's length; did you mean %s?", text, p.Masked())
		}
		if err := ndproxy.Answerable(p); err != nil {
			return nil, fmt.Errorf("--prefix %s: %w", text, err)
		}
		prefixes = append(prefixes, p)
	}
	return prefixes, nil
}

// parseAddresses reads a list of addresses, one a line, with comments that begin
// with #. They must be within the prefixes, if there are any.
func parseAddresses(text []byte, within []netip.Prefix, add func(netip.Addr)) error {
	n := 0
	for line := range bytes.Lines(text) {
		n++
		word, _, _ := bytes.Cut(line, []byte("#"))
		word = bytes.TrimSpace(word)
		if len(word) == 0 {
			continue
		}
		addr, err := netip.ParseAddr(string(word))
		if err != nil || !addr.Is6() || addr.Is4In6() || addr.Zone() != "" {
			return fmt.Errorf("line %d: %s: allowed is one IPv6 address", n, word)
		}
		if err := ndproxy.Answerable(netip.PrefixFrom(addr, addr.BitLen())); err != nil {
			return fmt.Errorf("line %d: %w", n, err)
		}
		if len(within) > 0 && !slices.ContainsFunc(within, func(p netip.Prefix) bool { return p.Contains(addr) }) {
			return fmt.Errorf("line %d: %s is not in %s (--prefix)", n, addr, prefixList(within))
		}
		add(addr)
	}
	return nil
}

func prefixList(prefixes []netip.Prefix) string {
	var s []string
	for _, p := range prefixes {
		s = append(s, p.String())
	}
	return strings.Join(s, ", ")
}
