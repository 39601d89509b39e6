//go:build engine

package engine_test

import (
	"context"
	"os"
	"path/filepath"
	"testing"

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

	engine *testengine.Engine // of startEngine
	podman *testengine.Podman // of startPodman; one of the two is nil
	cli    commands           // of the one that is not
	image  string             // what containers are made of: testengine.Engine.Image
}

// commands are what Docker and Podman have alike.
type commands interface {
	CLI(t testing.TB, args ...string) string
	Try(ctx context.Context, args ...string) (string, error)
	Inspect(t testing.TB, container, format string) string
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
	l := &lab{host: testnet.Self(t), up: testnet.New(t, "up"), far: testnet.New(t, "far")}
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
		a.host.AddAddress(t, a.address, a.link)
	}
	// Namespaces take some settings over from the machine's own.
	l.host.Sysctl(t, "net/ipv6/conf/all/forwarding", "0")
	l.host.Sysctl(t, "net/ipv4/ip_forward", "0")
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

// startEngine starts an engine on the host.
func (l *lab) startEngine(t *testing.T, options testengine.Options) {
	t.Helper()
	options.Host = l.host
	l.engine = testengine.Start(t, options)
	l.cli, l.image = l.engine, l.engine.Image(t)
}

// installPlugin makes and enables the managed plugin that `make plugin` built.
func (l *lab) installPlugin(t *testing.T) {
	t.Helper()
	// With live restore it would outlive the engine. If the test has disabled
	// it, all is well.
	t.Cleanup(func() { _, _ = l.engine.Try(context.Background(), "plugin", "disable", "-f", pluginName) })
	l.engine.InstallPlugin(t, pluginDir(t), pluginName)
}

// onEveryEngine runs a test on every release of the engine, each in a new lab
// without the plugin.
func onEveryEngine(t *testing.T, options testengine.Options, test func(t *testing.T, l *lab)) {
	for _, release := range testengine.Releases() {
		t.Run(release, func(t *testing.T) {
			l := newLab(t)
			options := options
			options.Release = release
			l.startEngine(t, options)
			test(t, l)
		})
	}
}

// pluginDir is where `make plugin` puts the plugin.
func pluginDir(t *testing.T) string {
	t.Helper()
	return built(t, "build/plugin")
}

// program is v6net itself, as `make build` makes it.
func program(t *testing.T) string {
	t.Helper()
	return built(t, "bin/v6net")
}

// built is the absolute path of what make has built.
func built(t *testing.T, path string) string {
	t.Helper()
	absolute, err := filepath.Abs(filepath.Join("../..", path))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(absolute); err != nil {
		t.Fatalf("run make plugin first: %v", err)
	}
	return absolute
}

// The lab itself: a machine in the Internet reaches the host through its
// router, in both families, and a server there answers.
func TestLab(t *testing.T) {
	l := newLab(t)
	l.far.Run(t, "ping", "-c", "1", "-W", "2", hostIPv6)
	l.far.Run(t, "ping", "-c", "1", "-W", "2", hostIPv4)
	l.host.Run(t, "ping", "-c", "1", "-W", "2", farIPv6)
	mustNotFetch(t, l.far, bracket(hostIPv6))

	serveClientAddress(t, l.host)
	if got := mustFetch(t, l.far, bracket(hostIPv6)); got != farIPv6 {
		t.Errorf("the host sees client %s, want %s", got, farIPv6)
	}
	mustFetch(t, l.up, hostIPv4)
}
