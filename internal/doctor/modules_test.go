package doctor_test

import (
	"testing"

	"github.com/v6net/v6net/internal/doctor"
)

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
