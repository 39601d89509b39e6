package main

import (
	"fmt"
	"log/slog"
	"path/filepath"
	"slices"
	"testing"

	"github.com/v6net/v6net/internal/spec"
	"github.com/v6net/v6net/internal/store"
)

// Every prefix of every link has its own number, for good.
func TestNumbersOfPrefixes(t *testing.T) {
	path := filepath.Join(t.TempDir(), "v6net.db")
	read := func(flags pdFlags, link string) []uint32 {
		t.Helper()
		journal, err := store.Open(path)
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = journal.Close() }()
		ids, err := flags.iaids(journal, link)
		if err != nil {
			t.Fatal(err)
		}
		return ids
	}
	one, other := read(pdFlags{Prefixes: 1}, "eth0"), read(pdFlags{Prefixes: 1}, "eth1")
	many := read(pdFlags{Prefixes: 3}, "eth0")
	if again := read(pdFlags{Prefixes: 3}, "eth0"); !slices.Equal(many, again) || many[0] != one[0] {
		t.Errorf("the numbers of eth0 are %v, then %v and %v", one, many, again)
	}
	all := append(slices.Clone(many), other...)
	slices.Sort(all)
	if len(slices.Compact(all)) != 4 {
		t.Errorf("the numbers of eth0 are %v, those of eth1 %v", many, other)
	}
}

func TestFlagsOfPrefixDelegation(t *testing.T) {
	for _, f := range []pdFlags{{Length: 47, Prefixes: 1}, {Length: 65, Prefixes: 1}, {Length: 56}, {Length: 56, Prefixes: 17}, {Length: 56, Prefixes: 1, DUID: "eth0"}} {
		if f.Validate() == nil {
			t.Errorf("%+v is taken", f)
		}
	}
	for _, f := range []pdFlags{{Length: 56, Prefixes: 1}, {Length: 56, Prefixes: 1, DUID: "00:03:00:01:02:00:5e:10:00:01"}} {
		if err := f.Validate(); err != nil {
			t.Error(err)
		}
	}
}

// The provider's name for this host goes before the one that was made, which stays for
// whoever leaves the flag out again.
func TestNameOfThisHost(t *testing.T) {
	journal, err := store.Open(filepath.Join(t.TempDir(), "v6net.db"))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = journal.Close() }()
	var names []string
	for _, f := range []pdFlags{{}, {DUID: "00:03:00:01:02:00:5e:10:00:01"}, {}} {
		duid, err := f.duid(journal)
		if err != nil {
			t.Fatal(err)
		}
		names = append(names, fmt.Sprintf("%x", duid))
	}
	if names[1] != "0003000102005e100001" || names[0] != names[2] || names[0] == names[1] {
		t.Errorf("names %q", names)
	}
}

// The daemon's sources go on with what the journal holds.
func TestSourcesGoOn(t *testing.T) {
	journal, err := store.Open(filepath.Join(t.TempDir(), "v6net.db"))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = journal.Close() }()
	at := spec.SourceOnLink{Source: spec.SourcePD, Link: "none0"}
	if err := journal.PutDelegationLease(spec.DelegationLease{SourceOnLink: at}); err != nil {
		t.Fatal(err)
	}
	now, err := openClock(journal, "boot")
	if err != nil {
		t.Fatal(err)
	}
	s, err := newSources(journal, pdFlags{Length: 56, Prefixes: 1}, "boot", now, nil, nil, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	if got := s.Status(); len(got) != 1 || got[0].SourceOnLink != at {
		t.Errorf("status %+v, want %v", got, at)
	}
}

// Every lease is kept with what time it was, and the clock goes on in the next daemon.
func TestLeasesAreDated(t *testing.T) {
	journal, err := store.Open(filepath.Join(t.TempDir(), "v6net.db"))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = journal.Close() }()
	now, err := openClock(journal, "boot")
	if err != nil {
		t.Fatal(err)
	}
	before, err := journal.Clock()
	if err != nil {
		t.Fatal(err)
	}
	lease := spec.DelegationLease{SourceOnLink: spec.SourceOnLink{Source: spec.SourcePD, Link: "none0"}}
	if err := (leaseJournal{journal, now}).PutDelegationLease(lease); err != nil {
		t.Fatal(err)
	}
	after, err := journal.Clock()
	if err != nil {
		t.Fatal(err)
	}
	if !after.Seen.After(before.Seen) || after.Boot != "boot" {
		t.Errorf("the clock of the journal was %+v, and is %+v with a lease", before, after)
	}
	if leases, err := journal.DelegationLeases(); err != nil || len(leases) != 1 {
		t.Errorf("leases %+v, %v", leases, err)
	}
	next, err := openClock(journal, "boot")
	if err != nil {
		t.Fatal(err)
	}
	if a, b := now.Record().Zero, next.Record().Zero; !a.Equal(b) {
		t.Errorf("the next daemon has another time: %s is %s", a, b)
	}
}
