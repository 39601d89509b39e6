//go:build engine && vm

package engine_test

import (
	"os"
	"os/exec"
	"regexp"
	"strings"
	"testing"

	"github.com/v6net/v6net/internal/testengine"
)

// A kernel without nftables: v6net takes ip6tables-legacy by itself and says so, and
// who reaches whom is the same; also when engine and plugin start with the machine, which
// has loaded no more of iptables than it is told to.
func TestKernelWithoutNFTables(t *testing.T) {
	const never = "/etc/modprobe.d/v6net-test.conf"
	t.Cleanup(func() { _ = os.Remove(never) })
	if err := os.WriteFile(never, []byte("install nf_tables /bin/false\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	unload(t, `nft_\w+|nf_tables`)
	if out, err := exec.Command("nft", "list", "ruleset").CombinedOutput(); err == nil {
		t.Fatalf("the kernel has nftables: %s", out)
	}
	legacy(t)

	onEveryEngine(t, testengine.Options{}, func(t *testing.T, l *lab) {
		// Before the engine goes, which wants to remove all rules.
		t.Cleanup(func() { _ = os.Remove(never) })
		l.installPlugin(t)
		l.network(t, "web")
		l.containerWith(t, "web", twoPorts, "--network", "web", "--restart", "always", "-p", "8080:80")
		check := func(t *testing.T) {
			address := ""
			eventually(t, "start of the container", func() bool { address = l.ipv6(t, "web", "web"); return address != "" })
			mustFetch(t, l.far, bracket(address))
			mustFetch(t, l.far, hostIPv4+":8080")
			mustFetch(t, l.host, bracket(address)+":81") // it is there
			mustNotFetch(t, l.far, bracket(address)+":81", l.ipv4(t, "web", "web"))
			if why := l.v6net(t, "firewall", "explain", farIPv6, address, "81"); !strings.Contains(why, "ip6tables mangle, chain v6net-inbound") {
				t.Errorf("v6net firewall explain: %s", why)
			}
		}
		t.Run("first", check)
		for _, want := range []string{"this kernel has no nftables, taking ip6tables", "variant=legacy"} {
			if log := l.engine.Logs(t); !strings.Contains(log, want) {
				t.Errorf("the log does not say %q", want)
			}
		}
		l.engine.Stop(t)
		for _, program := range []string{"iptables-legacy", "ip6tables-legacy"} {
			for _, table := range []string{"raw", "mangle", "nat", "filter"} {
				l.host.Run(t, program, "-t", table, "-F")
				l.host.Run(t, program, "-t", table, "-X")
			}
		}
		unload(t, `ip6?table_\w+|ip6?_tables|xt_\w+|ip6?t_\w+|nft_compat`)
		if out, err := exec.Command("modprobe", "-a", "ip_tables", "ip6_tables").CombinedOutput(); err != nil {
			t.Fatalf("%v: %s", err, out)
		}
		l.engine.Restart(t)
		t.Run("with the machine", check)
	})
}

// unload takes modules out of the kernel, those first that others need.
func unload(t *testing.T, pattern string) {
	t.Helper()
	name := regexp.MustCompile(`(?m)^(` + pattern + `) `)
	left, complaint := "", ""
	for range 8 { // as deep as they stand on each other
		loaded, err := os.ReadFile("/proc/modules")
		if err != nil {
			t.Fatal(err)
		}
		found := name.FindAllStringSubmatch(string(loaded), -1)
		if len(found) == 0 {
			return
		}
		left = ""
		for _, m := range found {
			out, err := exec.Command("rmmod", m[1]).CombinedOutput()
			if err != nil {
				left, complaint = left+" "+m[1], string(out)
			}
		}
	}
	t.Fatalf("modules stay:%s: %s", left, complaint)
}

// legacy makes the engine's iptables the older one.
func legacy(t *testing.T) {
	t.Helper()
	for _, name := range []string{"iptables", "ip6tables"} {
		if out, err := exec.Command("update-alternatives", "--set", name, "/usr/sbin/"+name+"-legacy").CombinedOutput(); err != nil {
			t.Fatalf("%v: %s", err, out)
		}
		t.Cleanup(func() {
			_ = exec.Command("update-alternatives", "--set", name, "/usr/sbin/"+name+"-nft").Run()
		})
	}
}
