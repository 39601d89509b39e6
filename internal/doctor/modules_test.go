package doctor_test

import (
	"testing"

	"github.com/v6net/v6net/internal/doctor"
	"github.com/v6net/v6net/internal/spec"
)

// Where iptables keeps the rules nothing of nftables is missed.
func TestNFTablesIsNotMissedByIP6Tables(t *testing.T) {
	missing := []string{doctor.NFTables, doctor.NFTBridge, doctor.NFTConntrack, doctor.NFTNAT}
	for backend, want := range map[string]int{"iptables-legacy": 0, "iptables-nft": 0, "nftables": 3} {
		n := 0
		// Without nf_tables itself its parts are not named: here it is there.
		for _, f := range doctor.Examine(doctor.Facts{Missing: missing[1:], Status: &spec.Status{Firewall: backend}}) {
			if f.Check == "modules" {
				n++
			}
		}
		if n != want {
			t.Errorf("with %s %d parts of nftables are missed, want %d", backend, n, want)
		}
	}
	for _, f := range doctor.Examine(doctor.Facts{Missing: missing, Status: &spec.Status{Firewall: "iptables-legacy"}}) {
		if f.Check == "modules" {
			t.Errorf("missed: %+v", f)
		}
	}
}

// A kernel without nftables has none of its parts, of which one warning is enough: ip6tables
// does in its place. One that lacks a part alone is of no use.
func TestKernelWithoutNFTables(t *testing.T) {
	for _, tc := range []struct {
		missing []string
		want    doctor.Level
	}{
		{[]string{doctor.NFTables, doctor.NFTBridge, doctor.NFTConntrack, doctor.NFTNAT, doctor.KindVLAN}, doctor.Warning},
		{[]string{doctor.NFTNAT}, doctor.Problem},
		{[]string{doctor.NFTBridge}, doctor.Warning},
		{[]string{doctor.KindVLAN, doctor.KindIPvlan}, ""},
	} {
		var found []doctor.Finding
		for _, f := range doctor.Examine(doctor.Facts{Missing: tc.missing}) {
			if f.Check == "modules" {
				found = append(found, f)
			}
		}
		if tc.want == "" && len(found) != 0 || tc.want != "" && (len(found) != 1 || found[0].Level != tc.want) {
			t.Errorf("without %q: %+v, want one %s", tc.missing, found, tc.want)
		}
	}
}
