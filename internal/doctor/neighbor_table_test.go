package doctor_test

import (
	"net/netip"
	"strconv"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/v6net/v6net/internal/doctor"
	"github.com/v6net/v6net/internal/spec"
)

// The neighbour table, which all namespaces share, is to have room for the containers that there
// are, and for more: what the kernel gives it is used up by one.
func TestNeighborTable(t *testing.T) {
	for name, tc := range map[string]struct {
		limit, containers, entries, full int
		level                            doctor.Level
		want                             int
	}{
		"the kernel's":           {1024, 3, 12, 0, doctor.Note, 16384},
		"the kernel's, was full": {1024, 3, 12, 7, doctor.Warning, 16384},
		"many containers":        {1024, 300, 600, 0, doctor.Warning, 16384},
		"very many":              {16384, 5000, 10000, 0, doctor.Warning, 65536},
		"almost full":            {16384, 3, 13000, 0, doctor.Warning, 32768},
		"raised":                 {16384, 300, 900, 0, "", 0},
		"raised, was full":       {16384, 300, 900, 7, "", 0},
		"not known":              {0, 300, 900, 7, "", 0},
	} {
		n := spec.NetworkStatus{Network: spec.Network{ID: "aaaa", IPv6: []spec.Subnet{{Prefix: netip.MustParsePrefix("2001:db8::/64")}}}}
		for range tc.containers {
			n.Endpoints = append(n.Endpoints, spec.Endpoint{IPv6: netip.MustParsePrefix("2001:db8::2/64")})
		}
		f := doctor.Facts{
			Status:    &spec.Status{Networks: []spec.NetworkStatus{n}},
			Sysctls:   map[string]string{"net/ipv6/neigh/default/gc_thresh2": "512", "net/ipv4/neigh/default/gc_thresh3": "1"}, // it has no IPv4
			Neighbors: map[string]doctor.NeighborTable{"ipv6": {Entries: tc.entries, Full: tc.full}},
		}
		if tc.limit > 0 {
			f.Sysctls["net/ipv6/neigh/default/gc_thresh3"] = strconv.Itoa(tc.limit)
		}
		var found []doctor.Finding
		for _, finding := range doctor.Examine(f) {
			if finding.Check == "neighbor_table" {
				found = append(found, finding)
			}
		}
		if tc.level == "" {
			if len(found) > 0 {
				t.Errorf("%s: found %+v", name, found)
			}
			continue
		}
		if len(found) != 1 || found[0].Level != tc.level || !strings.Contains(found[0].Found, strconv.Itoa(tc.limit)) {
			t.Errorf("%s: found %+v, want one %s", name, found, tc.level)
			continue
		}
		want := []doctor.Setting{{Key: "net/ipv6/neigh/default/gc_thresh3", Value: strconv.Itoa(tc.want)}, {Key: "net/ipv6/neigh/default/gc_thresh2", Value: strconv.Itoa(tc.want / 2)}}
		if diff := cmp.Diff(want, found[0].Settings); diff != "" {
			t.Errorf("%s (-want +got):\n%s", name, diff)
		}
	}
}
