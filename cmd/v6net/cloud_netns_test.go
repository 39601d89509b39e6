//go:build netns

package main

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/v6net/v6net/internal/spec"
	"github.com/v6net/v6net/internal/testnet"
)

// metadata is a cloud's metadata server as its vendor documents it: at 169.254.169.254,
// for whoever follows its rules.
type metadata struct {
	vendor string // what the firmware says (sys_vendor)
	// token is where to PUT for one, with a lifetime in seconds in that header, and the header
	// that it is to be in; empty: none.
	token, lifetime, header string

	mu    sync.Mutex
	pages map[string]string // {mac} stands for the interface's
}

const metadataAddress = "169.254.169.254"

func (m *metadata) set(path, text string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.pages[path] = text
}

func (m *metadata) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	m.mu.Lock()
	defer m.mu.Unlock()
	page, there := m.pages[r.URL.Path]
	switch {
	case m.token != "" && r.Method == http.MethodPut && r.URL.Path == m.token && r.Header.Get(m.lifetime) != "":
		_, _ = w.Write([]byte("a-token"))
	case r.Method != http.MethodGet || m.token != "" && r.Header.Get(m.header) != "a-token":
		http.Error(w, "", http.StatusUnauthorized)
	case !there:
		http.NotFound(w, r)
	default:
		_, _ = w.Write([]byte(page))
	}
}

// inCloud is a machine of a cloud.
type inCloud struct{ *machine }

func newInCloud(t *testing.T, m *metadata) *inCloud {
	t.Helper()
	self := testnet.Self(t)
	c := &inCloud{&machine{outside: newOutside(t)}}
	mac := self.MAC(t, "eth0")
	for path, text := range m.pages {
		delete(m.pages, path)
		m.pages[strings.ReplaceAll(path, "{mac}", mac)] = strings.ReplaceAll(text, "{mac}", mac)
	}
	self.Run(t, "ip", "addr", "add", "169.254.7.7/16", "dev", "eth0")
	c.up.Run(t, "ip", "addr", "add", metadataAddress+"/16", "dev", "lan0")
	c.up.Do(t, func() {
		l, err := net.Listen("tcp", metadataAddress+":80")
		if err != nil {
			t.Fatal(err)
		}
		server := &http.Server{Handler: m}
		t.Cleanup(func() { _ = server.Close() })
		go func() { _ = server.Serve(l) }()
	})
	self.Run(t, "mount", "-t", "tmpfs", "none", filepath.Dir(filepath.Dir(dmiFolder)))
	t.Cleanup(func() {
		if out, err := self.Command(context.Background(), "umount", filepath.Dir(filepath.Dir(dmiFolder))).CombinedOutput(); err != nil {
			t.Errorf("umount: %v\n%s", err, out)
		}
	})
	if err := os.MkdirAll(dmiFolder, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dmiFolder, "sys_vendor"), []byte(m.vendor+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	c.open(t)
	return c
}

// run makes a network, as a container engine does, and a container on it whose port 80
// is published.
func (c *inCloud) run(t *testing.T, n int) (container *testnet.Host, addr netip.Addr) {
	t.Helper()
	return c.runOn(t, n, spec.PoolRequest{V6: true, Source: spec.SourceCloud, Allocation: spec.Sequential})
}

// From a machine's metadata to a container that answers from outside, however its cloud
// delivers the prefix.
func TestClouds(t *testing.T) {
	for name, cloud := range map[string]struct {
		metadata *metadata
		own      string // the machine's own address
		prefix   string // that containers are to have addresses of
		onLink   bool   // the provider asks for each address
		said     string // by status
	}{
		"AWS": {&metadata{vendor: "Amazon EC2", token: "/latest/api/token", lifetime: "X-aws-ec2-metadata-token-ttl-seconds", header: "X-aws-ec2-metadata-token",
			pages: map[string]string{"/latest/meta-data/network/interfaces/macs/{mac}/ipv6-prefix": "2001:db8:aaaa:1:2::/80\n"}},
			"2001:db8:aaaa:1::7/128", "2001:db8:aaaa:1:2::/80", false, "on-link false by AWS's metadata"},
		"DigitalOcean": {&metadata{vendor: "DigitalOcean", pages: map[string]string{"/metadata/v1.json": `{"droplet_id":1,"interfaces":{"public":[
			{"ipv6":{"ip_address":"2001:0DB8:BBBB:0001:0000:0000:0000:0001","cidr":64,"gateway":"2001:0DB8:BBBB:0001::FFFF"},"mac":"{mac}","type":"public"}]}}`}},
			"2001:db8:bbbb:1::1/64", "2001:db8:bbbb:1::8/125", true, "on-link true by DigitalOcean's metadata"},
		"Hetzner Cloud": {&metadata{vendor: "Hetzner", pages: map[string]string{"/hetzner/v1/metadata": "hostname: web\nnetwork-config:\n  config:\n" +
			"  - mac_address: {mac}\n    name: eth0\n    subnets:\n    - address: 2001:db8:cccc:1::1/64\n      gateway: fe80::1\n      ipv6: true\n      type: static\n"}},
			"2001:db8:cccc:1::1/64", "2001:db8:cccc:1::/64", false, "on-link true by Hetzner Cloud's metadata, which do not say how it is delivered"},
		"Hetzner Cloud, if it were on-link": {&metadata{vendor: "Hetzner", pages: map[string]string{"/hetzner/v1/metadata": "network-config:\n  config:\n" +
			"  - subnets:\n    - address: 2001:db8:dddd:1::1/64\n      gateway: fe80::1\n      ipv6: true\n      type: static\n"}},
			"2001:db8:dddd:1::1/64", "2001:db8:dddd:1::/64", true, "was solicited"},
	} {
		t.Run(name, func(t *testing.T) {
			c := newInCloud(t, cloud.metadata)
			self, prefix := testnet.Self(t), netip.MustParsePrefix(cloud.prefix)
			self.Run(t, "ip", "addr", "add", cloud.own, "dev", "eth0", "nodad")
			if cloud.onLink {
				c.up.Run(t, "ip", "-6", "route", "add", netip.PrefixFrom(prefix.Addr(), 64).String(), "dev", "lan0")
			} else {
				c.up.Run(t, "ip", "-6", "route", "add", prefix.String(), "via", self.LinkLocal(t, "eth0"), "dev", "lan0")
			}
			_, addr := c.run(t, 1)
			if !prefix.Contains(addr) {
				t.Fatalf("the container has %s, want an address of %s", addr, prefix)
			}
			c.answers(t, addr.String())
			said := func() string {
				var words []string
				for _, d := range c.status(t).Delegations[0].Delegations {
					words = append(words, fmt.Sprintf("on-link %t by %s %s", d.OnLink, d.Origin, d.Evidence))
				}
				return strings.Join(words, "\n")
			}
			within(t, "status says how it comes: "+cloud.said, func() bool {
				c.up.Run(t, "ip", "-6", "neigh", "flush", "dev", "lan0") // of what it was told unasked
				return c.connects(t, addr.String()) && strings.Contains(said(), cloud.said)
			})
			// By the journal alone, and once more with the metadata.
			c.signal(os.Kill)
			_ = c.wait()
			if !c.connects(t, addr.String()) && !cloud.onLink {
				t.Error("the container does not answer while no daemon runs")
			}
			c.begin(t)
			c.answers(t, addr.String())
			within(t, "status says so after a restart", func() bool { return strings.Contains(said(), cloud.said) })
		})
	}
}

// What a cloud takes back while no daemon runs is lost when one does: the addresses may
// be another machine's.
func TestCloudTakesBackWhileNoDaemonRuns(t *testing.T) {
	const page = "/metadata/v1.json"
	m := &metadata{vendor: "DigitalOcean", pages: map[string]string{page: `{"droplet_id":1,"interfaces":{"public":[
		{"ipv6":{"ip_address":"2001:0DB8:BBBB:0001:0000:0000:0000:0001","cidr":64,"gateway":"2001:0DB8:BBBB:0001::FFFF"},"mac":"{mac}","type":"public"}]}}`}}
	c := newInCloud(t, m)
	testnet.Self(t).Run(t, "ip", "addr", "add", "2001:db8:bbbb:1::1/64", "dev", "eth0", "nodad")
	c.up.Run(t, "ip", "-6", "route", "add", "2001:db8:bbbb:1::/64", "dev", "lan0")
	container, addr := c.run(t, 1)
	c.answers(t, addr.String())
	c.signal(os.Kill)
	_ = c.wait()
	m.set(page, `{"droplet_id":1,"interfaces":{"public":[]}}`)
	c.begin(t)
	within(t, "the container has lost its address, and nobody answers for it", func() bool {
		c.up.Run(t, "ip", "-6", "neigh", "flush", "dev", "lan0")
		_, inUse := c.status(t).Networks[0].IPv6[0].Lent.Current()
		return !inUse && len(globals(t, container)["eth0"]) == 0 && !c.connects(t, addr.String())
	})
}

// ofLinode is the metadata of a machine at Linode, which has a range.
func ofLinode(prefix string) *metadata {
	return &metadata{vendor: "Linode", token: "/v1/token", lifetime: "Metadata-Token-Expiry-Seconds", header: "Metadata-Token",
		pages: map[string]string{"/v1/network": linodeRange(prefix)}}
}

func linodeRange(prefix string) string {
	return fmt.Sprintf(`{"ipv6":{"slaac":"2001:db8:5::5/128","ranges":[%q]}}`, prefix)
}

// The uplink gets another name while its cloud lends what containers have: they keep it, and
// follow what is lent on the link by that name.
func TestUplinkThatLendsIsRenamed(t *testing.T) {
	m := ofLinode("2001:db8:a000::/56")
	c := newInCloud(t, m)
	self := testnet.Self(t)
	c.up.Run(t, "ip", "-6", "route", "add", "2001:db8:8000::/33", "via", self.LinkLocal(t, "eth0"), "dev", "lan0")
	container, addr := c.run(t, 1)
	c.answers(t, addr.String())
	has := globals(t, container)["eth0"]
	rename := func(from, to string) {
		t.Helper()
		renameUplink(t, from, to)
		self.Run(t, "ip", "route", "add", "default", "via", c.up.LinkLocal(t, "lan0"), "dev", to)
	}
	rename("eth0", "wan0")
	defer rename("wan0", "eth0")
	within(t, "the network follows wan0, where the same is lent", func() bool {
		s := c.status(t)
		return s.Networks[0].IPv6[0].Lent.Link == "wan0" && len(s.Delegations) == 1 && s.Delegations[0].Link == "wan0" && len(s.Delegations[0].Delegations) == 1
	})
	c.answers(t, addr.String())
	if now := globals(t, container)["eth0"]; !slices.Equal(now, has) {
		t.Errorf("the container has %q, and had %q", now, has)
	}
	m.set("/v1/network", linodeRange("2001:db8:b000::/56"))
	self.Run(t, "ip", "addr", "add", "fe80::b/64", "dev", "wan0", "nodad") // so that the daemon looks
	c.answers(t, "2001:db8:b000::2")
	if n := c.status(t).Networks[0]; n.Error != "" || len(n.Notes) > 0 || n.Parent != "wan0" {
		t.Errorf("behind %s: error %q, notes %q", n.Parent, n.Error, n.Notes)
	}
}
