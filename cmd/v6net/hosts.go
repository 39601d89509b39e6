package main

import (
	"context"
	"fmt"
	"io"
	"net/netip"
	"os"
	"slices"
	"text/tabwriter"
	"time"

	"github.com/v6net/v6net/internal/spec"
)

type hostsCommand struct {
	daemonSocket
	JSON bool `help:"Print JSON, with former addresses and how long they are valid, and those that translated ones are elsewhere."`
}

// hostEntry is one attachment of a container, as `v6net hosts --json` shows it.
type hostEntry struct {
	Name      string          `json:"name,omitempty"` // the container's, where its engine tells it
	Container string          `json:"container,omitempty"`
	Endpoint  string          `json:"endpoint"`
	Network   string          `json:"network"`
	Addresses []netip.Addr    `json:"addresses"`         // in use now, IPv6 first
	Outside   []netip.Addr    `json:"outside,omitempty"` // what those of a translated prefix are elsewhere (nptv6)
	Former    []formerAddress `json:"former,omitempty"`  // for connections that have them
}

type formerAddress struct {
	Address netip.Addr `json:"address"`
	Valid   time.Time  `json:"valid,omitzero"` // until then; zero: for as long as its prefix is lent
}

// Run asks the daemon which addresses containers have now.
func (c hostsCommand) Run(ctx context.Context) error {
	status, err := c.status(ctx)
	if err != nil {
		return err
	}
	entries := hostEntries(status)
	if c.JSON {
		return printJSON(os.Stdout, entries)
	}
	return printHosts(os.Stdout, entries)
}

func hostEntries(status spec.Status) []hostEntry {
	entries := []hostEntry{}
	for _, n := range status.Networks {
		for _, ep := range n.Endpoints {
			e := hostEntry{Name: ep.Name, Container: ep.Container, Endpoint: ep.ID, Network: n.ID, Addresses: []netip.Addr{}}
			for _, a := range n.HasOf(ep) {
				if former, valid := isFormer(n.Network, a); former {
					e.Former = append(e.Former, formerAddress{a, valid})
				} else {
					e.Addresses = append(e.Addresses, a)
				}
				if outside, ok := n.Translation().Out(a); ok {
					e.Outside = append(e.Outside, outside)
				}
			}
			entries = append(entries, e)
		}
	}
	return entries
}

// isFormer reports whether an address is in a prefix that its network does not use
// any more, and until when it is valid.
func isFormer(n spec.Network, a netip.Addr) (former bool, valid time.Time) {
	for _, s := range n.IPv6 {
		if s.Lent == nil {
			continue
		}
		i := slices.IndexFunc(s.Lent.Prefixes, func(p spec.LentPrefix) bool { return p.Prefix.Contains(a) })
		if i >= 0 && s.Lent.Prefixes[i].Former {
			return true, s.Lent.Prefixes[i].Valid
		}
	}
	return false, time.Time{}
}

// printHosts writes entries in the format of hosts(5).
func printHosts(w io.Writer, entries []hostEntry) error {
	out := tabwriter.NewWriter(w, 0, 8, 2, ' ', 0)
	for _, e := range entries {
		name := e.Name
		if name == "" {
			name = spec.ShortID(e.Endpoint)
		}
		for _, a := range e.Addresses {
			fmt.Fprintf(out, "%s\t%s\n", a, name) //nolint:errcheck // Flush reports it
		}
	}
	return out.Flush()
}
