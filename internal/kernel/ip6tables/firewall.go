package ip6tables

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/v6net/v6net/internal/firewall"
	"github.com/v6net/v6net/internal/spec"
)

// Firewall is the kernel's side of the firewall in one network namespace. Its
// methods may be called from any goroutine.
type Firewall struct {
	log      *slog.Logger
	space    space
	programs programs
	links    *netlink.Handle
	events   *events

	mu      sync.Mutex // held over a whole operation
	applied *firewall.Ruleset
	bridges []string
	sent    map[family]tables
	listed  map[family]string // how the programs list what was sent; none: the kernel may hold something else
}

// New chooses the programs, in the network namespace of the calling thread, where
// they are run. The error matches [ErrUnavailable] where there are none that work.
func New(ctx context.Context, log *slog.Logger) (f *Firewall, err error) {
	f = &Firewall{log: log, sent: map[family]tables{}, listed: map[family]string{}}
	defer func() {
		if err != nil {
			err = errors.Join(err, f.Close())
		}
	}()
	if f.space, err = newSpace(); err != nil {
		return f, err
	}
	if f.links, err = netlink.NewHandle(unix.NETLINK_ROUTE); err != nil {
		return f, fmt.Errorf("open rtnetlink socket: %w", err)
	}
	if f.programs, err = f.space.choose(ctx); err != nil {
		return f, err
	}
	f.events, err = newEvents(f.programs.variant)
	return f, err
}

// Variant is nft or legacy: in whose tables the rules are.
func (f *Firewall) Variant() string { return f.programs.variant }

// Close closes the sockets. What is in the kernel stays there.
func (f *Firewall) Close() error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.links != nil {
		f.links.Close()
	}
	err := f.space.close()
	if f.events != nil {
		err = errors.Join(err, f.events.close())
	}
	return err
}

// Apply makes the kernel hold the ruleset. Each table changes in one atomic step, the
// one that judges what is forwarded first. Chains that are as they should be are left
// alone, and what was counted goes on. Connections stay.
//
// It can be called again after an error.
func (f *Firewall) Apply(ctx context.Context, want firewall.Ruleset) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.apply(ctx, want, false)
}

// apply looks at what is there first, but where that is certain.
func (f *Firewall) apply(ctx context.Context, want firewall.Ruleset, certain bool) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	bridges, err := otherBridges(ctx, f.links, want)
	if err != nil {
		return err
	}
	all := map[family]tables{}
	for _, fam := range families {
		if all[fam], err = compile(want, fam, bridges); err != nil {
			return fmt.Errorf("make rules for %s: %w", names[fam], err)
		}
	}
	f.warn(want)
	f.applied, f.bridges = &want, bridges
	for _, fam := range families {
		if err := f.put(ctx, fam, all[fam], certain); err != nil {
			delete(f.listed, fam)
			return fmt.Errorf("change the rules of %s: %w", names[fam], err)
		}
	}
	return nil
}

// warn says what of a ruleset cannot be had here.
func (f *Firewall) warn(want firewall.Ruleset) {
	translated := len(want.Set("inside_pools6").Elements) > 0
	if translated && (f.applied == nil || len(f.applied.Set("inside_pools6").Elements) == 0) {
		f.log.Error("firewall: networks with masquerade=nptv6 are cut off from the outside", "err", f.CanTranslate())
	}
}

// errTranslate is why prefixes are not translated.
var errTranslate = errors.New("needs nftables: the translation that ip6tables has (SNPT and DNPT) comes after connection tracking, so that answers could not be told from new connections")

// CanTranslate says why prefixes cannot be translated without state (RFC 6296).
func (f *Firewall) CanTranslate() error { return errTranslate }

// CanLog says why denied packets cannot be told; nil: they can. It finds out by a chain
// that no packet comes to.
func (f *Firewall) CanLog(ctx context.Context) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	const name = "v6net+probe" // which is none of ours that are kept
	for _, fam := range families {
		text := fmt.Sprintf("*mangle\n:%s - [0:0]\n-A %s -m limit --limit 1/sec --limit-burst 1 -j NFLOG --nflog-group 1 --nflog-size 128\nCOMMIT\n", name, name)
		err := f.space.write(ctx, f.programs, fam, text)
		if err != nil {
			return fmt.Errorf("this kernel does not log by %s (modules xt_NFLOG, xt_limit, nfnetlink_log): %w", names[fam], err)
		}
		if err := f.space.write(ctx, f.programs, fam, fmt.Sprintf("*mangle\n-F %s\n-X %s\nCOMMIT\n", name, name)); err != nil {
			return fmt.Errorf("remove the chain %s of %s: %w", name, names[fam], err)
		}
	}
	return nil
}

// Place is where a chain of the ruleset's is: the table that has it.
func (f *Firewall) Place(_, chain string, v6 bool) (string, string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	fam := ip4
	if v6 {
		fam = ip6
	}
	for _, name := range tableNames {
		if t := f.sent[fam][name]; t != nil && t.find(prefix+chain) != nil {
			return names[fam] + " " + name, prefix + chain
		}
	}
	return names[fam], prefix + chain
}

// put makes the kernel hold a family's tables.
func (f *Firewall) put(ctx context.Context, fam family, want tables, certain bool) error {
	var there saved
	old, known := f.sent[fam], f.listed[fam] != ""
	if !certain || !known {
		var err error
		if there, err = f.space.read(ctx, f.programs, fam); err != nil {
			return err
		}
		if !known || there.ours() != f.listed[fam] {
			if known {
				f.log.Warn("firewall: another program changed our rules, restoring them", "program", names[fam])
			}
			old = there.tables()
		}
	}
	text := change(old, want, there, accepting(*f.applied, fam))
	if text == "" {
		return nil
	}
	if err := f.space.write(ctx, f.programs, fam, text); err != nil {
		return err
	}
	now, err := f.space.read(ctx, f.programs, fam)
	if err != nil {
		return err
	}
	if err := now.holds(want); err != nil {
		return err
	}
	f.sent[fam], f.listed[fam] = want, now.ours()
	return nil
}

// change is what turns old into want. there: what else of ours is to be put right, if
// that is known.
func change(old, want tables, there saved, accept map[string]bool) string {
	var b strings.Builder
	add := func(name string, lines []string) {
		if len(lines) > 0 {
			fmt.Fprintf(&b, "*%s\n%sCOMMIT\n", name, strings.Join(lines, ""))
		}
	}
	for _, name := range tableNames {
		was, is := old[name], want[name]
		if was == nil {
			was = &table{}
		}
		if is == nil {
			is = &table{}
		}
		add(name, slices.Concat(there.surplus(name), is.since(was)))
	}
	add(foreignTable, there.accepts(accept))
	return b.String()
}

// Missing says why the ruleset that was applied last is not in the kernel now; nil: it
// is there, or none was applied.
func (f *Firewall) Missing(ctx context.Context) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.applied == nil {
		return nil
	}
	for _, fam := range families {
		there, err := f.space.read(ctx, f.programs, fam)
		if err != nil {
			return err
		}
		if there.ours() != f.listed[fam] {
			return fmt.Errorf("another program has changed the rules of %s", names[fam])
		}
	}
	return nil
}

// Obstacles are chains of nftables that refuse what ours accept, of which iptables
// knows nothing.
func (f *Firewall) Obstacles(context.Context) ([]spec.Obstacle, error) { return nil, nil }

// Update makes changes of the elements of the ruleset that was applied last. Only the
// chains that differ are sent; what others have done meanwhile is not looked at.
func (f *Firewall) Update(ctx context.Context, changes []firewall.Change) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.applied == nil {
		return fmt.Errorf("update the rules: no ruleset is applied")
	}
	want := f.applied.Clone()
	want.Change(changes)
	if err := f.apply(ctx, want, true); err != nil {
		f.log.Warn("firewall: rules cannot be updated, looking at all of them", "err", err)
		return f.apply(ctx, want, false)
	}
	return nil
}

// Remove deletes our chains and our rules in others', if they are there. Tables that
// iptables has made for them stay, empty.
func (f *Firewall) Remove(ctx context.Context) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.applied = nil
	f.sent, f.listed = map[family]tables{}, map[family]string{}
	var errs error
	for _, fam := range families {
		errs = errors.Join(errs, f.space.remove(ctx, f.programs, fam))
	}
	return errs
}

func (s space) remove(ctx context.Context, p programs, fam family) error {
	there, err := s.read(ctx, p, fam)
	if err != nil {
		return err
	}
	if text := change(there.tables(), tables{}, there, nil); text != "" {
		if err := s.write(ctx, p, fam, text); err != nil {
			return fmt.Errorf("remove the rules of %s: %w", names[fam], err)
		}
	}
	return nil
}

// Sweep removes what an earlier daemon has left by a variant of the programs that
// keep has not chosen; nil: by any. Where they are not, nothing is.
func Sweep(ctx context.Context, keep *Firewall) error {
	s, err := newSpace()
	if err != nil {
		return err
	}
	defer func() { _ = s.close() }()
	var errs error
	for _, variant := range []string{"nft", "legacy"} {
		p, err := find(variant)
		if err != nil || keep != nil && keep.programs.variant == variant {
			continue
		}
		for _, fam := range families {
			// One that the kernel has no tables for has none of ours.
			if there, err := s.read(ctx, p, fam); err == nil && there.ours() != "" {
				errs = errors.Join(errs, s.remove(ctx, p, fam))
			}
		}
	}
	return errs
}

// Counters reads what the chains that count have counted, in both families.
func (f *Firewall) Counters(ctx context.Context) (firewall.Counters, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	counted := firewall.Counters{}
	if f.applied == nil {
		return counted, nil
	}
	for _, fam := range families {
		there, err := f.space.read(ctx, f.programs, fam, "-c")
		if err != nil {
			return nil, fmt.Errorf("read the counters: %w", err)
		}
		for name, t := range f.sent[fam] {
			for _, ch := range t.chains {
				if ch.counting == "" || there[name] == nil {
					continue
				}
				if counted[ch.counting] == nil {
					counted[ch.counting] = map[string]uint64{}
				}
				for _, r := range there[name].rules[ch.name] {
					if link := strings.Fields(r.text); len(link) == 2 { // -i NAME
						counted[ch.counting][`"`+link[1]+`"`] += r.packets
					}
				}
			}
		}
	}
	return counted, nil
}
