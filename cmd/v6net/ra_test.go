package main

import (
	"encoding/hex"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/v6net/v6net/internal/ra"
)

func TestPrintAdvertisement(t *testing.T) {
	const everything = "860000004098070800000000" + "00000000" +
		"030440f000001518ffffffff00000000" + "20010db8000100000000000000000000" +
		"030440c0000000000000000000000000" + "20010db8000200000000000000000000" +
		"1802300800000708" + "20010db800030000" +
		"1903000000000708" + "20010db8000000000000000000000053" +
		"26020708" + "0064ff9b0000000000000000" +
		"0501000000000578" + "01010200000000aa" + "fd01000000000000"
	at := time.Date(2026, 11, 23, 12, 0, 0, 0, time.UTC)
	for name, tc := range map[string]struct {
		hex      string
		hopLimit int
		want     string
	}{
		"everything": {everything, 255, `12:00:00 from fe80::1 (02:00:00:00:00:aa): default router for 30m0s, preference low, hop limit 64, MTU 1400, managed (M)
  prefix 2001:db8:1::/64, on-link (L), SLAAC (A), router's address (R), delegating (P), valid 1h30m0s, preferred ever
  prefix 2001:db8:2::/64, on-link (L), SLAAC (A), withdrawn
  route 2001:db8:3::/48 for 30m0s, preference high
  DNS server 2001:db8::53 for 30m0s
  NAT64 prefix 64:ff9b::/96 for 30m0s
  1 other options
`},
		"withdrawn": {"8600000040000000" + "0000000000000000" +
			"1802300000000000" + "20010db800030000" +
			"1903000000000000" + "20010db8000000000000000000000053" +
			"1f02000000000000" + "0161000000000000" +
			"26020000" + "0064ff9b0000000000000000" + "26020708" + "20010db80064000000000000", 255, `12:00:00 from fe80::1: no default router, hop limit 64
  route 2001:db8:3::/48, withdrawn
  DNS server 2001:db8::53, withdrawn
  DNS search domain a, withdrawn
  NAT64 prefix 64:ff9b::/96, withdrawn
  NAT64 prefix 2001:db8:64::/96 for 30m0s
`},
		// ESC ] 0 ; x BEL, a line of our own making, and what looks like a letter.
		"for the terminal": {"8600000000000000" + "0000000000000000" +
			"1f0400000000003c" + "061b5d303b7807" + "060a20726f7574" + "04d0b072cc" + "00" + "00000000" +
			"2502" + "1b5b324a0d0a" + "2020726f75746520", 255, `12:00:00 from fe80::1: no default router
  DNS search domain "\x1b]0;x\a.\n rout.\u0430r\xcc" for 1m0s
  captive portal "\x1b[2J\r\n  route "
`},
		"nothing":               {"8600000000000000" + "0000000000000000", 255, "12:00:00 from fe80::1: no default router\n"},
		"RFC 4861 §6.1.2":       {everything, 64, "12:00:00 from fe80::1: invalid: wrong hop limit\n"},
		"an option of length 0": {"8600000000000000" + "00000000000000000100000000000000", 255, "12:00:00 from fe80::1: invalid: wrong option\n"},
	} {
		t.Run(name, func(t *testing.T) {
			message, err := hex.DecodeString(tc.hex)
			if err != nil {
				t.Fatal(err)
			}
			var out strings.Builder
			printAdvertisement(&out, at, ra.Received{Len: len(message), Source: netip.MustParseAddr("fe80::1"), HopLimit: tc.hopLimit}, message)
			if diff := cmp.Diff(tc.want, out.String()); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
}
