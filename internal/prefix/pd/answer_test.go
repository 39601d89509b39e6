package pd

import (
	"bytes"
	"encoding/hex"
	"net/netip"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/insomniacslk/dhcp/dhcpv6"
	"github.com/insomniacslk/dhcp/iana"

	"github.com/v6net/v6net/internal/spec"
)

// FuzzAnswer holds whatever a server says within bounds, and the machine together.
func FuzzAnswer(f *testing.F) {
	ask := &message{Message: &dhcpv6.Message{TransactionID: dhcpv6.TransactionID{1, 2, 3}}}
	for _, seed := range [][]byte{
		ask.bytes(dhcpv6.MessageTypeAdvertise, serverA, hour("2001:db8:a::/56"), option(dhcpv6.OptPreference(9))),
		ask.bytes(dhcpv6.MessageTypeReply, serverA, rapid, hour("2001:db8:a::/56"), pd(2, 0, 0, prefix("fd00::/48", 0, 0xffffffff))),
		ask.bytes(dhcpv6.MessageTypeReply, serverA, option(code(iana.StatusNoBinding, "\xff\x00none"))),
		ask.bytes(dhcpv6.MessageTypeReply, serverA, pd(1, 5, 5, prefix("::/0", 1, 1), prefix("ffff::/127", 1, 1), code(iana.StatusNoPrefixAvail, ""))),
		ask.bytes(dhcpv6.MessageTypeAdvertise, serverA, option(&dhcpv6.OptionGeneric{OptionCode: dhcpv6.OptionSolMaxRT, OptionData: []byte{0, 0, 0, 99}})),
	} {
		f.Add(seed)
	}
	for _, b := range captured(f) {
		copy(b[1:], ask.TransactionID[:])
		if i := bytes.Index(b, []byte{0, 1, 0, byte(len(clientDUID)), 0, 4}); i > 0 {
			copy(b[i+4:], clientDUID)
		}
		f.Add(b)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		a, err := parse(b, ask.TransactionID, clientDUID)
		if err != nil {
			return
		}
		if len(a.server) < leastDUID || len(a.server) > mostDUID || a.solicitMost != 0 && (a.solicitMost < time.Minute || a.solicitMost > day) {
			t.Fatalf("accepted %+v", a)
		}
		c := New(Config{Link: "eth0", DUID: clientDUID, IAID: []uint32{1, 2}})
		c.report = func(spec.DelegationReport) {}
		now := time.Now()
		bound := c.bind(a, now)
		if bound == c.empty() {
			t.Fatalf("bound %v with %+v", bound, c.lease)
		}
		_ = a.refusal(c.config.IAID)
		for range 2 {
			c.extend(a, now)
			checkLease(t, c, now)
		}
		c.expire(now.Add(2 * forever))
		if slices.ContainsFunc(c.lease.Delegations(), func(d spec.Delegation) bool { return !d.Valid.IsZero() }) {
			t.Fatalf("something outlives its time: %+v", c.lease)
		}
		if m := c.message(question{kind: dhcpv6.MessageTypeRenew, server: c.lease.Server, associations: c.lease.Associations}, ask.TransactionID, 0); len(m) > 1232 {
			t.Fatalf("the next message is of %d bytes", len(m))
		}
	})
}

func checkLease(t *testing.T, c *Client, now time.Time) {
	lent := c.lease.Delegations()
	if len(lent) > 2*mostPrefixes {
		t.Fatalf("%d prefixes", len(lent))
	}
	for i, d := range lent {
		switch {
		case !spec.IsDelegable(d.Prefix), d.Prefix != d.Prefix.Masked(), !d.Prefix.Addr().IsGlobalUnicast():
			t.Fatalf("lent %s", d.Prefix)
		case !d.Valid.IsZero() && (!d.Valid.After(now) || d.Preferred.IsZero() || d.Preferred.After(d.Valid)):
			t.Fatalf("preferred until %v, valid until %v", d.Preferred, d.Valid)
		}
		for _, other := range lent[i+1:] {
			if other.Prefix.Overlaps(d.Prefix) {
				t.Fatalf("%s and %s overlap", d.Prefix, other.Prefix)
			}
		}
	}
	renew, rebind := c.due()
	if !renew.IsZero() && renew.Before(now.Add(leastRenew)) || !rebind.IsZero() && (renew.IsZero() || rebind.Before(renew)) {
		t.Fatalf("to be renewed at %v, rebound at %v", renew, rebind)
	}
}

// captured are answers of Kea 2.2 and ISC's dhcpd 4.4, by name.
func captured(t testing.TB) map[string][]byte {
	t.Helper()
	files, err := filepath.Glob("testdata/*.hex")
	if err != nil || len(files) == 0 {
		t.Fatalf("%d captured answers, %v", len(files), err)
	}
	all := map[string][]byte{}
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		b, err := hex.DecodeString(strings.TrimSpace(string(text)))
		if err != nil {
			t.Fatalf("%s: %v", file, err)
		}
		all[strings.TrimSuffix(filepath.Base(file), ".hex")] = b
	}
	return all
}

func TestAnswersOfRealServers(t *testing.T) {
	kea := []byte{0, 3, 0, 1, 2, 0, 0, 0, 0, 0xaa}
	isc := []byte{0, 1, 0, 1, 0x32, 0x9b, 0xa1, 0xa4, 0xce, 0x6f, 0xcf, 0x6a, 0xbc, 0x83}
	is := func(p string, preferred, valid time.Duration) lent {
		return lent{netip.MustParsePrefix(p), preferred * time.Second, valid * time.Second}
	}
	want := map[string]answer{
		"kea-rapid-reply":       {reply: true, rapid: true, server: kea, pds: []granted{{id: 1, t1: 2 * time.Second, t2: 6 * time.Second, prefixes: []lent{is("2001:db8:100::/56", 20, 30)}}}},
		"kea-renumbering-reply": {reply: true, server: kea, pds: []granted{{id: 1, t1: 2 * time.Second, t2: 5 * time.Second, prefixes: []lent{is("2001:db8:200::/56", 40, 60), is("2001:db8:100::/56", 0, 0)}}}},
		"kea-refusal":           {reply: true, rapid: true, server: kea, pds: []granted{{id: 1, status: status{iana.StatusNoPrefixAvail, "Sorry, no prefixes could be allocated."}}}},
		"kea-release-reply":     {reply: true, server: kea, status: status{text: "Summary status for all processed IA_NAs"}, pds: []granted{{id: 1, status: status{text: "Lease released. Thank you, please come again."}}}},
		"isc-advertise":         {server: isc, pds: []granted{{id: 1, t1: 3 * time.Second, t2: 6 * time.Second, prefixes: []lent{is("2001:db8:100:ff00::/56", 40, 60)}}}},
		"isc-renew-reply":       {reply: true, server: isc, pds: []granted{{id: 1, t1: 3 * time.Second, t2: 6 * time.Second, prefixes: []lent{is("2001:db8:100:ff00::/56", 37, 57)}}}},
	}
	for name, b := range captured(t) {
		var options dhcpv6.Options
		if err := options.FromBytes(b[4:]); err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		got, err := parse(b, dhcpv6.TransactionID(b[1:4]), content(options, dhcpv6.OptionClientID))
		if err != nil || !reflect.DeepEqual(got, want[name]) {
			t.Errorf("%s: %+v, %v\nwant %+v", name, got, err, want[name])
		}
	}
}

func TestDUID(t *testing.T) {
	a, err := NewDUID()
	if err != nil {
		t.Fatal(err)
	}
	b, err := NewDUID()
	if err != nil {
		t.Fatal(err)
	}
	if bytes.Equal(a, b) || len(a) != 18 {
		t.Errorf("DUIDs %x and %x", a, b)
	}
	// RFC 6355 §4: type 4, then a UUID.
	if !bytes.HasPrefix(a, []byte{0, 4}) || a[8]>>4 != 4 || a[10]>>6 != 2 {
		t.Errorf("%x is no DUID-UUID of version 4", a)
	}
}
