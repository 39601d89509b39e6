package store

import (
	"encoding/binary"
	"fmt"
	"net/netip"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"go.etcd.io/bbolt"

	"github.com/v6net/v6net/internal/spec"
)

var compareAddrs = cmpopts.EquateComparable(netip.Addr{}, netip.Prefix{})

func open(t testing.TB, path string) *Store {
	t.Helper()
	s, err := Open(path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Close() }) // closed twice where the test closes it itself
	return s
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func TestJournalSurvivesReopening(t *testing.T) {
	path := filepath.Join(t.TempDir(), "state", "v6net.db")
	want := spec.State{
		Networks: []spec.Network{{
			ID: strings.Repeat("a", 64), Phase: spec.PhaseReady, Options: spec.DefaultOptions(),
			IPv6: []spec.Subnet{{Prefix: netip.MustParsePrefix("2001:db8:1::/80"), Gateway: netip.MustParseAddr("2001:db8:1::1"), OnLink: true, Parent: "eth0"}},
		}},
		Endpoints: []spec.Endpoint{{
			ID: strings.Repeat("b", 64), NetworkID: strings.Repeat("a", 64), Phase: spec.PhaseCreating,
			IPv6:  netip.MustParsePrefix("2001:db8:1::2/80"),
			Ports: []spec.Port{{Protocol: "tcp", Port: 80, HostPort: 8080}},
		}},
		Pools:   []spec.Pool{{ID: "2001:db8:1::/80", Prefix: netip.MustParsePrefix("2001:db8:1::/80"), Source: spec.SourceParent, Allocation: spec.Random}},
		Leases:  map[string][]netip.Addr{"2001:db8:1::/80": {netip.MustParseAddr("2001:db8:1::1"), netip.MustParseAddr("2001:db8:1::2")}},
		Sysctls: map[string]string{"net/ipv6/conf/all/forwarding": "0"},
		Advertised: []spec.Advertisement{{
			Link: "v6n", Source: netip.MustParseAddr("fe80::1"), MTU: 1500,
			Prefixes: []spec.AdvertisedPrefix{
				{Prefix: netip.MustParsePrefix("2001:db8:1::/80"), OnLink: true, Valid: 5400, Preferred: 2700},
				{Prefix: netip.MustParsePrefix("2001:db8:2::/80"), Until: time.Date(2026, 11, 23, 12, 0, 0, 0, time.UTC)},
			},
		}},
	}
	s := open(t, path)
	must(t, s.PutNetwork(want.Networks[0]))
	must(t, s.PutEndpoint(want.Endpoints[0]))
	must(t, s.PutPool(want.Pools[0]))
	for _, a := range want.Leases["2001:db8:1::/80"] {
		must(t, s.PutLease("2001:db8:1::/80", a))
	}
	must(t, s.PutSysctl("net/ipv6/conf/all/forwarding", "0"))
	must(t, s.PutAdvertised(want.Advertised[0]))
	id, err := s.GlobalID(func() ([5]byte, error) { return [5]byte{1, 2, 3, 4, 5}, nil })
	must(t, err)
	must(t, s.Close())

	s = open(t, path)
	got, err := s.Load()
	must(t, err)
	if diff := cmp.Diff(want, got, compareAddrs); diff != "" {
		t.Errorf("journal after reopening (-want +got):\n%s", diff)
	}
	again, err := s.GlobalID(func() ([5]byte, error) { return [5]byte{9}, nil })
	must(t, err)
	if again != id {
		t.Errorf("global ID changed from %x to %x: every ULA prefix would", id, again)
	}
}

func TestDeleteLeavesNothing(t *testing.T) {
	s := open(t, filepath.Join(t.TempDir(), "v6net.db"))
	pool, addr := "fd00::/64", netip.MustParseAddr("fd00::1")
	must(t, s.PutNetwork(spec.Network{ID: "n"}))
	must(t, s.PutEndpoint(spec.Endpoint{ID: "e"}))
	must(t, s.PutPool(spec.Pool{ID: pool}))
	must(t, s.PutLease(pool, addr))
	must(t, s.PutSysctl("k", "0"))
	must(t, s.PutAdvertised(spec.Advertisement{Link: "l"}))
	for range 2 { // the second time everything is unknown, which is no error
		must(t, s.DeleteLease(pool, addr))
		must(t, s.PutLease("other", addr))
		must(t, s.DeletePool("other"))
		must(t, s.DeletePool(pool))
		must(t, s.DeleteEndpoint("e"))
		must(t, s.DeleteNetwork("n"))
		must(t, s.DeleteSysctl("k"))
		must(t, s.DeleteAdvertised("l"))
	}
	got, err := s.Load()
	must(t, err)
	want := spec.State{Leases: map[string][]netip.Addr{}, Sysctls: map[string]string{}}
	if diff := cmp.Diff(want, got, compareAddrs); diff != "" {
		t.Errorf("journal after deleting all (-want +got):\n%s", diff)
	}
}

// Records are forgotten once in a boot, and that it is another one is known until Booted.
func TestAnotherBootForgetsSysctls(t *testing.T) {
	s := open(t, filepath.Join(t.TempDir(), "v6net.db"))
	for i, step := range []struct {
		boot        string
		other, kept bool
		booted      bool // in the end
	}{
		{boot: "first", kept: true},
		{boot: "first", kept: true, booted: true},
		{boot: "first", kept: true},
		{boot: "second", other: true},
		{boot: "second", other: true, kept: true}, // the start was killed
		{boot: "third", other: true},
		{boot: "third", other: true, kept: true, booted: true},
		{boot: "third", kept: true},
	} {
		must(t, s.PutSysctl("k", "0"))
		other, err := s.Boot(step.boot)
		must(t, err)
		if other != step.other {
			t.Errorf("step %d, boot %s: another one than before = %v, want %v", i, step.boot, other, step.other)
		}
		state, err := s.Load()
		must(t, err)
		if _, kept := state.Sysctls["k"]; kept != step.kept {
			t.Errorf("step %d, boot %s: the record is kept = %v, want %v", i, step.boot, kept, step.kept)
		}
		if step.booted {
			must(t, s.Booted(step.boot))
		}
	}
}

// What follows a link is written together, and all settings anew, or none.
func TestPutFollowing(t *testing.T) {
	s := open(t, filepath.Join(t.TempDir(), "v6net.db"))
	must(t, s.PutSysctl("net/ipv6/conf/eth0/accept_ra", "1"))
	for _, sysctls := range []map[string]string{nil, {"net/ipv6/conf/wan0/accept_ra": "1"}, {}} {
		before, err := s.Load()
		must(t, err)
		must(t, s.PutFollowing([]spec.Network{{ID: "n"}}, []spec.Pool{{ID: "p"}}, sysctls))
		state, err := s.Load()
		must(t, err)
		want := sysctls
		if sysctls == nil {
			want = before.Sysctls
		}
		if diff := cmp.Diff(want, state.Sysctls); diff != "" || len(state.Networks) != 1 || len(state.Pools) != 1 {
			t.Errorf("%d networks, %d pools, settings (-want +got):\n%s", len(state.Networks), len(state.Pools), diff)
		}
	}
}

// Pools of a journal that knew no settled ones may be another driver's.
func TestPoolsOfBeforeAreSettled(t *testing.T) {
	path := filepath.Join(t.TempDir(), "v6net.db")
	s := open(t, path)
	pool := spec.Pool{ID: "2001:db8::/64", Prefix: netip.MustParsePrefix("2001:db8::/64"), Source: spec.SourceStatic, Reason: "named"}
	must(t, s.PutPool(pool))
	must(t, s.db.Update(func(tx *bbolt.Tx) error {
		must(t, tx.Bucket(bucketMeta).Delete(keySum)) // which it had not
		return tx.Bucket(bucketMeta).Put(keyVersion, binary.BigEndian.AppendUint64(nil, 2))
	}))
	must(t, s.Close())
	state, err := open(t, path).Load()
	must(t, err)
	pool.Settled = true
	if diff := cmp.Diff([]spec.Pool{pool}, state.Pools, compareAddrs); diff != "" {
		t.Errorf("pools after the migration (-want +got):\n%s", diff)
	}
}

func TestNewerSchemaIsRefused(t *testing.T) {
	path := filepath.Join(t.TempDir(), "v6net.db")
	s := open(t, path)
	must(t, s.db.Update(func(tx *bbolt.Tx) error {
		return tx.Bucket(bucketMeta).Put(keyVersion, binary.BigEndian.AppendUint64(nil, 99))
	}))
	must(t, s.Close())
	if _, err := Open(path); err == nil || !strings.Contains(err.Error(), "99") {
		t.Errorf("Open of a journal of schema 99 = %v, want a refusal that names the version", err)
	}
}

func TestDamagedRecordIsNamed(t *testing.T) {
	s := open(t, filepath.Join(t.TempDir(), "v6net.db"))
	must(t, s.db.Update(func(tx *bbolt.Tx) error {
		return tx.Bucket(bucketNetworks).Put([]byte("broken"), []byte("{"))
	}))
	if _, err := s.Load(); err == nil || !strings.Contains(err.Error(), "networks/broken") {
		t.Errorf("Load = %v, want an error that names the record", err)
	}
}

// BenchmarkLease is what the journal adds to an address request, disk included.
func BenchmarkLease(b *testing.B) {
	for _, leases := range []int{10, 100_000} {
		b.Run(fmt.Sprintf("leases=%d", leases), func(b *testing.B) {
			s := open(b, filepath.Join(b.TempDir(), "v6net.db"))
			addr := netip.MustParseAddr("2001:db8::")
			must(b, s.db.Update(func(tx *bbolt.Tx) error {
				bucket, err := tx.Bucket(bucketLeases).CreateBucketIfNotExists([]byte("p"))
				for range leases {
					addr = addr.Next()
					must(b, bucket.Put(addr.AsSlice(), nil))
				}
				return err
			}))
			for b.Loop() {
				addr = addr.Next()
				must(b, s.PutLease("p", addr))
			}
		})
	}
}

// What is renumbered together is written together.
func TestPutAll(t *testing.T) {
	s := open(t, filepath.Join(t.TempDir(), "v6net.db"))
	lent := &spec.Lent{SourceOnLink: spec.SourceOnLink{Source: spec.SourcePD, Link: "eth0"}, Index: 7, Fallback: spec.FallbackULA,
		Prefixes: []spec.LentPrefix{{Prefix: netip.MustParsePrefix("2001:db8:1::/64"), Of: netip.MustParsePrefix("2001:db8:1::/56"), Former: true,
			Valid: time.Date(2026, 11, 27, 12, 0, 0, 0, time.UTC)}}}
	want := spec.State{
		Networks: []spec.Network{{ID: "a", IPv6: []spec.Subnet{{Prefix: netip.MustParsePrefix("2001:db8::/64"), Lent: lent}}}, {ID: "b"}},
		Pools:    []spec.Pool{{ID: "2001:db8::/64", Prefix: netip.MustParsePrefix("2001:db8::/64"), Lent: lent}},
		Endpoints: []spec.Endpoint{{ID: "e", Home: netip.MustParseAddr("2001:db8::2"), IPv6: netip.MustParsePrefix("2001:db8:1::2/64"),
			Held: []spec.SandboxAddress{{Prefix: netip.MustParsePrefix("2001:db8:1::2/64"), Former: true, Valid: time.Date(2026, 11, 27, 12, 0, 0, 0, time.UTC)}}}},
		Leases: map[string][]netip.Addr{}, Sysctls: map[string]string{},
	}
	must(t, s.PutNetwork(spec.Network{ID: "a"}))
	must(t, s.PutAll(want.Networks, want.Pools, want.Endpoints))
	got, err := s.Load()
	must(t, err)
	if diff := cmp.Diff(want, got, compareAddrs); diff != "" {
		t.Errorf("journal (-want +got):\n%s", diff)
	}
	if err := s.PutAll([]spec.Network{{ID: "c"}}, []spec.Pool{{ID: "q"}}, []spec.Endpoint{{ID: ""}}); err == nil {
		t.Error("a record without a key was written")
	}
	if got, err = s.Load(); err != nil || len(got.Networks) != 2 || len(got.Pools) != 1 {
		t.Errorf("%d networks, %d pools, %v: half of what failed was written", len(got.Networks), len(got.Pools), err)
	}
}
