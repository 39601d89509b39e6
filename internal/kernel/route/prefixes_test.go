package route

import (
	"net/netip"
	"testing"
)

func TestIsNetwork(t *testing.T) {
	for text, want := range map[string]bool{
		"2001:db8::/32": true, "fd00::/8": true, "10.0.0.0/8": true, "192.0.2.1/32": true, "2001:db8::1/128": true,
		"0.0.0.0/1": true, "2000::/3": true, "::/0": false, "0.0.0.0/0": false,
		"fe80::/64": false, "fe80::1/128": false, "169.254.0.0/16": false, "ff00::/8": false, "224.0.0.0/4": false,
		"127.0.0.0/8": false, "::1/128": false,
	} {
		if got := isNetwork(netip.MustParsePrefix(text)); got != want {
			t.Errorf("%s: %t, want %t", text, got, want)
		}
	}
	if isNetwork(netip.Prefix{}) {
		t.Error("the zero prefix is taken for a network")
	}
}
