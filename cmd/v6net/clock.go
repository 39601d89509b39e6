package main

import (
	"fmt"
	"os"
	"strings"
	"time"

	"github.com/v6net/v6net/internal/clock"
	"github.com/v6net/v6net/internal/kernel/uptime"
	"github.com/v6net/v6net/internal/spec"
	"github.com/v6net/v6net/internal/store"
)

// bootID is another one after every boot of the machine.
func bootID() (string, error) {
	text, err := os.ReadFile("/proc/sys/kernel/random/boot_id")
	if err != nil {
		return "", fmt.Errorf("which boot of the machine this is: %w", err)
	}
	return strings.TrimSpace(string(text)), nil
}

// openClock goes on with the time by which lifetimes are kept.
func openClock(journal *store.Store, boot string) (*clock.Clock, error) {
	before, err := journal.Clock()
	if err != nil {
		return nil, err
	}
	began := time.Now() // whose difference to now is Go's monotonic time, which stands still in sleep
	c := clock.New(clock.Readings{Wall: time.Now, Up: uptime.Now, Awake: func() time.Duration { return time.Since(began) }}, boot, before)
	return c, journal.PutClock(c.Record())
}

// leaseJournal keeps leases, each with what time it was: by that a start in another
// boot of the machine knows how much of their lifetimes is left at the most.
type leaseJournal struct {
	*store.Store
	clock *clock.Clock
}

// PutDelegationLease implements sources.Journal.
func (j leaseJournal) PutDelegationLease(l spec.DelegationLease) error {
	if err := j.PutClock(j.clock.Record()); err != nil {
		return err
	}
	return j.Store.PutDelegationLease(l)
}

// MoveDelegationLease implements sources.Journal.
func (j leaseJournal) MoveDelegationLease(from spec.SourceOnLink, l spec.DelegationLease) error {
	if err := j.PutClock(j.clock.Record()); err != nil {
		return err
	}
	return j.Store.MoveDelegationLease(from, l)
}
