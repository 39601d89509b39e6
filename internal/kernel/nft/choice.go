package nft

import (
	"context"
	"errors"
	"fmt"
	"log/slog"

	"github.com/google/nftables"

	"github.com/v6net/v6net/internal/firewall"
)

// Probe finds out whether this kernel has what the tables need, by one that is there
// for a moment and has no rules. The error matches [ErrUnavailable] where it has not. That
// frames are judged is known from then on, before the first container's port is made.
func (f *Firewall) Probe(ctx context.Context) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if err := exists(f.conn); err != nil {
		return unavailable(err)
	}
	policy := nftables.ChainPolicyAccept
	t := f.conn.AddTable(&nftables.Table{Name: firewall.Name + "-probe", Family: nftables.TableFamilyINet})
	for _, c := range []nftables.Chain{
		{Name: "filter", Type: nftables.ChainTypeFilter, Hooknum: nftables.ChainHookForward, Priority: nftables.ChainPriorityFilter},
		{Name: "nat", Type: nftables.ChainTypeNAT, Hooknum: nftables.ChainHookPrerouting, Priority: nftables.ChainPriorityNATDest},
	} {
		c.Table, c.Policy = t, &policy
		f.conn.AddChain(&c)
	}
	f.conn.DelTable(t)
	err := f.conn.Flush()
	if err != nil {
		return errors.Join(unavailable(fmt.Errorf("make a table of nftables: %w", err)), drain(f.socket))
	}
	return errors.Join(f.probeFrames(), drain(f.socket))
}

// CanLog says why denied packets cannot be told: they can, where this kernel has what
// rules with a log need. It finds out by a chain that no packet comes to.
func (f *Firewall) CanLog(ctx context.Context) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	t := f.conn.AddTable(&nftables.Table{Name: firewall.Name + "-probe", Family: nftables.TableFamilyINet})
	links := &nftables.Set{Table: t, Name: "links", ID: 1, KeyType: nftables.TypeIFName, Dynamic: true, HasTimeout: true, Timeout: firewall.DynamicTimeout, Size: firewall.DynamicSize}
	if err := f.conn.AddSet(links, nil); err != nil {
		return errors.Join(err, drain(f.socket))
	}
	rule, err := compile(`update @links { iifname limit rate 1/second burst 1 packets } log prefix "v6net-probe" group 1 snaplen 128`, t.Family, map[string]uint32{links.Name: links.ID})
	if err != nil {
		return err
	}
	f.conn.AddRule(&nftables.Rule{Table: t, Chain: f.conn.AddChain(&nftables.Chain{Table: t, Name: "log"}), Exprs: rule})
	f.conn.DelTable(t)
	if err = f.conn.Flush(); err != nil {
		err = fmt.Errorf("this kernel does not log by nftables (modules nft_log, nft_limit, nfnetlink_log): %w", err)
	}
	return errors.Join(err, drain(f.socket))
}

// Sweep removes the tables that an earlier daemon has left in nftables, if there are
// any. Our rule in the chains of others stays: whoever keeps the rules now keeps that one,
// too, and established connections would not survive the moment without it.
func Sweep(ctx context.Context, log *slog.Logger) (err error) {
	f, err := New(log)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, family := range families {
		// Where the kernel has no nftables there is nothing.
		if _, missing := f.conn.ListTableOfFamily(firewall.Name, family); missing == nil {
			if err := errors.Join(ctx.Err(), f.probeFrames()); err != nil {
				return err
			}
			return f.removeTables()
		}
	}
	return nil
}

// Backend is nftables.
func (f *Firewall) Backend() string { return "nftables" }

// CanName reports that a rule can be about any bridge.
func (f *Firewall) CanName(string) bool { return true }

// CanTranslate says why prefixes cannot be translated without state: they can.
func (f *Firewall) CanTranslate() error { return nil }

// Place is where a chain of the ruleset's is.
func (f *Firewall) Place(table, chain string, _ bool) (string, string) { return table, chain }
