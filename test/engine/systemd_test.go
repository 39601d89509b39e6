//go:build engine

package engine_test

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"

	"github.com/v6net/v6net/internal/testengine"
)

// The unit in packaging, installed as docs/install.md says and run by systemd with all
// that it forbids: the daemon does there what it does elsewhere.
func TestSystemdService(t *testing.T) {
	l := newLab(t)
	// Those that iptables makes for the second backend stay, empty.
	for _, program := range []string{"iptables", "ip6tables"} {
		for table, base := range map[string][]string{"raw": {"PREROUTING"}, "mangle": {"FORWARD", "INPUT"}, "nat": {"PREROUTING", "OUTPUT", "POSTROUTING"}} {
			for _, chain := range base {
				l.host.Run(t, program, "-t", table, "-A", chain, "-m", "comment", "--comment", "made", "-j", "ACCEPT")
				l.host.Run(t, program, "-t", table, "-D", chain, "-m", "comment", "--comment", "made", "-j", "ACCEPT")
			}
		}
	}
	before := hostState(t, l.host)
	t.Run("service", func(t *testing.T) { testSystemdService(t, l) })
	mustEqual(t, "service", before, hostState(t, l.host))
}

func testSystemdService(t *testing.T, l *lab) {
	program(t) // built
	machine := testengine.StartSystemd(t, l.host)
	run := func(args ...string) string {
		t.Helper()
		out, err := machine.Run(t.Context(), args...)
		if err != nil {
			log, _ := machine.Run(t.Context(), "tail", "-n", "20", "/run/v6net.log")
			t.Fatalf("%v\nThe service says\n%s", err, log)
		}
		return out
	}
	page, err := os.ReadFile("../../docs/install.md")
	if err != nil {
		t.Fatal(err)
	}
	_, section, _ := strings.Cut(string(page), "## As a plain service")
	section, _, _ = strings.Cut(section, "\n## ")
	section, _, _ = strings.Cut(section, "To remove it")
	// There is no journal here.
	run("sh", "-c", "mkdir -p /etc/systemd/system/v6net.service.d; printf '[Service]\nStandardOutput=append:/run/v6net.log\nStandardError=append:/run/v6net.log\n' >/etc/systemd/system/v6net.service.d/log.conf")
	for line := range strings.Lines(section) {
		if strings.HasPrefix(line, "install ") || strings.HasPrefix(line, "systemctl ") {
			run("sh", "-c", line)
		}
	}
	// Type=notify: it serves when it is active.
	if out := run("systemctl", "is-active", "v6net.service", "v6net.socket"); out != "active\nactive" {
		t.Fatalf("the units are %q", out)
	}
	run("test", "-S", "/run/docker/plugins/v6net.sock")

	plugin := built(t, "bin/netavark-v6net")
	create := func(t *testing.T, n int, name, options string) (network string) {
		t.Helper()
		id := strings.Repeat(fmt.Sprint(n), 64)
		t.Cleanup(func() {
			ctx, cancel := context.WithTimeout(context.Background(), patience) // it waits for a daemon
			defer cancel()
			if _, err := machine.Run(ctx, "v6net", "forget", id); err != nil {
				t.Error(err)
			}
		})
		call := fmt.Sprintf(`{"name": %q, "id": %q, "driver": "v6net", "internal": false, "ipv6_enabled": true, "dns_enabled": false, "options": %s}`, name, id, options)
		// What it says while it waits is not its answer.
		network, err := machine.RunWith(t.Context(), call, "sh", "-c", `exec "$0" create 2>/dev/null`, plugin)
		if err != nil {
			t.Fatalf("network %s: %v", name, err)
		}
		return network
	}
	t.Run("networks", func(t *testing.T) {
		create(t, 1, "lan", `{"mode": "macvlan", "ra": "off"}`) // for which it takes CAP_BPF
		create(t, 2, "web", `{}`)
		status := func() string { // but for what the daemon hears, counts and asks for itself
			text, _, _ := strings.Cut(run("v6net", "status"), "\nPARENT")
			return regexp.MustCompile(`(?m)^  advertises .*$`).ReplaceAllString(text, "")
		}
		networks := status()
		pid := run("systemctl", "show", "-P", "MainPID", "v6net.service")
		run("kill", "-KILL", pid)
		eventually(t, "the daemon's next life", func() bool {
			out, err := machine.Run(t.Context(), "systemctl", "show", "-P", "MainPID", "v6net.service")
			return err == nil && out != pid && out != "0"
		})
		if after := status(); after != networks || !strings.Contains(networks, "macvlan") || strings.Contains(networks, "ERROR") {
			t.Errorf("after a crash v6net has\n%s\nbefore it had\n%s", after, networks)
		}
	})
	t.Run("a reserved port", func(t *testing.T) { // for which it takes CAP_NET_BIND_SERVICE
		network := create(t, 3, "front", `{}`)
		run("ip", "netns", "add", "web")
		defer run("ip", "netns", "del", "web")
		call := fmt.Sprintf(`{"container_id": %q, "container_name": "web", "network": %s,
			"port_mappings": [{"container_port": 80, "host_ip": "", "host_port": 80, "protocol": "tcp", "range": 1}],
			"network_options": {"interface_name": "eth0"}}`, strings.Repeat("c", 64), network)
		if _, err := machine.RunWith(t.Context(), call, plugin, "setup", "/run/netns/web"); err != nil {
			t.Error(err)
		}
		// The daemon sees the namespaces of containers that have started since: it enters them when
		// their prefix changes.
		pid := run("systemctl", "show", "-P", "MainPID", "v6net.service")
		if out := run("nsenter", "--target", pid, "--mount", "stat", "-f", "-c", "%T", "/run/netns/web"); out != "nsfs" {
			t.Errorf("for the daemon /run/netns/web is %s, want a namespace", out)
		}
		if _, err := machine.RunWith(t.Context(), call, plugin, "teardown", "/run/netns/web"); err != nil {
			t.Error(err)
		}
	})
	// The programs of either variant run in what the unit leaves them, and what they have
	// put there goes with the setting.
	t.Run("firewall by ip6tables", func(t *testing.T) {
		create(t, 4, "rules", `{}`)
		kept := func(program string) bool { return strings.Contains(run(program, "-t", "mangle"), "v6net-forward") }
		for _, variant := range []string{"nft", "legacy"} {
			if variant == "legacy" {
				run("rm", "/usr/sbin/xtables-nft-multi") // of the layer alone
			}
			run("sh", "-c", "echo V6NET_FIREWALL=ip6tables >/etc/default/v6net")
			run("systemctl", "restart", "v6net.service")
			if out := run("v6net", "status"); !kept("ip6tables-"+variant+"-save") || strings.Contains(out, "ERROR") || strings.Contains(run("nft", "list", "tables"), "inet v6net") {
				t.Errorf("by ip6tables-%s:\n%s\n%s", variant, run("ip6tables-"+variant+"-save", "-t", "mangle"), out)
			}
			run("rm", "/etc/default/v6net")
			run("systemctl", "restart", "v6net.service")
			if kept("ip6tables-"+variant+"-save") || !strings.Contains(run("nft", "list", "tables"), "inet v6net") {
				t.Errorf("back by nftables:\n%s", run("ip6tables-"+variant+"-save", "-t", "mangle"))
			}
		}
	})
	// Who looks whether it is there does not start it; who asks it does.
	t.Run("stopped", func(t *testing.T) {
		run("systemctl", "stop", "v6net.service")
		out, _ := machine.Run(t.Context(), "v6net", "doctor") // which finds that it is stopped
		if active, _ := machine.Run(t.Context(), "systemctl", "is-active", "v6net.service", "v6net.socket"); active != "inactive\nactive" || !strings.Contains(out, "no v6net daemon answers") {
			t.Errorf("after v6net doctor the units are %q, and it says\n%s", active, out)
		}
		run("v6net", "status")
		if active := run("systemctl", "is-active", "v6net.service"); active != "active" {
			t.Errorf("after v6net status the service is %s", active)
		}
	})
	// What keeps it from starting may end at any time: systemd never gives it up.
	t.Run("eight failures", func(t *testing.T) {
		run("sh", "-ec", `mkdir /run/systemd/system/v6net.service.d
			printf '[Service]\nRestartSec=50ms\n' >/run/systemd/system/v6net.service.d/soon.conf
			systemctl daemon-reload
			systemctl stop v6net.service
			echo V6NET_LOG_LEVEL=nonsense >/etc/default/v6net
			systemctl start --no-block v6net.service`)
		eventually(t, "eight failures", func() bool {
			failed, err := strconv.Atoi(run("systemctl", "show", "-P", "NRestarts", "v6net.service"))
			return err == nil && failed >= 8
		})
		run("rm", "/etc/default/v6net")
		eventually(t, "the service", func() bool {
			out, err := machine.Run(t.Context(), "systemctl", "is-active", "v6net.service")
			return err == nil && out == "active"
		})
		run("sh", "-ec", "rm -r /run/systemd/system/v6net.service.d; systemctl daemon-reload")
	})
	// Its unit has less still. That it answers by eBPF is what all of it is for.
	t.Run("the proxy alone", func(t *testing.T) {
		run("install", "-m", "644", "packaging/systemd/v6net-ndproxy.service", "/etc/systemd/system/")
		run("sh", "-c", `mkdir -p /etc/systemd/system/v6net-ndproxy.service.d; printf '[Service]\nStandardError=append:/run/v6net.log\n' >/etc/systemd/system/v6net-ndproxy.service.d/log.conf
			echo 'NDPROXY="--interface eth0 --prefix 2001:db8:1::a:0/112 --path ebpf --metrics unix:///run/v6net-ndproxy/metrics.sock"' >/etc/default/v6net-ndproxy`)
		run("systemctl", "daemon-reload")
		run("systemctl", "start", "v6net-ndproxy.service")
		eventually(t, "an answer", func() bool { return l.resolve(t, "2001:db8:1::a:1") != "" })
		run("test", "-S", "/run/v6net-ndproxy/metrics.sock")
		run("systemctl", "stop", "v6net-ndproxy.service")
	})
	t.Run("another daemon", func(t *testing.T) {
		run("systemctl", "stop", "v6net.service")
		dir := t.TempDir()
		other := &service{lab: l, program: program(t), socket: filepath.Join(dir, "plugin.sock"), state: filepath.Join(dir, "v6net.db")}
		other.start(t)
		defer other.end(t)
		if out, err := machine.Run(t.Context(), "systemctl", "start", "v6net.service"); err == nil {
			t.Errorf("beside another daemon the service starts: %s", out)
		}
		if out := run("systemctl", "show", "-P", "ActiveState", "-P", "ExecMainStatus", "-P", "NRestarts", "v6net.service"); out != "failed\n69\n0" && out != "0\n69\nfailed" {
			t.Errorf("beside another daemon the service is %q, want it failed with status 69, and not started again", out)
		}
	})
}
