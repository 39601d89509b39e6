package ip6tables

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"golang.org/x/sys/unix"
)

// Sweep removes the chains that an earlier daemon has left by a variant of the programs
// that keep has not chosen; nil: by any. The rule in others' chains stays: whoever keeps
// the rules now keeps that one, too. Where the programs are not, nothing can be removed, and
// that there is or may be something is the error: it cuts containers off that come later.
func Sweep(ctx context.Context, keep *Firewall) error {
	s, err := newSpace()
	if err != nil {
		return err
	}
	defer func() { _ = s.close() }()
	var errs error
	for _, variant := range variants {
		p, err := find(variant)
		switch {
		case keep != nil && keep.programs.variant == variant:
			continue
		case err != nil:
			if s.mayHaveLeft(variant) {
				errs = errors.Join(errs, fmt.Errorf("rules that an earlier v6net may have left in the tables of iptables-%s cannot be looked for: install iptables and restart v6net: %w", variant, err))
			}
			continue
		}
		for _, fam := range families {
			// One that the kernel has no tables for has none of ours. The kernel is asked, and not the
			// programs: each start would wait for a dozen runs of them.
			if variant == "nft" && !s.nftMayHave(fam) {
				continue
			}
			errs = errors.Join(errs, s.remove(ctx, p, fam, nil))
		}
	}
	return errs
}

// remove deletes our chains, and the jumps to them. A table that cannot be read has what
// was written last.
func (s space) remove(ctx context.Context, p programs, fam family, last map[string]held) error {
	var text strings.Builder
	for _, name := range tableNames {
		if p.variant == "legacy" && !s.legacyHas(fam, name) {
			continue // and to look would make it
		}
		old, surplus := last[name].sent, []string(nil)
		if there, err := s.read(ctx, p, fam, name); err == nil {
			_, surplus = there.jumps(nil)
			old = there.now(held{}, nil)
		} else if old == nil {
			return fmt.Errorf("read the rules of %s: %w", names[fam], err)
		}
		if lines := slices.Concat(surplus, (&table{}).since(old)); len(lines) > 0 {
			fmt.Fprintf(&text, "*%s\n%sCOMMIT\n", name, strings.Join(lines, ""))
		}
	}
	if text.Len() == 0 {
		return nil
	}
	if err := s.write(ctx, p, fam, text.String()); err != nil {
		return fmt.Errorf("remove the rules of %s: %w", names[fam], err)
	}
	return nil
}

// mayHaveLeft asks the kernel, without the programs. Of chains of iptables-legacy nobody
// else knows.
func (s space) mayHaveLeft(variant string) bool {
	if variant == "legacy" {
		return slices.ContainsFunc(families, func(fam family) bool { return s.legacyHas(fam, tableNames[0]) })
	}
	return slices.ContainsFunc(families, s.nftMayHave)
}

// nftMayHave reports whether there is, or may be, a chain of ours among those of iptables-nft.
func (s space) nftMayHave(fam family) (may bool) {
	err := s.do(func() error {
		k, err := openKernelTables()
		if err != nil {
			return err
		}
		may, err = k.hasOurs(fam)
		return errors.Join(err, k.close())
	})
	// Without nftables the kernel does not know the question (netfilter's answer to a subsystem it has not).
	return may || err != nil && !errors.Is(err, unix.EINVAL) && !errors.Is(err, unix.EOPNOTSUPP)
}
