//go:build netns

package main

import (
	"context"
	"encoding/json"
	"fmt"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/v6net/v6net/internal/control"
	"github.com/v6net/v6net/internal/spec"
	"github.com/v6net/v6net/internal/testnet"
)

// A daemon logs who was denied what, with the container's name, by either backend, and
// sums up a flood; with the network goes all that it takes.
func TestDeniedConnectionsAreLogged(t *testing.T) {
	for _, firewall := range []string{"nftables", "ip6tables"} {
		t.Run(firewall, func(t *testing.T) { testDeniedConnectionsAreLogged(t, firewall) })
	}
}

func testDeniedConnectionsAreLogged(t *testing.T, firewall string) {
	self, o, dir := testnet.Self(t), newOutside(t), t.TempDir()
	client := control.NewClient(filepath.Join(dir, "control.sock"))
	const pool = "2001:db8:77::/64"
	o.up.Run(t, "ip", "route", "add", pool, "via", self.LinkLocal(t, "eth0"), "dev", "lan0")
	p := startProgram(t, self, fmt.Sprintf("daemon --state %s/v6net.db --plugin-socket %[1]s/v6net.sock --control-socket %[1]s/control.sock --podman-folder= --log-format json --firewall %s --firewall-log-group 77", dir, firewall))
	t.Cleanup(func() { p.end(t) })
	testnet.Eventually(t, time.Minute, "the daemon answers", func() bool {
		_, err := client.Status(t.Context())
		return err == nil
	})

	network := spec.NetworkRequest{ID: number("a", 1), Name: "net1", FrontEnd: "podman", Options: spec.DefaultOptions(),
		IPv6: []spec.SubnetRequest{{Pool: spec.PoolRequest{V6: true, Prefix: netip.MustParsePrefix(pool), Source: spec.SourceStatic, Allocation: spec.Sequential}}}}
	network.Options.LogDenied = true
	if _, err := client.MakeNetwork(t.Context(), network); err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := client.DeleteNetwork(context.Background(), network.ID); err != nil {
			t.Error(err)
		}
		if n := groups(t); n != 0 {
			t.Errorf("%d NFLOG groups are listened to after the network", n)
		}
		if rules := self.Run(t, "nft", "list", "ruleset"); strings.Contains(rules, "v6net") || strings.Contains(rules, "NFLOG") {
			t.Errorf("left after the network:\n%s", rules)
		}
	}()
	_, ep := attach(t, client, network, 1)
	defer func() {
		if err := client.Detach(context.Background(), network.ID, ep.ID); err != nil {
			t.Error(err)
		}
	}()
	o.answers(t, ep.IPv6.Addr().String())
	if n := groups(t); n != 1 {
		t.Errorf("%d NFLOG groups are listened to, want 1", n)
	}

	to := func(port int) string { return net.JoinHostPort(ep.IPv6.Addr().String(), fmt.Sprint(port)) }
	say := func(address string, times int) {
		t.Helper()
		conn, err := o.up.DialContext(t.Context(), "udp", address)
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = conn.Close() }()
		for range times {
			if _, err := conn.Write([]byte("?")); err != nil {
				t.Fatal(err)
			}
		}
	}
	logged := func(what string, words ...string) {
		t.Helper()
		within(t, what, func() bool { return p.said(append(words, `"msg":"firewall: denied"`, `"network":"`+network.ID)...) > 0 })
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Second)
	defer cancel()
	if c, err := o.up.DialContext(ctx, "tcp", to(81)); err == nil {
		_ = c.Close()
		t.Error("port 81 is open")
	}
	logged("TCP", `"container":"web1"`, `"endpoint":"`+ep.ID, `"direction":"in"`, `"to":"`+to(81), `"protocol":"tcp"`, `"reason":"unpublished"`)
	for _, written := range []string{"web1", ep.ID[:12]} { // as the log has it, so an operator asks
		asked := startProgram(t, self, fmt.Sprintf("firewall explain --socket %s/control.sock 2001:db8::9 %s 81", dir, written))
		if err := asked.wait(); err != nil || asked.said(ep.IPv6.Addr().String()+" is container web1") == 0 || asked.said("dropped: the port is not published") == 0 {
			t.Errorf("explained for %s: %v, %q", written, err, asked.log)
		}
	}
	say(to(5353), 1)
	logged("UDP", `"container":"web1"`, `"to":"`+to(5353), `"protocol":"udp"`)
	_ = o.up.Command(t.Context(), "ping", "-n", "-c", "1", "-W", "1", "2001:db8:77::99").Run()
	logged("an echo request to nobody", `"to":"2001:db8:77::99"`, `"protocol":"icmpv6"`, `"type":128`, `"reason":"nobody"`)

	const flood = 10000
	before := p.said(`"msg":"firewall: denied"`)
	begun := time.Now()
	say(to(7777), flood)
	var lines, sum int
	testnet.Eventually(t, time.Minute, "all of a flood in lines and sums", func() bool {
		lines, sum = p.said(`"msg":"firewall: denied"`)-before, 0
		p.mu.Lock()
		defer p.mu.Unlock()
		for _, line := range p.log {
			var said struct{ Packets int }
			if strings.Contains(line, "without a line of their own") && json.Unmarshal([]byte(line), &said) == nil {
				sum += said.Packets
			}
		}
		return lines+sum >= flood
	})
	// Ten a second, and of those that came at once some more.
	if took := time.Since(begun); lines < 1 || lines > 200+10*int(took/time.Second) {
		t.Errorf("%d lines for %d packets in %v", lines, flood, took)
	}
}

// groups are the NFLOG groups of this host that somebody listens to.
func groups(t *testing.T) int {
	t.Helper()
	b, err := os.ReadFile("/proc/self/net/netfilter/nfnetlink_log")
	if err != nil {
		t.Fatal(err)
	}
	return strings.Count(string(b), "\n")
}
