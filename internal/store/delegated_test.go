package store

import (
	"bytes"
	"encoding/binary"
	"errors"
	"net/netip"
	"path/filepath"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"go.etcd.io/bbolt"

	"github.com/v6net/v6net/internal/spec"
)

func TestDelegationsSurviveReopening(t *testing.T) {
	path := filepath.Join(t.TempDir(), "v6net.db")
	s := open(t, path)
	end := time.Date(2026, 11, 27, 12, 0, 0, 0, time.UTC)
	want := spec.DelegationLease{
		SourceOnLink: spec.SourceOnLink{Source: spec.SourcePD, Link: "eth0"}, Boot: "b", Server: []byte{0, 3, 0, 1},
		Associations: []spec.Association{{ID: 7, Renew: end, Delegations: []spec.Delegation{{
			Source: spec.SourcePD, Parent: "eth0", Prefix: netip.MustParsePrefix("2001:db8::/56"), Preferred: end, Valid: end, Origin: "a server",
		}}}},
	}
	must(t, s.PutDelegationLease(want))
	cloud := spec.DelegationLease{SourceOnLink: spec.SourceOnLink{Source: spec.SourceCloud, Link: "eth0"}}
	must(t, s.PutDelegationLease(cloud))
	must(t, s.DeleteDelegationLease(cloud.SourceOnLink))
	must(t, s.DeleteDelegationLease(cloud.SourceOnLink)) // unknown, which is no error
	must(t, s.Close())

	s = open(t, path)
	got, err := s.DelegationLeases()
	must(t, err)
	if diff := cmp.Diff([]spec.DelegationLease{want}, got, compareAddrs); diff != "" {
		t.Errorf("leases after reopening (-want +got):\n%s", diff)
	}
}

func TestClockSurvivesReopening(t *testing.T) {
	path := filepath.Join(t.TempDir(), "v6net.db")
	s := open(t, path)
	got, err := s.Clock()
	must(t, err)
	if got != (spec.ClockRecord{}) {
		t.Errorf("a new journal has the clock %+v", got)
	}
	noon := time.Date(2026, 11, 27, 12, 0, 0, 123, time.UTC)
	want := spec.ClockRecord{Boot: "b", Zero: noon, Seen: noon.Add(time.Hour), Ahead: -time.Minute}
	must(t, s.PutClock(want))
	must(t, s.Close())
	got, err = open(t, path).Clock()
	must(t, err)
	if got != want {
		t.Errorf("clock after reopening %+v, want %+v", got, want)
	}
}

// Servers know this host and its links by what must never change.
func TestNamesToServersAreForGood(t *testing.T) {
	path := filepath.Join(t.TempDir(), "v6net.db")
	for i := range byte(2) {
		s := open(t, path)
		duid, err := s.DUID(func() ([]byte, error) { return []byte{0, 4, i}, nil })
		must(t, err)
		if !bytes.Equal(duid, []byte{0, 4, 0}) {
			t.Errorf("DUID %x after %d reopenings", duid, i)
		}
		id, err := s.IAID("eth0")
		must(t, err)
		if id != 1 {
			t.Errorf("IAID %d after %d reopenings, want 1", id, i)
		}
		must(t, s.Close())
	}
	s := open(t, path)
	other, err := s.IAID("eth1")
	must(t, err)
	again, err := s.IAID("eth0")
	must(t, err)
	if other == again {
		t.Errorf("eth0 and eth1 have one IAID: %d", other)
	}
	second, err := s.IAID("eth0/2")
	must(t, err)
	// eth0 is called wan0 now, and what comes by its name later is another link.
	lease := spec.DelegationLease{SourceOnLink: spec.SourceOnLink{Source: spec.SourcePD, Link: "wan0"},
		Associations: []spec.Association{{ID: again, Delegations: []spec.Delegation{{Prefix: netip.MustParsePrefix("2001:db8::/56")}}}}}
	eth0 := spec.SourceOnLink{Source: spec.SourcePD, Link: "eth0"}
	must(t, s.PutDelegationLease(spec.DelegationLease{SourceOnLink: eth0}))
	must(t, s.MoveDelegationLease(eth0, lease))
	for name, want := range map[string]uint32{"wan0": again, "wan0/2": second, "eth1": other, "eth0": second + 1} {
		if id, err := s.IAID(name); err != nil || id != want {
			t.Errorf("after eth0 was renamed wan0 IAID(%s) = %d, %v, want %d", name, id, err, want)
		}
	}
	if leases, err := s.DelegationLeases(); err != nil || len(leases) != 1 || leases[0].Link != "wan0" {
		t.Errorf("leases %+v, %v, want that of wan0 alone", leases, err)
	}
	must(t, s.MoveDelegationLease(lease.SourceOnLink, spec.DelegationLease{SourceOnLink: eth0})) // of which nothing is lent
	for name, want := range map[string]uint32{"eth0": again, "wan0": second + 1, "eth0/2": second} {
		if id, err := s.IAID(name); err != nil || id != want {
			t.Errorf("after wan0 was renamed eth0 IAID(%s) = %d, %v, want %d", name, id, err, want)
		}
	}
	if leases, err := s.DelegationLeases(); err != nil || len(leases) != 0 {
		t.Errorf("leases %+v, %v, want none", leases, err)
	}
	failed := errors.New("no entropy")
	fresh := open(t, filepath.Join(t.TempDir(), "v6net.db"))
	if _, err := fresh.DUID(func() ([]byte, error) { return nil, failed }); !errors.Is(err, failed) {
		t.Errorf("DUID = %v, want %v", err, failed)
	}
}

// A journal of before delegations takes them, and keeps what it has.
func TestJournalOfBeforeDelegations(t *testing.T) {
	path := filepath.Join(t.TempDir(), "v6net.db")
	s := open(t, path)
	must(t, s.PutSysctl("k", "0"))
	must(t, s.db.Update(func(tx *bbolt.Tx) error {
		must(t, tx.DeleteBucket(bucketDelegated))
		must(t, tx.DeleteBucket(bucketIAIDs))
		must(t, tx.Bucket(bucketMeta).Delete(keySum)) // which it had not
		return tx.Bucket(bucketMeta).Put(keyVersion, binary.BigEndian.AppendUint64(nil, 3))
	}))
	must(t, s.Close())
	s = open(t, path)
	must(t, s.PutDelegationLease(spec.DelegationLease{SourceOnLink: spec.SourceOnLink{Source: spec.SourcePD, Link: "eth0"}}))
	_, err := s.IAID("eth0")
	must(t, err)
	state, err := s.Load()
	must(t, err)
	if state.Sysctls["k"] != "0" {
		t.Error("the migration has lost a record")
	}
}
