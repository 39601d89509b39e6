package cloud

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"testing/fstest"
	"testing/synctest"
	"time"

	"github.com/v6net/v6net/internal/spec"
)

const ourMAC = "02:00:00:00:00:01"

// machine is what the firmware of a cloud's machine says.
func machine(field, value string) fs.FS {
	return fstest.MapFS{field: {Data: []byte(value + "\n")}, "bios_vendor": {Data: []byte("SeaBIOS\n")}}
}

// A documented answers as a cloud's metadata server does: what is not documented, is
// asked without its headers or by another method is refused.
type documented struct {
	machine fs.FS
	token   string            // path where to PUT for one; empty: none
	needed  map[string]string // headers
	path    string
	body    string
	want    []string // prefixes; with "on-link" before those that are
}

var clouds = map[string]documented{
	"AWS": {machine("sys_vendor", "Amazon EC2"), "/latest/api/token", map[string]string{"X-aws-ec2-metadata-token": "secret"},
		"/latest/meta-data/network/interfaces/macs/02:00:00:00:00:01/ipv6-prefix", "2600:1f13:fca:3f00:1::/80\n", []string{"2600:1f13:fca:3f00:1::/80"}},
	"Google Cloud": {machine("product_name", "Google Compute Engine"), "", map[string]string{"Metadata-Flavor": "Google"},
		"/computeMetadata/v1/instance/network-interfaces/?recursive=true",
		`[{"accessConfigs":[],"ip":"10.0.0.2","ipv6s":["2600:1900:4000:1::"],"mac":"42:01:0a:00:00:02","mtu":1460},
		  {"dhcpv6Refresh":"1","forwardedIpv6s":[],"gatewayIpv6":"fe80::1","ipv6s":["2600:1900:4000:2:0:7::"],"mac":"02:00:00:00:00:01"}]`,
		[]string{"2600:1900:4000:2:0:7::/96"}},
	"DigitalOcean": {machine("sys_vendor", "DigitalOcean"), "", nil, "/metadata/v1.json",
		`{"droplet_id":1,"interfaces":{"private":[{"mac":"04:01:57:d1:9e:02","type":"private"}],"public":[{"ipv4":{"ip_address":"192.0.2.20"},
		  "ipv6":{"ip_address":"2604:A880:0800:0000:1000:0000:0000:0001","cidr":64,"gateway":"2604:A880:0800::1"},"mac":"02:00:00:00:00:01","type":"public"}]}}`,
		[]string{"on-link 2604:a880:800:0:1000::8/125", "on-link 2604:a880:800:0:1000::4/126"}},
	"Hetzner Cloud": {machine("sys_vendor", "Hetzner"), "", nil, "/hetzner/v1/metadata",
		"hostname: web\ninstance-id: 1\nlocal-ipv4: ''\nnetwork-config:\n  config:\n  - mac_address: 02:00:00:00:00:01\n    name: eth0\n    subnets:\n" +
			"    - dns_nameservers:\n      - 185.12.64.1\n      ipv4: true\n      type: dhcp\n    - address: 2a01:4f8:beef:beef::1/64\n      gateway: fe80::1\n      ipv6: true\n" +
			"    type: physical\n  version: 1\nnetwork-sysconfig: \"DEVICE='eth0'\\n\\\n  IPV6ADDR=2a01:4f8:dead::1/64\\n\"\n",
		[]string{"on-link 2a01:4f8:beef:beef::/64"}},
	"Vultr": {machine("sys_vendor", "Vultr"), "", nil, "/v1.json",
		`{"hostname":"web","interfaces":[{"ipv6":{"additional":[],"address":"2001:19f0:5:56c2:5400:3ff:fe15:c465","network":"2001:19f0:5:56c2::","prefix":"64"},
		  "mac":"02:00:00:00:00:01","network-type":"public"},{"ipv6":{},"mac":"5a:00:00:00:00:02","network-type":"private"}]}`,
		[]string{"on-link 2001:19f0:5:56c2::/64"}},
	"Linode": {machine("sys_vendor", "Akamai"), "/v1/token", map[string]string{"Metadata-Token": "secret", "Accept": "application/json"}, "/v1/network",
		`{"interfaces":[],"ipv4":{"public":["192.0.2.7/32"]},"ipv6":{"slaac":"2600:3c03::f03c:91ff:fe24:3a2f/128","ranges":["2600:3c03:e000:123::/64","2600:3c03:e100::/56"],
		  "link_local":"fe80::f03c:91ff:fe24:3a2f/128","shared_ranges":[]}}`,
		[]string{"2600:3c03:e000:123::/64", "2600:3c03:e100::/56"}},
	"Scaleway": {machine("sys_vendor", "Scaleway"), "", nil, "/conf?format=json",
		`{"hostname":"web","public_ips":[{"address":"192.0.2.10","netmask":"32","family":"inet"},
		  {"address":"2001:bc8:1:2:dc00:ff:fe00:1","netmask":"64","gateway":"fe80::ffff:ffff:ffff:fff1","family":"inet6"}]}`,
		[]string{"2001:bc8:1:2::/64"}},
}

func (d documented) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if d.token != "" && r.Method == http.MethodPut && r.URL.Path == d.token {
		if r.Header.Get("X-aws-ec2-metadata-token-ttl-seconds")+r.Header.Get("Metadata-Token-Expiry-Seconds") == "" {
			http.Error(w, "no lifetime", http.StatusBadRequest)
			return
		}
		_, _ = io.WriteString(w, "secret\n")
		return
	}
	for name, value := range d.needed {
		if r.Header.Get(name) != value {
			http.Error(w, name, http.StatusUnauthorized)
			return
		}
	}
	if r.Method != http.MethodGet || r.URL.RequestURI() != d.path {
		http.NotFound(w, r)
		return
	}
	_, _ = io.WriteString(w, d.body)
}

func source(t *testing.T, dmi fs.FS, h http.Handler, before ...string) *Source {
	t.Helper()
	server := httptest.NewServer(h)
	t.Cleanup(server.Close)
	var lease spec.DelegationLease
	for _, p := range before {
		lease.Associations = append(lease.Associations, spec.Association{Delegations: []spec.Delegation{{Prefix: netip.MustParsePrefix(p)}}})
	}
	return New(Config{Link: "eth0", MAC: func() (string, error) { return strings.ToUpper(ourMAC), nil }, DMI: dmi, Endpoint: server.URL, Lease: lease})
}

func found(s *Source) (list []string) {
	for _, d := range s.lease.Delegations() {
		text := d.Prefix.String()
		if d.OnLink {
			text = "on-link " + text
		}
		list = append(list, text)
	}
	return list
}

func TestClouds(t *testing.T) {
	for name, c := range clouds {
		t.Run(name, func(t *testing.T) {
			s := source(t, c.machine, c)
			state, err := s.read(t.Context())
			if err != nil || state != stateAssigned || !slices.Equal(found(s), c.want) {
				t.Errorf("%s: %q, %v, want %q", state, found(s), err, c.want)
			}
			for _, d := range s.lease.Delegations() {
				if !strings.HasPrefix(d.Origin, name+"'s metadata") || d.Parent != "eth0" || d.Source != spec.SourceCloud || !d.Valid.IsZero() {
					t.Errorf("delegation %+v", d)
				}
			}
			// Another interface has nothing, where the metadata tell them apart.
			if strings.Contains(c.path+c.body, ourMAC) && name != "Hetzner Cloud" {
				s.config.MAC = func() (string, error) { return "02:00:00:00:00:99", nil }
				if state, err := s.read(t.Context()); state != stateDoubted || err == nil || len(found(s)) == 0 {
					t.Errorf("another interface: %s: %q, %v, want it asked again before that is believed", state, found(s), err)
				}
				if state, err := s.read(t.Context()); state != stateNone || err == nil || len(found(s)) > 0 {
					t.Errorf("another interface: %s: %q, %v", state, found(s), err)
				}
			}
		})
	}
	for _, v := range vendors {
		if _, tested := clouds[v.name]; !tested && v.delivery != address {
			t.Errorf("%s is not tested", v.name)
		}
	}
}

// What a cloud does not say is not asked for, and not on other machines.
func TestNothingIsAsked(t *testing.T) {
	for name, dmi := range map[string]fs.FS{
		"a machine at home": machine("sys_vendor", "LENOVO"),
		"no firmware":       fstest.MapFS{},
		"Oracle Cloud":      machine("chassis_asset_tag", "OracleCloud.com"),
		"Azure":             machine("chassis_asset_tag", "7783-7084-3265-9085-8269-3286-77"),
	} {
		s := source(t, dmi, http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { t.Errorf("%s: asked for %s", name, r.URL) }))
		state, err := s.read(t.Context())
		if err == nil || state != stateUnknown || len(found(s)) > 0 {
			t.Errorf("%s: %s: %q, %v", name, state, found(s), err)
		}
	}
}

// Servers that fail or mean ill: what was assigned stays, unless they say otherwise,
// and nothing takes longer than it may.
func TestHostileServers(t *testing.T) {
	const before = "2600:1f13:fca:3f00:1::/80"
	aws, google := clouds["AWS"].machine, clouds["Google Cloud"].machine
	say := func(text string) http.HandlerFunc {
		return func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, text) }
	}
	for name, test := range map[string]struct {
		machine fs.FS
		server  http.HandlerFunc
		kept    bool
	}{
		"silent": {google, func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() }, true},
		"trickle": {google, func(w http.ResponseWriter, r *http.Request) {
			for r.Context().Err() == nil {
				_, _ = io.WriteString(w, " ")
				_ = http.NewResponseController(w).Flush()
				time.Sleep(10 * time.Millisecond)
			}
		}, true},
		"endless": {google, func(w http.ResponseWriter, r *http.Request) {
			for r.Context().Err() == nil {
				if _, err := io.WriteString(w, strings.Repeat("[", 1<<16)); err != nil {
					return
				}
			}
		}, true},
		"endless token": {aws, func(w http.ResponseWriter, _ *http.Request) {
			_, _ = io.WriteString(w, strings.Repeat("x", mostToken+1))
		}, true},
		"endless header": {google, func(w http.ResponseWriter, _ *http.Request) { w.Header().Set("X", strings.Repeat("x", 2*mostHead)) }, true},
		"nested":         {google, say(strings.Repeat("[", 1<<19)), true},
		"a redirection": {google, func(w http.ResponseWriter, r *http.Request) {
			http.Redirect(w, r, "http://192.0.2.1/", http.StatusFound)
		}, true},
		"failing":      {aws, func(w http.ResponseWriter, _ *http.Request) { http.Error(w, "", http.StatusInternalServerError) }, true},
		"forbidden":    {aws, func(w http.ResponseWriter, _ *http.Request) { http.Error(w, "", http.StatusForbidden) }, true},
		"no JSON":      {google, say("<html>log in</html>"), true},
		"no address":   {google, say(`[{"mac":"` + ourMAC + `","ipv6s":["192.0.2.1"]}]`), true},
		"no text":      {google, say(`[{"mac":"` + ourMAC + `","ipv6s":[1,null,{}]}]`), false},
		"other shapes": {google, say(`{"mac":[["` + ourMAC + `"]]}`), false},
		"null":         {google, say("null"), false},
		"nothing":      {aws, say(""), false},
		"not found": {aws, func(w http.ResponseWriter, r *http.Request) {
			if r.Method == http.MethodPut {
				_, _ = io.WriteString(w, "t")
				return
			}
			http.NotFound(w, r)
		}, false},
		"token not found": {aws, http.NotFound, true},
		"a page":          {aws, say("<html>log in</html>"), true},
		"everything":      {aws, say("::/0\n2000::/3\n::/128"), false},
		"link-local":      {aws, say("fe80::/64\nff02::/64\n::ffff:192.0.2.0/112"), false},
		"a header of two": {aws, say("x\r\nX-Evil: 1"), true},
	} {
		t.Run(name, func(t *testing.T) {
			s := source(t, test.machine, test.server, before)
			began := time.Now()
			state, err := s.read(t.Context())
			if took := time.Since(began); took > 10*mostTime {
				t.Errorf("took %v", took)
			}
			if err == nil || !slices.Equal(found(s), []string{before}) {
				t.Errorf("%s: %q, %v, want what was assigned to stay while it is asked again", state, found(s), err)
			}
			if (state == stateDoubted) == test.kept {
				t.Errorf("%s, want an answer that names nothing to be doubted, and no failure", state)
			}
			if test.kept {
				return
			}
			state, err = s.read(t.Context())
			if kept := slices.Equal(found(s), []string{before}); err == nil || kept != test.kept || len(found(s)) > 0 && !kept {
				t.Errorf("%s: %q, %v, want what was assigned to stay: %v", state, found(s), err, test.kept)
			}
		})
	}
}

// A document that is away for a moment takes nothing away, other than a leaf that a cloud
// leaves out where there is none.
func TestDocumentNotFound(t *testing.T) {
	for _, v := range vendors {
		if v.delivery == address || v.absent {
			continue
		}
		const before = "2600:1f13:fca:3f00::/64"
		server := func(w http.ResponseWriter, r *http.Request) {
			if r.Method == http.MethodPut {
				_, _ = io.WriteString(w, "t")
				return
			}
			http.NotFound(w, r)
		}
		s := source(t, clouds[v.name].machine, http.HandlerFunc(server), before)
		for range 3 {
			if state, err := s.read(t.Context()); state != stateRetry || err == nil || !slices.Equal(found(s), []string{before}) {
				t.Errorf("%s: %s: %q, %v: a 404 took away what was assigned", v.name, state, found(s), err)
			}
		}
	}
}

func TestManyPrefixesAreBounded(t *testing.T) {
	var many strings.Builder
	for i := range 1000 {
		fmt.Fprintf(&many, "2600:1f13:fca:%x::/80\n", i)
	}
	got, err := reading{lines: true}.prefixes([]byte(many.String()), ourMAC)
	if err != nil || len(got) != mostPrefixes {
		t.Errorf("%d prefixes, %v", len(got), err)
	}
}

// The machine's own address is of its few; the rest of them may be used.
func TestBeside(t *testing.T) {
	for text, want := range map[string][]string{
		"2001:db8::1/124": {"2001:db8::8/125", "2001:db8::4/126"},
		"2001:db8::f/124": {"2001:db8::/125", "2001:db8::8/126"},
		"2001:db8::1/96":  {"2001:db8::/96"},
		"2001:db8::1/126": nil,
	} {
		var got []string
		for _, p := range beside(netip.MustParsePrefix(text)) {
			got = append(got, p.String())
			if p.Contains(netip.MustParsePrefix(text).Addr()) && p.Bits() >= smallBits {
				t.Errorf("beside %s: %s holds it", text, p)
			}
		}
		if !slices.Equal(got, want) {
			t.Errorf("beside %s: %q, want %q", text, got, want)
		}
	}
}

// The life of a source by the clock, on a network of functions.
func TestRun(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := New(Config{Link: "eth0", MAC: func() (string, error) { return ourMAC, nil }, DMI: clouds["Vultr"].machine})
		var answer atomic.Pointer[string] // nil: no server can be reached
		var asked atomic.Int32
		s.client.Transport = roundTrip(func(*http.Request) (*http.Response, error) {
			asked.Add(1)
			body := answer.Load()
			if body == nil {
				return nil, errors.New("unreachable")
			}
			return &http.Response{StatusCode: http.StatusOK, Body: io.NopCloser(strings.NewReader(*body))}, nil
		})
		said := make(chan spec.DelegationReport, 1000)
		ctx, cancel := context.WithCancel(context.Background())
		done := make(chan struct{})
		go func() { defer close(done); s.Run(ctx, func(r spec.DelegationReport) { said <- r }) }()
		last := func() (r spec.DelegationReport) {
			synctest.Wait()
			for len(said) > 0 {
				r = <-said
			}
			return r
		}
		if r := last(); r.State != stateRetry || !r.Answered || !strings.Contains(r.Error, "unreachable") {
			t.Errorf("report %+v", r)
		}
		time.Sleep(time.Hour)
		synctest.Wait()
		if n := asked.Load(); n < 8 || n > 20 {
			t.Errorf("asked %d times in an hour", n)
		}
		body, none := clouds["Vultr"].body, "{}"
		answer.Store(&body)
		s.Ask()
		if r := last(); r.State != stateAssigned || r.Error != "" || len(r.Lease.Delegations()) != 1 {
			t.Errorf("report %+v", r)
		}
		answer.Store(&none)
		time.Sleep(readAgain + time.Second)
		if r := last(); r.State != stateDoubted || len(r.Lease.Delegations()) != 1 {
			t.Errorf("report %+v", r)
		}
		answer.Store(&body)
		time.Sleep(leastRetry)
		if r := last(); r.State != stateAssigned || r.Error != "" {
			t.Errorf("report %+v, when it was named again", r)
		}
		answer.Store(&none)
		time.Sleep(readAgain + leastRetry + time.Second)
		if r := last(); r.State != stateNone || len(r.Lease.Delegations()) != 0 {
			t.Errorf("report %+v", r)
		}
		cancel()
		<-done
		if err := s.Release(context.Background()); err != nil {
			t.Error(err)
		}
	})
}

type roundTrip func(*http.Request) (*http.Response, error)

func (f roundTrip) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }

// FuzzMetadata reads whatever a server says as each cloud's.
func FuzzMetadata(f *testing.F) {
	for _, c := range clouds {
		f.Add([]byte(c.body))
	}
	f.Fuzz(func(t *testing.T, body []byte) {
		for _, v := range vendors {
			got, err := v.read.prefixes(body, ourMAC)
			if err == nil && (len(got) == 0 || len(got) > mostPrefixes) {
				t.Fatalf("%s: %d prefixes", v.name, len(got))
			}
			for i, p := range got {
				if !spec.IsDelegable(p) || p != p.Masked() || slices.ContainsFunc(got[i+1:], p.Overlaps) {
					t.Fatalf("%s: %v", v.name, got)
				}
			}
		}
	})
}
