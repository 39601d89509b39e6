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
	kernel   *kernelTables
	accepts  *Accepts
	events   *events

	mu      sync.Mutex // held over a whole operation
	applied *firewall.Ruleset
	bridges []string
	wanted  map[family]tables // made of both
	held    map[family]map[string]held
	// commits are the changes that were made, and repairs those among them that put back
	// what others had changed. looked is the generation of nftables in which all was as
	// wanted; 0: that is not known.
	commits, repairs, looked uint32
}

// held is a table that is as it was wanted, unless others have changed it since.
type held struct {
	sent   *table
	listed map[string]string // how the programs list our chains of it
}

// New chooses the programs, in the network namespace of the calling thread, where
// they are run. The error matches [ErrUnavailable] where there are none that work.
func New(ctx context.Context, log *slog.Logger) (f *Firewall, err error) {
	f = &Firewall{log: log}
	f.forget()
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
	if f.kernel, err = openKernelTables(); err != nil {
		return f, err
	}
	if f.accepts, err = newAccepts(log, variants); err != nil {
		return f, err
	}
	f.events, err = newEvents(variants)
	return f, err
}

// variants of iptables. iptables-nft keeps its rules in nftables' tables, iptables-legacy
// in the kernel's older ones, and neither sees the other's.
var variants = []string{"nft", "legacy"}

// Variant is nft or legacy: in whose tables the rules are.
func (f *Firewall) Variant() string { return f.programs.variant }

// Backend is iptables-nft or iptables-legacy.
func (f *Firewall) Backend() string { return "iptables-" + f.Variant() }

// Close closes the sockets. What is in the kernel stays there.
func (f *Firewall) Close() error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.links != nil {
		f.links.Close()
	}
	err := f.space.close()
	if f.kernel != nil {
		err = errors.Join(err, f.kernel.close())
	}
	if f.accepts != nil {
		err = errors.Join(err, f.accepts.Close())
	}
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
	if err := f.compile(ctx, want); err != nil {
		return err
	}
	return f.look(ctx)
}

// forget is that nothing is known of what the kernel holds.
func (f *Firewall) forget() {
	f.applied, f.wanted, f.held = nil, nil, map[family]map[string]held{}
	for _, fam := range families {
		f.held[fam] = map[string]held{}
	}
}

// compile makes what is wanted of a ruleset.
func (f *Firewall) compile(ctx context.Context, want firewall.Ruleset) error {
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
	f.applied, f.bridges, f.wanted = &want, bridges, all
	return nil
}

// look puts right whatever is not as wanted, and our rule in others' chains.
func (f *Firewall) look(ctx context.Context) error {
	before, commits := f.generation(), f.commits+f.accepts.commits.Load()
	f.looked = 0
	err := f.putAll(ctx, false)
	f.accepts.Apply(ctx, *f.applied)
	if err == nil {
		f.mine(before, f.commits+f.accepts.commits.Load()-commits)
	}
	return err
}

// mine takes the generation for one in which all is as wanted, if nobody else has
// changed anything since the one before.
func (f *Firewall) mine(before, commits uint32) {
	f.looked = 0
	if now := f.generation(); before != 0 && now == before+commits {
		f.looked = now
	}
}

// generation of nftables; 0: the rules are not there, or it cannot be told.
func (f *Firewall) generation() uint32 {
	if f.programs.variant != "nft" {
		return 0
	}
	n, _ := f.kernel.generation()
	return n
}

func (f *Firewall) putAll(ctx context.Context, certain bool) error {
	for _, fam := range families {
		if err := f.put(ctx, fam, certain); err != nil {
			return fmt.Errorf("change the rules of %s: %w", names[fam], err)
		}
	}
	return nil
}

// errTranslate is why prefixes are not translated.
var errTranslate = errors.New("needs nftables: the translation that ip6tables has (SNPT and DNPT) comes after connection tracking, so that answers could not be told from new connections")

// CanName reports whether a rule can be about a bridge: to iptables some names are patterns,
// or none.
func (f *Firewall) CanName(bridge string) bool { return spec.PlainName(bridge) }

// CanTranslate says why prefixes cannot be translated without state (RFC 6296).
func (f *Firewall) CanTranslate() error { return errTranslate }

// JudgesPorts reports that ports are not judged: what stays on its bridge is not seen.
func (f *Firewall) JudgesPorts() bool { return false }

// probeChain is there for a moment. It is named like ours, so that one that a killed
// daemon has left is surplus, and goes.
const probeChain = prefix + "probe"

// CanLog says why denied packets cannot be told; nil: they can. It finds out by a chain
// that no packet comes to.
func (f *Firewall) CanLog(ctx context.Context) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, fam := range families {
		text := fmt.Sprintf("*mangle\n:%s - [0:0]\n-A %s -m limit --limit 1/sec --limit-burst 1 -j NFLOG --nflog-group 1 --nflog-size 128\nCOMMIT\n", probeChain, probeChain)
		err := f.space.write(ctx, f.programs, fam, text)
		if err != nil {
			return fmt.Errorf("this kernel does not log by %s (modules xt_NFLOG, xt_limit, nfnetlink_log): %w", names[fam], err)
		}
		if err := f.space.write(ctx, f.programs, fam, fmt.Sprintf("*mangle\n-F %s\n-X %s\nCOMMIT\n", probeChain, probeChain)); err != nil {
			return fmt.Errorf("remove the chain %s of %s: %w", probeChain, names[fam], err)
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
		if t := f.want(fam, name); t.index()[prefix+chain] != nil {
			return names[fam] + " " + name, prefix + chain
		}
	}
	return names[fam], prefix + chain
}

// putAttempts bounds how often a change is begun anew because another program has
// changed the same tables meanwhile.
const putAttempts = 3

// put makes the kernel hold a family's tables. Whatever is there later than it was
// written counts: what is not found then is put there again.
func (f *Firewall) put(ctx context.Context, fam family, certain bool) error {
	err := f.try(ctx, fam, certain)
	for n := 1; n < putAttempts && err != nil && ctx.Err() == nil; n++ {
		f.log.Warn("firewall: our rules are not as they were written, looking at all of them", "program", names[fam], "err", err)
		err = f.try(ctx, fam, false)
	}
	return err
}

// try writes what differs, and reads what has become of it. certain: what differs from
// what we hold, and not from what is there.
func (f *Firewall) try(ctx context.Context, fam family, certain bool) error {
	var text strings.Builder
	var changed []string
	for _, name := range tableNames {
		was, known := f.held[fam][name]
		old, surplus := was.sent, []string(nil)
		if !certain || !known {
			there, err := f.space.read(ctx, f.programs, fam, name)
			if err != nil {
				return err
			}
			if known {
				if err := there.asWas(was); err != nil {
					f.repairs++
					f.log.Warn("firewall: another program changed our rules, restoring them", "program", names[fam], "table", name, "because", err)
				}
			}
			var right []jump
			right, surplus = there.jumps(f.want(fam, name).jumps)
			old = there.now(was, right)
		}
		if lines := slices.Concat(surplus, f.want(fam, name).since(old)); len(lines) > 0 {
			changed = append(changed, name)
			fmt.Fprintf(&text, "*%s\n%sCOMMIT\n", name, strings.Join(lines, ""))
		} else if !known {
			changed = append(changed, name)
		}
	}
	if text.Len() > 0 {
		if err := f.space.write(ctx, f.programs, fam, text.String()); err != nil {
			for _, name := range changed { // which may have been changed, or not
				delete(f.held[fam], name)
			}
			return err
		}
		f.commits += uint32(strings.Count(text.String(), "COMMIT\n"))
	}
	for _, name := range changed {
		now, err := f.space.read(ctx, f.programs, fam, name)
		if err == nil {
			err = now.holds(f.want(fam, name), f.held[fam][name])
		}
		if err != nil {
			delete(f.held[fam], name)
			return fmt.Errorf("table %s: %w", name, err)
		}
		f.held[fam][name] = held{f.want(fam, name), now.listing()}
	}
	return nil
}

func (f *Firewall) want(fam family, name string) *table {
	if t := f.wanted[fam][name]; t != nil {
		return t
	}
	return &table{}
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
		for _, name := range tableNames {
			was, known := f.held[fam][name]
			if !known {
				return fmt.Errorf("the rules of %s, table %s, could not be put in place", names[fam], name)
			}
			there, err := f.space.read(ctx, f.programs, fam, name)
			if err != nil {
				return err
			}
			if err := there.asWas(was); err != nil {
				return fmt.Errorf("another program has changed the rules of %s, table %s: %w", names[fam], name, err)
			}
		}
	}
	return nil
}

// Obstacles are the tables of iptables where packets of ours may be refused. Of chains
// of nftables' own, which may do so, too, iptables knows nothing.
func (f *Firewall) Obstacles(context.Context) ([]spec.Obstacle, error) {
	return f.accepts.Obstacles(), nil
}

// Update makes changes of the elements of the ruleset that was applied last. Only the
// chains that differ are sent; that they and all others of the same tables are as they
// should be is looked for afterwards.
func (f *Firewall) Update(ctx context.Context, changes []firewall.Change) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if err := f.compileChanged(ctx, changes); err != nil {
		return err
	}
	before, commits := f.generation(), f.commits
	if before == 0 || before != f.looked { // others have changed something, and Watch will see what
		before = 0
	}
	if err := f.putAll(ctx, true); err != nil {
		return err
	}
	f.mine(before, f.commits-commits)
	return nil
}

// UpdateNetworks is [Firewall.Update] for networks that come or go: what is there is looked
// at, and others' chains, too, as [Firewall.Apply] does.
func (f *Firewall) UpdateNetworks(ctx context.Context, changes []firewall.Change) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if err := f.compileChanged(ctx, changes); err != nil {
		return err
	}
	return f.look(ctx)
}

// compileChanged makes what is wanted of the ruleset that was applied last, with changes.
func (f *Firewall) compileChanged(ctx context.Context, changes []firewall.Change) error {
	if f.applied == nil {
		return fmt.Errorf("update the rules: no ruleset is applied")
	}
	want := f.applied.Clone()
	want.Change(changes)
	return f.compile(ctx, want)
}

// Remove deletes our chains and our rules in others', if they are there. Tables that
// iptables has made for them stay, empty.
func (f *Firewall) Remove(ctx context.Context) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	held := f.held
	f.forget()
	f.accepts.Remove(ctx)
	var errs error
	for _, fam := range families {
		errs = errors.Join(errs, f.space.remove(ctx, f.programs, fam, held[fam]))
	}
	return errs
}
