package main

import (
	"bytes"
	"fmt"
	"net/netip"
	"os"
	"slices"

	"github.com/v6net/v6net/internal/ndppd"
)

// wanted is what `v6net ndproxy` is to answer for.
type wanted struct {
	addresses map[string][]netip.Addr // by link; in order, each once
	prefixes  map[linkPrefix]bool
}

type linkPrefix struct {
	link   string
	prefix netip.Prefix
}

// read is what flags and files say now.
func (c *ndproxyCommand) read(stdin []byte) (wanted, error) {
	w := wanted{make(map[string][]netip.Addr), make(map[linkPrefix]bool)}
	prefixes, err := parsePrefixes(c.Prefix)
	if err != nil {
		return w, err
	}
	if c.Addresses == "" {
		for _, link := range c.Interface {
			for _, p := range prefixes {
				w.prefixes[linkPrefix{link, p}] = true
			}
		}
	} else {
		text, name := stdin, "standard input"
		if c.Addresses != "-" {
			name = c.Addresses
			if text, err = os.ReadFile(c.Addresses); err != nil {
				return w, fmt.Errorf("read addresses: %w", err)
			}
		}
		addrs := make([]netip.Addr, 0, bytes.Count(text, []byte("\n"))+1)
		if err := parseAddresses(text, prefixes, func(addr netip.Addr) { addrs = append(addrs, addr) }); err != nil {
			return w, fmt.Errorf("addresses of %s: %w", name, err)
		}
		for i, link := range c.Interface {
			if i > 0 {
				addrs = slices.Clone(addrs) // each is put in order, in place
			}
			w.addresses[link] = addrs
		}
	}
	if err := c.readNDPPD(w); err != nil {
		return w, err
	}
	for link, addrs := range w.addresses {
		slices.SortFunc(addrs, netip.Addr.Compare)
		w.addresses[link] = slices.Compact(addrs)
	}
	return w, nil
}

func (c *ndproxyCommand) readNDPPD(w wanted) error {
	if c.NDPPDConfig == "" {
		return nil
	}
	file, err := os.Open(c.NDPPDConfig)
	if err != nil {
		return fmt.Errorf("read ndppd's configuration: %w", err)
	}
	defer func() { _ = file.Close() }()
	rules, err := ndppd.Parse(file)
	if err != nil {
		return fmt.Errorf("%s: %w", c.NDPPDConfig, err)
	}
	for _, r := range rules {
		if r.Prefix.IsSingleIP() {
			w.addresses[r.Interface] = append(w.addresses[r.Interface], r.Prefix.Addr())
		} else {
			w.prefixes[linkPrefix{r.Interface, r.Prefix}] = true
		}
	}
	return nil
}

// differences are what is only in one of two lists that are in order.
func differences(before, after []netip.Addr) (come, gone []netip.Addr) {
	if len(before) == 0 {
		return after, nil
	}
	for len(before) > 0 && len(after) > 0 {
		switch order := before[0].Compare(after[0]); {
		case order < 0:
			gone, before = append(gone, before[0]), before[1:]
		case order > 0:
			come, after = append(come, after[0]), after[1:]
		default:
			before, after = before[1:], after[1:]
		}
	}
	return append(come, after...), append(gone, before...)
}
