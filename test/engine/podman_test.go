//go:build engine

package engine_test

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/v6net/v6net/internal/testnet"
)

// Podman, by the same cases as Docker.
func TestPodmanAsDocker(t *testing.T) {
	onPodman(t, func(t *testing.T, l *lab, _ *podmanDaemon) {
		l.each(t, []part{
			{"main path", testMainPath},
			{"sources", testSources},
			{"options", testOptions},
			{"duplicate addresses", testDAD},
			{"macvlan", testMacvlan},
			{"ipvlan", testIPvlan},
			{"parallel", testParallel},
		})
	})
}

// What only Podman has, or does otherwise.
func TestPodman(t *testing.T) {
	onPodman(t, func(t *testing.T, l *lab, d *podmanDaemon) {
		l.route(t, routed)
		for _, part := range []struct {
			name string
			test func(t *testing.T, l *lab, d *podmanDaemon)
		}{
			{"several networks", testPodmanNetworks},
			{"advertisements", testPodmanAdvertisements},
			{"published in each family", testPodmanFamilies},
			{"reload", testPodmanReload},
			{"on a parent", testPodmanOnParent},
			{"made again", func(t *testing.T, l *lab, _ *podmanDaemon) { testPodmanMadeAgain(t, l) }},
			{"names", testPodmanNames},
			{"host-local", testPodmanHostLocal},
			{"refusals", testPodmanRefusals},
			{"removed behind the back", testPodmanRemoved},
			{"daemon restarted", testPodmanDaemonRestarted},
			{"daemon away", testPodmanDaemonAway},
			{"container killed", testPodmanKilled},
			{"socket activation", testPodmanActivation},
		} {
			l.traceless(t, part.name, func(t *testing.T) { part.test(t, l, d) })
		}
	})
}

// A container has its default route and its published ports by the first of its
// networks, in the order of its interfaces; the next takes over when that is gone.
func testPodmanNetworks(t *testing.T, l *lab, _ *podmanDaemon) {
	for i, name := range []string{"net-a", "net-b"} {
		l.network(t, name, "--subnet", fmt.Sprintf("2001:db8:2:%d::/64", i))
	}
	l.container(t, "web", "--network", "net-a:interface_name=eth0", "--network", "net-b:interface_name=eth1", "-p", "8080:80")
	by := func(gateway, other string) {
		t.Helper()
		address := l.ipv6(t, "web", gateway)
		dev := l.linkWith(t, "web", address)
		for _, family := range []string{"-4", "-6"} {
			if route := l.in(t, "web", "ip", family, "route", "get", map[string]string{"-4": farIPv4, "-6": farIPv6}[family]); !strings.Contains(route, "dev "+dev+" ") {
				t.Errorf("route to the outside is %q, want one by %s, on %s", route, dev, gateway)
			}
		}
		mustFetch(t, l.far, bracket(address))
		mustFetch(t, l.far, hostIPv4+":8080")
		if other != "" {
			mustNotFetch(t, l.far, bracket(l.ipv6(t, "web", other)))
		}
	}
	by("net-a", "net-b")
	l.docker(t, "network", "disconnect", "net-a", "web")
	by("net-b", "")
	l.docker(t, "network", "connect", "net-a", "web")
	if links := l.in(t, "web", "ip", "-brief", "link"); strings.Count(links, "eth") != 2 {
		t.Errorf("after connect the container has\n%s", links)
	}
	mustFetch(t, l.far, hostIPv4+":8080")
}

// Where the first network lacks a family, a port is published in it by the next.
func testPodmanFamilies(t *testing.T, l *lab, _ *podmanDaemon) {
	l.network(t, "six", "--subnet", "2001:db8:2:1::/64", "-o", "ipv4=off")
	l.network(t, "dual", "--subnet", "2001:db8:2:2::/64")
	l.container(t, "web", "--network", "six:interface_name=eth0", "--network", "dual:interface_name=eth1", "-p", "8080:80")
	mustFetch(t, l.far, bracket(l.ipv6(t, "web", "six")))
	mustFetch(t, l.far, hostIPv4+":8080")
	mustNotFetch(t, l.far, bracket(l.ipv6(t, "web", "dual")))
	l.docker(t, "network", "disconnect", "six", "web")
	mustFetch(t, l.far, bracket(l.ipv6(t, "web", "dual")))
	mustFetch(t, l.far, hostIPv4+":8080")
}

// Router advertisements are for what the engine has not set, as with Docker.
func testPodmanAdvertisements(t *testing.T, l *lab, _ *podmanDaemon) {
	t.Run("auto", func(t *testing.T) { testAdvertisedAuto(t, l) })
	t.Run("SLAAC", func(t *testing.T) { testAdvertisedSLAAC(t, l) })
	t.Run("nested host", func(t *testing.T) {
		serveClientAddress(t, l.far)
		testAdvertisedOn(t, l)
	})
}

// `podman network reload` takes all away and makes it again, as it was.
func testPodmanReload(t *testing.T, l *lab, _ *podmanDaemon) {
	testPodmanReloadOn(t, l, "--subnet", "2001:db8:2:1::/64")
	l.network(t, "net", "--subnet", "2001:db8:2:1::/64")
	l.container(t, "web", "--network", "net", "-p", "8080:80")
	l.docker(t, "network", "reload", "web")
	mustFetch(t, l.far, hostIPv4+":8080")
}

// testPodmanReloadOn reloads containers whose addresses v6net or their user chose.
func testPodmanReloadOn(t *testing.T, l *lab, options ...string) {
	for _, named := range []bool{false, true} {
		t.Run(map[bool]string{false: "found address", true: "--ip6"}[named], func(t *testing.T) {
			l.network(t, "net", options...)
			args := []string{"--network", "net", "-p", "80:80"}
			if named {
				first := l.subnet(t, "net").Prefix.Addr().As16()
				first[15] = 0x77
				args = append(args, "--ip6", netip.AddrFrom16(first).String())
			}
			l.container(t, "web", args...)
			state := func() string {
				return stripIndex(l.in(t, "web", "sh", "-c", "ip -brief link show eth0; ip -brief address show eth0 scope global; ip -6 route show default; ip -4 route show default"))
			}
			mustFetch(t, l.far, bracket(l.ipv6(t, "web", "net")))
			before := state()
			for range 2 {
				l.docker(t, "network", "reload", "web")
				if after := state(); before != after {
					t.Errorf("after a reload the container has\n%s\nbefore it had\n%s", after, before)
				}
				mustFetch(t, l.far, bracket(l.ipv6(t, "web", "net")))
			}
		})
	}
}

// stripIndex takes the index of a veth's other end out of its name.
func stripIndex(text string) string {
	var out []string
	for _, word := range strings.Fields(text) {
		name, _, _ := strings.Cut(word, "@")
		out = append(out, name)
	}
	return strings.Join(out, " ")
}

// Containers find each other by name where the network has dns=on. Elsewhere --dns
// is what the container's user says.
func testPodmanNames(t *testing.T, l *lab, _ *podmanDaemon) {
	l.network(t, "named", "--subnet", "2001:db8:2:1::/64", "-o", "dns=on")
	l.container(t, "web", "--network", "named:alias=www")
	l.container(t, "client", "--network", "named")
	for _, name := range []string{"web", "www", "web.dns.podman", "www.dns.podman"} {
		for kind, want := range map[string]string{"aaaa": l.ipv6(t, "web", "named"), "a": l.ipv4(t, "web", "named")} {
			// The image's libc is static, and can resolve nothing by itself.
			if out := l.docker(t, "exec", "client", "nslookup", "-type="+kind, name); !strings.Contains(out, want) {
				t.Errorf("%s has not the container's address %s:\n%s", name, want, out)
			}
		}
	}
	if conf := l.docker(t, "exec", "client", "cat", "/etc/resolv.conf"); !strings.Contains(conf, "search dns.podman") || !strings.Contains(conf, "nameserver 2001:db8:2:1::1") {
		t.Errorf("resolv.conf of a network with names:\n%s", conf)
	}
	// The name server's addresses are global ones, and it is no resolver for the world.
	server6, server4 := l.subnet(t, "named").Gateway.String(), l.docker(t, "network", "inspect", "-f", "{{(index .Subnets 1).Gateway}}", "named")
	for _, network := range []string{"udp", "tcp"} {
		if !answersNames(t, l.host, network, server6) {
			t.Errorf("%s: the host itself has no answer from %s", network, server6)
		}
		for _, server := range []string{server6, server4} {
			if answersNames(t, l.far, network, server) {
				t.Errorf("%s: somebody in the Internet has an answer from %s", network, server)
			}
		}
	}
	l.network(t, "beside", "--subnet", "2001:db8:2:3::/64", "-o", "isolate=off")
	l.container(t, "stranger", "--network", "beside")
	for _, server := range []string{server6, server4} {
		if out, err := l.cli.Try(t.Context(), "exec", "stranger", "nslookup", "-type=aaaa", "web.dns.podman", server); err == nil {
			t.Errorf("a container of another network has an answer from %s:\n%s", server, out)
		}
	}
	l.docker(t, "rm", "-f", "-t", "0", "stranger")
	// One name that cannot be written does not take all others away.
	out, err := l.cli.Try(t.Context(), "run", "-d", "--name", "spaced", "--network", "named", "--network-alias", "a b", l.image)
	l.discard(t, "rm", "-f", "spaced")
	if err == nil || !strings.Contains(out, `"a b" is no name`) {
		t.Errorf("an alias with a space: %v: %s", err, out)
	}
	if out := l.docker(t, "exec", "client", "nslookup", "-type=aaaa", "web"); !strings.Contains(out, l.ipv6(t, "web", "named")) {
		t.Errorf("beside it, web is\n%s", out)
	}

	l.docker(t, "rm", "-f", "-t", "0", "web")
	if out, err := l.cli.Try(t.Context(), "exec", "client", "nslookup", "web.dns.podman"); err == nil {
		t.Errorf("the name of a container that is gone:\n%s", out)
	}
	l.docker(t, "rm", "-f", "-t", "0", "client")
	eventually(t, "the end of aardvark-dns with its last network", func() bool {
		return l.host.Command(t.Context(), "pidof", "aardvark-dns").Run() != nil
	})

	l.network(t, "plain", "--subnet", "2001:db8:2:2::/64")
	conf := l.docker(t, "run", "--rm", "--network", "plain", "--dns", "2001:db8::53", l.image, "cat", "/etc/resolv.conf")
	if !strings.Contains(conf, "nameserver 2001:db8::53") || strings.Count(conf, "nameserver") != 1 {
		t.Errorf("--dns 2001:db8::53: the container has\n%s", conf)
	}
}

// answersNames reports whether a name server answers a question for the address of web
// that is asked from a host.
func answersNames(t *testing.T, from *testnet.Host, network, server string) bool {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), silence)
	defer cancel()
	resolver := net.Resolver{PreferGo: true, StrictErrors: true, Dial: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return from.DialContext(ctx, network, net.JoinHostPort(server, "53"))
	}}
	addrs, err := resolver.LookupNetIP(ctx, "ip6", "web.dns.podman.")
	var failed *net.DNSError
	return len(addrs) > 0 || errors.As(err, &failed) && failed.IsNotFound
}

// Podman's own addresses are honoured where the user asks for them, and the first
// process of a container can use what it gets.
func testPodmanHostLocal(t *testing.T, l *lab, _ *podmanDaemon) {
	l.network(t, "net", "--subnet", "2001:db8:2:1::/64", "--ipam-driver", "host-local")
	l.container(t, "web", "--network", "net", "-p", "80")
	if got := l.ipv6(t, "web", "net"); got != "2001:db8:2:1::2" {
		t.Errorf("the container has %s, want Podman's first address", got)
	}
	mustFetch(t, l.far, bracket(l.ipv6(t, "web", "net")))
	out := l.docker(t, "run", "--rm", "--network", "net", l.image, "ip", "address", "show", "dev", "eth0")
	if strings.Contains(out, "tentative") || !strings.Contains(out, "2001:db8:2:1::3/64") {
		t.Errorf("a container's first process sees\n%s", out)
	}
}

func testPodmanRefusals(t *testing.T, l *lab, _ *podmanDaemon) {
	l.network(t, "net", "--subnet", "2001:db8:2:1::/64", "--subnet", "10.79.0.0/24")
	l.network(t, "egress", "--subnet", "2001:db8:2:2::/64", "-o", "inbound=none")
	l.container(t, "web", "--network", "net", "--ip6", "2001:db8:2:1::77", "-p", "8080:80")
	var busy net.Listener
	l.host.Do(t, func() {
		var err error
		if busy, err = net.Listen("tcp", ":8081"); err != nil {
			t.Fatal(err)
		}
	})
	defer func() { _ = busy.Close() }()
	create := func(args ...string) []string {
		return append(append([]string{"network", "create", "-d", "v6net"}, args...), "refused")
	}
	run := func(args ...string) []string {
		return append(append([]string{"run", "-d", "--name", "refused"}, args...), l.image)
	}
	for _, tc := range []struct {
		name    string
		command []string
		want    string
	}{
		{"an unknown option", create("-o", "isolation=yes"), `unknown option "isolation" (known: `},
		{"a bad value", create("-o", "inbound=maybe"), `option inbound: "maybe" is not allowed (allowed: published, open, none)`},
		{"a bad label", create("--label", "v6net.source=dhcp"), `option source: "dhcp" is not allowed`},
		{"a subnet that is in use", create("--subnet", "2001:db8:2:1::/64"), "2001:db8:2:1::/64"},
		{"a prefix that is too long", create("--subnet", "2001:db8:2:3::/127"), "prefix length 127 cannot work"},
		{"Podman's DHCP", create("--ipam-driver", "dhcp"), "v6net itself gives containers their addresses"},
		{"names without an address of the host's", create("-o", "dns=on", "-o", "mode=macvlan"), "option dns=on: with mode=macvlan this host has no address"},
		{"name servers for nobody", create("--dns", "1.1.1.1"), "--dns 1.1.1.1: without -o dns=on"},
		{"an address of another container's", run("--network", "net", "--ip6", "2001:db8:2:1::77"), "2001:db8:2:1::77"},
		{"an address outside", run("--network", "net", "--ip6", "2001:db8:9::1"), "is in none of the network's subnets"},
		{"a port with inbound=none", run("--network", "egress", "-p", "80"), "inbound=none: no port can be published"},
		{"a port that is published", run("--network", "net", "-p", "8080:80"), "8080"},
		{"a port of a program of the host's", run("--network", "net", "-p", "8081:80"), "address already in use"},
		{"an option of the container's", run("--network", "net:colour=red"), "colour"},
	} {
		l.traceless(t, tc.name, func(t *testing.T) {
			defer l.discard(t, "rm", "-f", "refused")
			out, err := l.cli.Try(t.Context(), tc.command...)
			if err == nil || !strings.Contains(out, tc.want) {
				t.Errorf("%q: %v: %s\nwant %q", tc.command, err, out, tc.want)
			}
		})
	}
	t.Run("rootless", func(t *testing.T) {
		plugin := l.podman.Command(t.Context(), "/", "setpriv", "--reuid=1000", "--clear-groups", "/usr/lib/netavark/v6net", "create")
		plugin.Stdin = strings.NewReader("{}")
		out, err := plugin.Output()
		if err == nil || !strings.Contains(string(out), "v6net serves rootful Podman only") {
			t.Errorf("without root's rights: %v: %s", err, out)
		}
	})
	mustFetch(t, l.far, bracket("2001:db8:2:1::77"))
}

// There is no call for a network that is deleted. What Podman has no longer goes,
// with the daemon running or when it starts; a file that is being replaced, and a
// network with a container on it, stay.
func testPodmanRemoved(t *testing.T, l *lab, d *podmanDaemon) {
	ctx := t.Context()
	const folder = "/etc/containers/networks/"
	l.network(t, "net", "--subnet", "2001:db8:2:1::/64")
	move := func(from, to string) {
		t.Helper()
		if out, err := l.podman.Run(ctx, "/", "mv", folder+from, folder+to); err != nil {
			t.Fatalf("%v: %s", err, out)
		}
	}
	move("net.json", "net.json.old")
	time.Sleep(300 * time.Millisecond)
	move("net.json.old", "net.json")
	time.Sleep(2 * time.Second)
	if !l.hasNetwork(ctx, t, "net") {
		t.Error("a network is removed while its file is replaced")
	}

	l.container(t, "web", "--network", "net", "-p", "80")
	move("net.json", "../net.json.old")
	time.Sleep(2 * time.Second)
	mustFetch(t, l.far, bracket(l.ipv6(t, "web", "net")))
	move("../net.json.old", "net.json")
	l.docker(t, "rm", "-f", "-t", "0", "web")

	d.end(t)
	l.docker(t, "network", "rm", "net")
	d.start(t)
	eventually(t, "the removal of a network that was deleted without a daemon", func() bool { return !l.hasNetwork(ctx, t, "net") })
}

// Containers do not notice that the daemon is killed and started again, and what
// ended meanwhile is gone.
func testPodmanDaemonRestarted(t *testing.T, l *lab, d *podmanDaemon) {
	l.network(t, "net")
	l.containerWith(t, "web", echoCommand, "--network", "net", "-p", "8080:80", "-p", "7:7")
	l.container(t, "other", "--network", "net")
	address := l.ipv6(t, "web", "net")
	mustFetch(t, l.far, bracket(address))
	talk := converse(t, l.far, bracket(address)+":7")
	d.kill(t)
	if out, err := l.cli.Try(t.Context(), "rm", "-f", "-t", "0", "other"); err != nil {
		t.Logf("podman rm without a daemon: %v: %s", err, out)
	}
	mustFetch(t, l.far, hostIPv4+":8080")
	d.start(t)
	mustFetch(t, l.far, bracket(address))
	talk.mustHaveGoneOn(t, unnoticed)
	if n := l.status(t).Networks; len(n) != 1 || len(n[0].Endpoints) != 1 || n[0].Error != "" {
		t.Errorf("v6net has %+v, want one network with one endpoint", n)
	}
	l.container(t, "next", "--network", "net")
	mustFetch(t, l.host, bracket(l.ipv6(t, "next", "net")))
}

// Without a daemon Podman says how to start one, and leaves nothing.
func testPodmanDaemonAway(t *testing.T, l *lab, d *podmanDaemon) {
	l.network(t, "net", "--subnet", "2001:db8:2:1::/64")
	d.end(t)
	for _, command := range [][]string{
		{"run", "-d", "--name", "web", "--network", "net", l.image},
		{"network", "create", "-d", "v6net", "refused"},
	} {
		out, err := l.cli.Try(t.Context(), command...)
		if err == nil || !strings.Contains(out, "no v6net daemon answers: start it with `systemctl enable --now v6net.service`, or without systemd with `v6net daemon`") {
			t.Errorf("%q without a daemon: %v: %s", command, err, out)
		}
	}
	l.discard(t, "rm", "-f", "web")
	d.start(t)
	l.container(t, "web", "--network", "net", "-p", "80")
	mustFetch(t, l.far, bracket(l.ipv6(t, "web", "net")))
}

// A container whose process is killed leaves nothing, and starts again.
func testPodmanKilled(t *testing.T, l *lab, _ *podmanDaemon) {
	l.network(t, "net", "--subnet", "2001:db8:2:1::/64")
	l.container(t, "web", "--network", "net", "-p", "8080:80")
	before := l.ipv6(t, "web", "net")
	l.host.Run(t, "kill", "-KILL", l.inspect(t, "web", "{{.State.Pid}}"))
	eventually(t, "the end of the endpoint", func() bool { return len(l.status(t).Networks[0].Endpoints) == 0 })
	mustNotFetch(t, l.far, bracket(before), hostIPv4+":8080")
	l.docker(t, "start", "web")
	mustFetch(t, l.far, bracket(l.ipv6(t, "web", "net")))
	mustFetch(t, l.far, hostIPv4+":8080")
	l.docker(t, "restart", "-t", "0", "web")
	mustFetch(t, l.far, hostIPv4+":8080")
}

// systemd opens the control socket and hands it to the daemon: a call that came
// before the daemon is answered.
func testPodmanActivation(t *testing.T, l *lab, d *podmanDaemon) {
	d.end(t)
	path := filepath.Join(l.podman.RunDir(), "v6net/v6net.sock")
	listener, err := net.ListenUnix("unix", &net.UnixAddr{Name: path})
	if err != nil {
		t.Fatal(err)
	}
	listener.SetUnlinkOnClose(false) // it is systemd's
	socket, err := listener.File()
	if err != nil {
		t.Fatal(err)
	}
	if err := listener.Close(); err != nil {
		t.Fatal(err)
	}
	waiting := make(chan error, 1)
	go func() { waiting <- l.onEngine(context.Background(), t, program(t), "status").Run() }()
	d.handOver = []*os.File{socket}
	d.start(t)
	if err := <-waiting; err != nil {
		t.Errorf("a call from before the start: %v", err)
	}
	n := l.status(t)
	if len(n.Networks) != 0 {
		t.Errorf("networks %+v, want none", n.Networks)
	}
	d.end(t)
	if _, err := os.Stat(path); err != nil {
		t.Errorf("the daemon has removed systemd's socket: %v", err)
	}
	d.handOver = nil
	_ = socket.Close()
	d.start(t)
}
