//go:build engine

package engine_test

import (
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/v6net/v6net/internal/testengine"
	"github.com/v6net/v6net/internal/testnet"
)

func TestMain(m *testing.M) { testnet.Main(m) }

// pluginName is the driver's name in `docker network create -d`.
const pluginName = "v6net:latest"

// lab is the network that every test of this package runs in:
//
//	host ──eth0── 2001:db8:1::/64, 198.51.100.0/24 ──lan0── up ──far0──eth0── far
//
// host is the test's own process, where the engine runs. up is its router, and
// knows the shared link only: it has no route to any prefix of containers, so
// that those on the link have to answer for themselves. far is a machine
// somewhere in the Internet.
type lab struct {
	host, up, far *testnet.Host
}

// Addresses of the lab.
const (
	linkPrefix = "2001:db8:1::/64" // on the shared link
	hostIPv6   = "2001:db8:1::2"
	hostIPv4   = "198.51.100.2"
	upIPv6     = "2001:db8:1::1"
	upIPv4     = "198.51.100.1"
	farIPv6    = "2001:db8:ffff::2"
	farIPv4    = "203.0.113.2"
)

// newLab sets the network up. It goes at the end of the test.
func newLab(t *testing.T) *lab {
	t.Helper()
	l := &lab{testnet.Self(t), testnet.New(t, "up"), testnet.New(t, "far")}
	testnet.Connect(t, l.host, "eth0", l.up, "lan0")
	testnet.Connect(t, l.up, "far0", l.far, "eth0")
	for _, a := range []struct {
		host          *testnet.Host
		link, address string
	}{
		{l.host, "eth0", hostIPv6 + "/64"},
		{l.host, "eth0", hostIPv4 + "/24"},
		{l.up, "lan0", upIPv6 + "/64"},
		{l.up, "lan0", upIPv4 + "/24"},
		{l.up, "far0", "2001:db8:ffff::1/64"},
		{l.up, "far0", "203.0.113.1/24"},
		{l.far, "eth0", farIPv6 + "/64"},
		{l.far, "eth0", farIPv4 + "/24"},
	} {
		a.host.Run(t, "ip", "address", "add", a.address, "dev", a.link)
	}
	l.up.Sysctl(t, "net/ipv6/conf/all/forwarding", "1")
	l.up.Sysctl(t, "net/ipv4/ip_forward", "1")
	for _, r := range []struct {
		host    *testnet.Host
		gateway string
	}{
		{l.host, upIPv6}, {l.host, upIPv4}, {l.far, "2001:db8:ffff::1"}, {l.far, "203.0.113.1"},
	} {
		r.host.Run(t, "ip", "route", "add", "default", "via", r.gateway)
	}
	return l
}

// onEveryEngine runs a test on every release of the engine, each in a new lab
// with the plugin installed.
func onEveryEngine(t *testing.T, test func(t *testing.T, l *lab, e *testengine.Engine)) {
	for _, release := range testengine.Releases() {
		t.Run(release, func(t *testing.T) {
			l := newLab(t)
			e := testengine.Start(t, testengine.Options{Release: release, Host: l.host})
			e.InstallPlugin(t, pluginDir(t), pluginName)
			test(t, l, e)
		})
	}
}

// pluginDir is where `make plugin` puts the plugin.
func pluginDir(t *testing.T) string {
	t.Helper()
	dir, err := filepath.Abs("../../build/plugin")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(filepath.Join(dir, "config.json")); err != nil {
		t.Fatalf("run make plugin first: %v", err)
	}
	return dir
}

// fetchTimeout is long for a packet that was lost and short for a test of what
// does not get through.
const fetchTimeout = 3 * time.Second

// fetch gets http://ADDRESS/ as seen from a host, in one new connection.
func fetch(t *testing.T, from *testnet.Host, address string) (string, error) {
	t.Helper()
	client := &http.Client{
		Transport: &http.Transport{DialContext: from.DialContext, DisableKeepAlives: true},
		Timeout:   fetchTimeout,
	}
	answer, err := client.Get("http://" + address + "/")
	if err != nil {
		return "", fmt.Errorf("fetch from %s: %w", from.Name(), err)
	}
	defer func() { _ = answer.Body.Close() }()
	body, err := io.ReadAll(answer.Body)
	if err != nil {
		return "", fmt.Errorf("fetch from %s: %w", from.Name(), err)
	}
	return string(body), nil
}

// mustFetch fetches, and tries again while the server in the container starts.
func mustFetch(t *testing.T, from *testnet.Host, address string) string {
	t.Helper()
	deadline := time.Now().Add(3 * fetchTimeout)
	for {
		body, err := fetch(t, from, address)
		if err == nil {
			return body
		}
		if time.Now().After(deadline) {
			t.Fatal(err)
		}
		time.Sleep(50 * time.Millisecond)
	}
}

// mustNotFetch checks that nobody answers at an address.
func mustNotFetch(t *testing.T, from *testnet.Host, address string) {
	t.Helper()
	if body, err := fetch(t, from, address); err == nil {
		t.Errorf("%s got %q from %s, want no answer", from.Name(), body, address)
	}
}

// The lab itself: a machine in the Internet reaches the host through its
// router, in both families, and a server there answers.
func TestLab(t *testing.T) {
	l := newLab(t)
	l.far.Run(t, "ping", "-c", "1", "-W", "2", hostIPv6)
	l.far.Run(t, "ping", "-c", "1", "-W", "2", hostIPv4)
	l.host.Run(t, "ping", "-c", "1", "-W", "2", farIPv6)
	mustNotFetch(t, l.far, "["+hostIPv6+"]")

	e := testengine.Start(t, testengine.Options{Host: l.host})
	e.CLI(t, "run", "-d", "--network", "host", e.Image(t))
	mustFetch(t, l.far, "["+hostIPv6+"]")
	mustFetch(t, l.up, hostIPv4)
}
