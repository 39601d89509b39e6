//go:build engine

package engine_test

import (
	"context"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/v6net/v6net/internal/testengine"
)

// The package on a machine with systemd, beside a Docker engine whose container runs on
// while it is upgraded from an earlier build with an older journal, removed and installed
// again; a purge leaves nothing.
func TestPackages(t *testing.T) {
	l := newLab(t)
	l.startEngine(t, testengine.Options{Release: machines})
	before := hostState(t, l.host)
	t.Run("package", func(t *testing.T) { testPackage(t, l) })
	mustEqual(t, "package purged", before, hostState(t, l.host))
}

func testPackage(t *testing.T, l *lab) {
	for _, folder := range []string{"packages", "previous"} {
		packages, err := filepath.Glob(module + "/build/" + folder + "/*.deb")
		if err != nil || len(packages) == 0 {
			t.Fatalf("run make packages and scripts/previous first: %v", err)
		}
	}
	// The engine's folder of plugins, where the service is to make its socket, is the
	// machine's, too.
	plugins := filepath.Join(l.engine.RunDir(), "docker/plugins")
	machine := testengine.StartSystemd(t, l.host, plugins)
	run := func(script string) string {
		t.Helper()
		out, err := machine.Run(t.Context(), "bash", "-euo", "pipefail", "-c", script)
		if err != nil {
			t.Fatal(err)
		}
		return out
	}
	run(`
		rm -f /var/lib/man-db/auto-update
		mkdir /root/packages
		cp build/packages/*_"$(dpkg --print-architecture)".deb /root/packages/new.deb
		cp build/previous/*_"$(dpkg --print-architecture)".deb /root/packages/old.deb`)
	installed := func() string { return run("find /etc /usr /var/lib /run -xdev -name '*v6net*' | sort") }
	files := installed()
	version := func() string { return run("dpkg-query -W -f '${Version}' v6net") }
	service := func() string {
		return run("systemctl is-active v6net.service; systemctl is-enabled v6net.service; systemctl show -P MainPID v6net.service")
	}

	run("apt-get install -y /root/packages/old.deb; echo V6NET_PLUGIN_SOCKET=" + plugins + "/v6net.sock >>/etc/default/v6net")
	if out, err := machine.Run(t.Context(), "systemctl", "is-active", "v6net.service"); err == nil {
		t.Errorf("an installation starts the service, which is for its user to enable: %s", out)
	}
	run("systemctl enable --now v6net.service")
	first := service()
	l.anyNetwork(t, "web", "-d", "v6net", "--ipam-driver", "v6net", "--ipv6")
	l.containerWith(t, "web", echoCommand, "--network", "web", "-p", "7:7", "-p", "8080:80")
	address := l.ipv6(t, "web", "web")
	mustFetch(t, l.far, bracket(address))
	talk := converse(t, l.far, bracket(address)+":7")

	// The proxy alone, on a link of its own.
	const proxy = "systemctl is-active v6net-ndproxy.service; systemctl is-enabled v6net-ndproxy.service"
	l.host.Run(t, "ip", "link", "add", "proxied", "type", "veth", "peer", "name", "beyond")
	t.Cleanup(func() {
		if out, err := l.host.Command(context.Background(), "ip", "link", "del", "proxied").CombinedOutput(); err != nil {
			t.Errorf("%v: %s", err, out)
		}
	})
	l.host.Run(t, "ip", "link", "set", "proxied", "up")
	run(`echo 'NDPROXY="--interface proxied --prefix 2001:db8:ff::/64"' >/etc/default/v6net-ndproxy; systemctl enable --now v6net-ndproxy.service`)
	proxyPID := run("systemctl show -P MainPID v6net-ndproxy.service")

	before := version()
	// As an upgrade by apt: what the administrator has changed is asked for, and kept.
	run("apt-get install -y -o Dpkg::Options::=--force-confold /root/packages/new.deb")
	if after := version(); after == before {
		t.Errorf("%s was upgraded to %s", before, after)
	}
	if second := service(); second == first || !strings.HasPrefix(second, "active\nenabled\n") {
		t.Errorf("after the upgrade the service is %q, before it was %q: want it started again", second, first)
	}
	run("grep -q '^V6NET_PLUGIN_SOCKET=' /etc/default/v6net")
	if out := run(proxy); out != "active\nenabled" || run("systemctl show -P MainPID v6net-ndproxy.service") == proxyPID {
		t.Errorf("after the upgrade the proxy alone is %q, and its old program runs on", out)
	}
	// Its unit leaves it a folder for the socket of its metrics.
	run(`sed -i 's|/64|/64 --metrics unix:///run/v6net-ndproxy/metrics.sock|' /etc/default/v6net-ndproxy
		systemctl restart v6net-ndproxy.service
		curl -sS --retry 10 --retry-all-errors --retry-delay 1 --unix-socket /run/v6net-ndproxy/metrics.sock http://v6net/healthz`)
	if out := run("v6net status"); !strings.Contains(out, address) {
		t.Errorf("upgraded, it does not know %s:\n%s", address, out)
	}
	// The older one cannot read the journal, and its own script leaves dpkg in the middle, with a unit
	// that is given up where that is as quick as here; the way back is an upgrade like the first.
	run(`mkdir /etc/systemd/system/v6net.service.d
		printf '[Unit]\nStartLimitIntervalSec=1h\nStartLimitBurst=2\n' >/etc/systemd/system/v6net.service.d/limit.conf
		apt-get install -y --allow-downgrades -o Dpkg::Options::=--force-confold /root/packages/old.deb || true
		[ -e build/previous/shallow ] || timeout 60 sh -c 'until systemctl is-failed v6net.service; do sleep 0.2; done'
		rm -r /etc/systemd/system/v6net.service.d`)
	run("apt-get install -y -o Dpkg::Options::=--force-confold /root/packages/new.deb")
	if back := service(); !strings.HasPrefix(back, "active\nenabled\n") || run("dpkg --audit") != "" {
		t.Errorf("after the way back the service is %q", back)
	}
	// A daemon that does not come up is no reason for dpkg to be left in the middle.
	// Why is shown out of the journal, which this machine does not have.
	run(`mv /usr/bin/journalctl /usr/bin/journalctl.away
		printf '#!/bin/sh\necho "the journal of $*"\n' >/usr/bin/journalctl; chmod +x /usr/bin/journalctl`)
	out := run("echo V6NET_LOG_LEVEL=nonsense >>/etc/default/v6net; apt-get install -y --reinstall -o Dpkg::Options::=--force-confold /root/packages/new.deb")
	if audit := run("dpkg --audit"); !strings.Contains(out, "v6net.service does not start") || !strings.Contains(out, "the journal of -q -o cat -n 1 _SYSTEMD_UNIT=v6net.service") || audit != "" {
		t.Errorf("with a setting that is wrong the package is left with %q, and it is said:\n%s", audit, out)
	}
	run("mv /usr/bin/journalctl.away /usr/bin/journalctl; sed -i /nonsense/d /etc/default/v6net; systemctl restart v6net.service")
	l.container(t, "other", "--network", "web")
	mustFetch(t, l.host, bracket(l.ipv6(t, "other", "web")))
	l.docker(t, "rm", "-f", "other")

	out = run("apt-get remove -y v6net")
	if !strings.Contains(out, "these networks stay as they are") || !strings.Contains(out, "NETWORK") {
		t.Errorf("a removal says nothing of the networks that stay:\n%s", out)
	}
	if left := run("(" + proxy + ") 2>&1 || true; find /etc/systemd -name '*v6net*'"); strings.Contains(left, "\nactive") || strings.HasPrefix(left, "active") || strings.Contains(left, "/") {
		t.Errorf("removed, it has left of its services: %s", left)
	}
	run("rm /etc/default/v6net-ndproxy; apt-get install -y /root/packages/new.deb; systemctl enable --now v6net.service")
	if out := run("v6net status"); !strings.Contains(out, address) {
		t.Errorf("removed and installed again, it does not know %s:\n%s", address, out)
	}
	talk.mustHaveGoneOn(t, unnoticed)

	l.docker(t, "rm", "-f", "web")
	l.docker(t, "network", "rm", "web")
	run("apt-get purge -y v6net")
	if diff := cmp.Diff(files, installed()); diff != "" {
		t.Errorf("a purge leaves other files than there were (-before +after):\n%s", diff)
	}
	if out, err := machine.Run(context.Background(), "systemctl", "cat", "v6net.service"); err == nil {
		t.Errorf("a purge leaves systemd with the unit: %s", out)
	}
}
