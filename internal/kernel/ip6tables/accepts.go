package ip6tables

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"os"
	"slices"
	"strings"
	"sync"
	"sync/atomic"

	"github.com/v6net/v6net/internal/firewall"
	"github.com/v6net/v6net/internal/spec"
)

// Accepts keeps the one rule that accepts what we have vouched for in others' filter
// tables, of those variants of iptables that it is for. Both may be in use at a time,
// and neither has to be there already when v6net starts: wherever there is such a table
// the rule is put and kept. What cannot be done is an obstacle, and no error: whatever is
// in others' tables, our own rules do not depend on it.
type Accepts struct {
	log      *slog.Logger
	space    space
	kernel   *kernelTables
	events   *events // nil: somebody else listens
	variants []string

	mu      sync.Mutex
	wanted  map[family]map[string]bool // the chains that are to have the rule; nil: no ruleset is applied
	faults  map[filterTable]spec.Obstacle
	legacy  []family      // whose filter table of iptables-legacy was there at the last look
	commits atomic.Uint32 // changes of tables that were made
}

// filterTable is a family's, in one variant.
type filterTable struct {
	variant string
	family  family
}

// NewAccepts is for variants, nft or legacy, in the network namespace of the calling thread.
func NewAccepts(log *slog.Logger, variants ...string) (a *Accepts, err error) {
	if a, err = newAccepts(log, variants); err != nil {
		return nil, err
	}
	if a.events, err = newEvents(variants); err != nil {
		return nil, errors.Join(err, a.Close())
	}
	return a, nil
}

// newAccepts is without events: somebody else listens.
func newAccepts(log *slog.Logger, variants []string) (a *Accepts, err error) {
	a = &Accepts{log: log, variants: variants, faults: map[filterTable]spec.Obstacle{}}
	if a.space, err = newSpace(); err != nil {
		return nil, err
	}
	if a.kernel, err = openKernelTables(); err != nil {
		return nil, errors.Join(err, a.Close())
	}
	return a, nil
}

// Close closes the sockets. What is in the kernel stays there.
func (a *Accepts) Close() error {
	err := a.space.close()
	if a.kernel != nil {
		err = errors.Join(err, a.kernel.close())
	}
	if a.events != nil {
		err = errors.Join(err, a.events.close())
	}
	return err
}

// Apply puts the rule where a ruleset needs it, and keeps it there.
func (a *Accepts) Apply(ctx context.Context, r firewall.Ruleset) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.wanted = map[family]map[string]bool{} // and not r itself, which its owner changes in place
	for _, fam := range families {
		a.wanted[fam] = accepting(r, fam)
	}
	a.put(ctx, a.variants)
}

// Remove takes it away, wherever it is.
func (a *Accepts) Remove(ctx context.Context) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.wanted = nil
	a.put(ctx, a.variants)
}

// Obstacles are the tables where the rule is not as it should be.
func (a *Accepts) Obstacles() []spec.Obstacle {
	a.mu.Lock()
	defer a.mu.Unlock()
	return slices.SortedFunc(maps.Values(a.faults), func(x, y spec.Obstacle) int { return strings.Compare(x.Table, y.Table) })
}

// Watch puts the rule back whenever another program has removed it, and where a table
// appears, as long as a ruleset is applied. It returns nil when ctx ends.
func (a *Accepts) Watch(ctx context.Context) error {
	return a.events.watch(ctx, a.log, func(ctx context.Context) (bool, error) {
		before := a.commits.Load()
		if a.events.touched.Swap(false) || a.appeared() {
			a.check(ctx, a.variants...)
		}
		return a.commits.Load() != before, nil
	})
}

// check puts the rule back in some variants.
func (a *Accepts) check(ctx context.Context, variants ...string) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.wanted != nil {
		a.put(ctx, variants)
	}
}

// appeared reports whether iptables-legacy has made tables since the last look, of which
// nobody tells where its lock is not seen; links come and go whenever Docker starts.
func (a *Accepts) appeared() bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.wanted != nil && slices.Contains(a.variants, "legacy") && !slices.Equal(a.legacy, a.legacyTables())
}

func (a *Accepts) legacyTables() (made []family) {
	for _, fam := range families {
		if a.space.legacyHas(fam, foreignTable) {
			made = append(made, fam)
		}
	}
	return made
}

func (a *Accepts) put(ctx context.Context, variants []string) {
	a.legacy = a.legacyTables()
	for _, variant := range variants {
		for _, fam := range families {
			at := filterTable{variant, fam}
			chain, fault := a.putIn(ctx, at)
			if fault == nil || ctx.Err() != nil {
				delete(a.faults, at)
				continue
			}
			o := spec.Obstacle{
				Table: fmt.Sprintf("%s filter of iptables-%s", fam, variant), Chain: chain, Why: fault.Error(),
				Fix: fmt.Sprintf("%s-%s -I %s %s", names[fam], variant, chain, vouched),
			}
			if a.faults[at] != o {
				a.log.Warn("firewall: packets that v6net accepts may be refused by another's chain", "table", o.Table, "chain", o.Chain, "because", o.Why, "fix", o.Fix)
			}
			a.faults[at] = o
		}
	}
}

// putIn brings the rule in one table to where it belongs. The error is about a chain
// that is to have it.
func (a *Accepts) putIn(ctx context.Context, at filterTable) (string, error) {
	wanted := a.wanted[at.family]
	there := a.present(at)
	if len(there) == 0 {
		return "", nil
	}
	p, err := a.space.programsOf(ctx, at.variant)
	if err != nil {
		if wanted[forwardChain] {
			return forwardChain, fmt.Errorf("the programs of iptables-%s are not here to put our rule there", at.variant)
		}
		return "", nil
	}
	t, unreadable := a.space.readFilter(ctx, p, at.family, there)
	lines := t.accepts(wanted)
	for _, chain := range sortedKeys(unreadable) {
		number := 0
		if at.variant == "nft" {
			number = a.kernel.tagged(at.family, foreignTable, chain)
		}
		switch {
		case wanted[chain] && number == 0:
			lines = append(lines, fmt.Sprintf("-A %s %s\n", chain, acceptRule))
		case !wanted[chain] && number > 0: // by its number: the rule would be looked for among those that cannot be read
			lines = append(lines, fmt.Sprintf("-D %s %d\n", chain, number))
		}
	}
	if len(lines) > 0 {
		a.log.Debug("firewall: our rule in others' chains", "variant", at.variant, "family", at.family, "changes", lines)
		if err := a.space.write(ctx, p, at.family, fmt.Sprintf("*%s\n%sCOMMIT\n", foreignTable, strings.Join(lines, ""))); err != nil {
			return forwardChain, fmt.Errorf("our rule cannot be put there: %w", err)
		}
		a.commits.Add(1)
	}
	for _, chain := range []string{forwardChain, inputChain} {
		if err := unreadable[chain]; err != nil && wanted[chain] {
			return chain, fmt.Errorf("not all its rules can be read, so that ours is at its end: %w", err)
		}
	}
	return "", nil
}

// LegacyHas reports whether iptables-legacy has made a table of a family, ip or ip6, in the
// network namespace of the calling thread. It makes none.
func LegacyHas(family, table string) bool {
	// One a line; the file is there once its modules are.
	made, err := os.ReadFile("/proc/thread-self/net/" + family + "_tables_names")
	return err == nil && slices.Contains(strings.Fields(string(made)), table)
}

// present are the chains of a filter table that may have our rule. It makes none.
func (a *Accepts) present(at filterTable) (chains []string) {
	if at.variant == "legacy" {
		if a.space.legacyHas(at.family, foreignTable) {
			return []string{forwardChain, inputChain}
		}
		return nil
	}
	for _, chain := range []string{forwardChain, inputChain} {
		if a.kernel.has(at.family, foreignTable, chain) {
			chains = append(chains, chain)
		}
	}
	return chains
}

func (s space) legacyHas(f family, table string) (has bool) {
	_ = s.do(func() error {
		has = LegacyHas(string(f), table)
		return nil
	})
	return has
}

// readFilter reads what matters for our rule's place: some chains of the filter table,
// and those that their last rules lead to. Which of them cannot be read is said of each.
func (s space) readFilter(ctx context.Context, p programs, f family, chains []string) (*savedTable, map[string]error) {
	unreadable := map[string]error{}
	if p.variant == "legacy" {
		t, err := s.read(ctx, p, f, foreignTable)
		if err != nil {
			for _, chain := range chains {
				unreadable[chain] = err
			}
			return newSavedTable(), unreadable
		}
		return t, unreadable
	}
	all := newSavedTable()
	take := func(chain string) error {
		t, err := s.read(ctx, p, f, foreignTable, chain)
		if err == nil {
			maps.Copy(all.policies, t.policies)
			maps.Copy(all.rules, t.rules)
			all.chains = append(all.chains, t.chains...)
		}
		return err
	}
	for _, chain := range chains {
		if err := take(chain); err != nil {
			unreadable[chain] = err
			continue
		}
		rules := all.rules[chain]
		if slices.ContainsFunc(rules, func(r savedRule) bool { return leadsTo(r.text) == userChain }) {
			_ = take(userChain) // where earlier versions had our rule
		}
		for i := len(rules) - 1; i >= 0; i-- {
			to := leadsTo(rules[i].text)
			if essence(rules[i].text) != "-j "+to {
				break
			}
			if !targets[to] && !slices.Contains(all.chains, to) && take(to) != nil {
				break // whatever it does, it is no end
			}
		}
	}
	return all, unreadable
}

// targets are the most common ones that are no chains.
var targets = map[string]bool{"ACCEPT": true, "DROP": true, "REJECT": true, "RETURN": true, "LOG": true, "NFLOG": true}
