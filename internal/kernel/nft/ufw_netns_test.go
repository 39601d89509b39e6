//go:build netns

package nft

import (
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"github.com/v6net/v6net/internal/testnet"
)

// ufw runs it on a host that has settings of its own.
func ufw(t *testing.T, host *testnet.Host) func(args ...string) {
	t.Helper()
	folder := t.TempDir()
	if err := os.CopyFS(filepath.Join(folder, "etc"), os.DirFS("/etc/ufw")); err != nil {
		t.Fatal(err)
	}
	defaults, err := os.ReadFile("/etc/default/ufw")
	if err == nil {
		err = os.WriteFile(folder+"/default", defaults, 0o644)
	}
	if err != nil {
		t.Fatal(err)
	}
	script := fmt.Sprintf(`mount --bind %[1]s/etc /etc/ufw && mount --bind %[1]s/default /etc/default/ufw && exec ufw "$@"`, folder)
	return func(args ...string) {
		t.Helper()
		host.Run(t, append([]string{"unshare", "--mount", "sh", "-ec", script, "ufw"}, args...)...)
	}
}

// Beside ufw, whichever starts first: what we let through passes, but for what its
// administrator denies, and what we do not does not.
func TestUFW(t *testing.T) {
	t.Parallel()
	for _, first := range []bool{true, false} {
		t.Run(map[bool]string{true: "it is first", false: "it is second"}[first], func(t *testing.T) {
			t.Parallel()
			s := newSite(t)
			s.config.Networks[0].Asked = true
			run := ufw(t, s.host)
			f := open(t, s.host)
			if first {
				run("--force", "enable")
			}
			watch(t, f)
			apply(t, f, s.config)
			if !first {
				run("--force", "enable")
			}
			check := func(when string, published bool) {
				t.Helper()
				settled(t, f)
				s.wantWays(t, when, f, []way{
					{s.outside, "tcp", "[2001:db8:1::2]:80", published},
					{s.outside, "tcp", host4 + ":8080", published},
					{s.outside, "udp", "[2001:db8:1::2]:53", true},
					{s.c["web2"], "tcp", outside4 + ":80", published},
					{s.c["web2"], "udp", "[" + outside6 + "]:53", true},
					{s.c["web2"], "udp", "[2001:db8:1::1]:53", true},
					{s.outside, "tcp", "[2001:db8:1::2]:81", false},
					{s.c["web2"], "tcp", "[2001:db8:1::1]:7070", false}, // the host's own services are ufw's to judge
				})
			}
			check("enabled", true)
			if !first {
				return
			}
			run("default", "reject", "routed")
			run("default", "reject", "incoming")
			run("reload")
			check("it rejects", true)
			run("route", "deny", "proto", "tcp", "to", "any", "port", "80")
			check("its administrator denies", false)
			run("route", "delete", "deny", "proto", "tcp", "to", "any", "port", "80")
			check("he denies no more", true)
			dockerUser(t, s.host)
			run("route", "deny", "proto", "tcp", "to", "any", "port", "80")
			check("he denies beside Docker", false)
		})
	}
}
