package main

import (
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

func TestParseAddresses(t *testing.T) {
	within := []netip.Prefix{netip.MustParsePrefix("2001:db8::/64"), netip.MustParsePrefix("2001:db8:1::/64")}
	for name, c := range map[string]struct {
		text   string
		within []netip.Prefix
		want   []string
		err    string
	}{
		"a list":         {"2001:db8::1\n\n# all\n  2001:DB8:1::2 # web\r\n", within, []string{"2001:db8::1", "2001:db8:1::2"}, ""},
		"nothing":        {"", within, nil, ""},
		"anywhere":       {"fd00::1", nil, []string{"fd00::1"}, ""},
		"elsewhere":      {"2001:db8::1\n2001:db8:2::1", within, []string{"2001:db8::1"}, "line 2: 2001:db8:2::1 is not in 2001:db8::/64, 2001:db8:1::/64"},
		"IPv4":           {"192.0.2.1", nil, nil, "line 1: 192.0.2.1: allowed is one IPv6 address"},
		"zone":           {"fe80::1%eth0", nil, nil, "allowed is one IPv6 address"},
		"group":          {"ff02::1", nil, nil, "line 1: ff02::1/128 has to do with ff00::/8"},
		"link-local":     {"2001:db8::1\nfe80::1", nil, []string{"2001:db8::1"}, "line 2: fe80::1/128 has to do with fe80::/10"},
		"more than that": {"2001:db8::1 web", nil, nil, "allowed is one IPv6 address"},
	} {
		t.Run(name, func(t *testing.T) {
			var got []string
			err := parseAddresses([]byte(c.text), c.within, func(a netip.Addr) { got = append(got, a.String()) })
			if diff := cmp.Diff(c.want, got); diff != "" {
				t.Errorf("addresses (-want +got):\n%s", diff)
			}
			if (err == nil) != (c.err == "") || err != nil && !strings.Contains(err.Error(), c.err) {
				t.Errorf("error %v, want %q", err, c.err)
			}
		})
	}
}

func TestParsePrefixes(t *testing.T) {
	for text, want := range map[string]string{
		"2001:db8::/64": "", "2001:db8::5/128": "",
		"2001:db8::1/64": "did you mean 2001:db8::/64?", "192.0.2.0/24": "allowed is an IPv6 prefix", "2001:db8::": "allowed is an IPv6 prefix",
		"::/0": "fe80::/10", "fe80::/64": "link-local", "ff02::/16": "groups", "64:ff9b::/96": "::/8", "::/1": "global and unique local addresses, best as a list (--addresses)",
	} {
		if _, err := parsePrefixes([]string{text}); (err == nil) != (want == "") || err != nil && !strings.Contains(err.Error(), want) {
			t.Errorf("%s: error %v, want %q", text, err, want)
		}
	}
}

func TestNDProxyFlags(t *testing.T) {
	ok := proxyFlags{Rate: 1, SourceRate: 1}
	for name, c := range map[string]struct {
		flags proxyFlags
		want  string
	}{
		"all is well":  {ok, ""},
		"long delay":   {proxyFlags{Rate: 1, SourceRate: 1, Delay: 2 * time.Second}, "0s to 1s"},
		"no answers":   {proxyFlags{Rate: 0, SourceRate: 1}, "rate"},
		"half for one": {proxyFlags{Rate: 1}, ""},
		"none for one": {proxyFlags{Rate: 1, SourceRate: -1}, "source-rate"},
	} {
		if err := c.flags.Validate(); (err == nil) != (c.want == "") || err != nil && !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v, want %q", name, err, c.want)
		}
	}
	for name, c := range map[string]struct {
		command ndproxyCommand
		want    string
	}{
		"prefix":            {ndproxyCommand{Interface: []string{"eth0"}, Prefix: []string{"2001:db8::/64"}}, ""},
		"list":              {ndproxyCommand{Interface: []string{"eth0"}, Addresses: "-"}, ""},
		"ndppd.conf":        {ndproxyCommand{NDPPDConfig: "f"}, ""},
		"nothing":           {ndproxyCommand{}, "--interface or --ndppd-config"},
		"nothing to answer": {ndproxyCommand{Interface: []string{"eth0"}}, "--prefix or --addresses"},
		"nowhere":           {ndproxyCommand{NDPPDConfig: "f", Addresses: "-"}, "need --interface"},
	} {
		if err := c.command.Validate(); (err == nil) != (c.want == "") || err != nil && !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v, want %q", name, err, c.want)
		}
	}
}
