package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"testing"

	"github.com/v6net/v6net/internal/kernel/nft"
)

// The one that is wanted is taken, what another has left is removed, and where there
// is none the reasons are said.
func TestPacketFilterIsChosen(t *testing.T) {
	none := fmt.Errorf("not there: %w", nft.ErrUnavailable)
	other := errors.New("too many open files")
	for _, tc := range []struct {
		wanted              string
		nftables, ip6tables error
		swept               string // by what is swept which was not taken
		says                string // the error
	}{
		{"auto", nil, nil, "ip6tables", ""},
		{"auto", nil, none, "ip6tables", ""},
		{"auto", none, nil, "nftables ip6tables", ""},
		{"auto", none, none, "", "nothing here can keep containers closed"},
		{"auto", other, nil, "", "open nftables: too many open files"},
		{"nftables", other, nil, "", "open nftables: too many open files"},
		{"nftables", nil, nil, "ip6tables", ""},
		{"nftables", none, nil, "", "no nftables"},
		{"ip6tables", nil, nil, "nftables ip6tables", ""},
		{"ip6tables", nil, none, "", "neither iptables-nft nor iptables-legacy"},
	} {
		var swept []string
		var said strings.Builder
		open := func(err error) func(context.Context) (packetFilter, error) {
			return func(context.Context) (packetFilter, error) { return &nft.Firewall{}, err }
		}
		sweeping := func(name string) func(context.Context) error {
			return func(context.Context) error { swept = append(swept, name); return nil }
		}
		k := filters{open(tc.nftables), open(tc.ip6tables), sweeping("nftables"), sweeping("ip6tables"), slog.New(slog.NewTextHandler(&said, nil))}
		_, sweep, err := k.open(t.Context(), tc.wanted)
		if err == nil {
			err = sweep(t.Context())
		}
		if got := strings.Join(swept, " "); got != tc.swept {
			t.Errorf("%s, nftables: %v, ip6tables: %v: swept are %q, want %q", tc.wanted, tc.nftables, tc.ip6tables, got, tc.swept)
		}
		if fell := tc.wanted == "auto" && errors.Is(tc.nftables, none); fell != strings.Contains(said.String(), "because=\"not there") {
			t.Errorf("%s, nftables: %v: logged is %q", tc.wanted, tc.nftables, &said)
		}
		switch {
		case tc.says == "" && err != nil, tc.says != "" && (err == nil || !strings.Contains(err.Error(), tc.says) || !errors.Is(err, none) && !errors.Is(err, other)):
			t.Errorf("%s, nftables: %v, ip6tables: %v: %v, want %q", tc.wanted, tc.nftables, tc.ip6tables, err, tc.says)
		}
	}
}
