//go:build netns

package dhcp6

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/v6net/v6net/internal/testnet"
)

// others are DHCPv6 clients that ask for an address on the link that v6net asks for a
// prefix on, and what they write when the server has answered.
var others = map[string]struct {
	answered string
	command  func(t *testing.T) []string
}{
	"dhclient": {"PRC: Bound to lease", func(t *testing.T) []string {
		dir := t.TempDir()
		return []string{lookPath(t, "dhclient"), "-6", "-d", "-sf", "/bin/true",
			"-lf", filepath.Join(dir, "leases"), "-pf", filepath.Join(dir, "pid"), "eth0"}
	}},
	"systemd-networkd": {"DHCPv6 client: Processed Reply message", func(t *testing.T) []string {
		const folder = "/run/systemd/network"
		text := "[Match]\nName=eth0\n[Network]\nDHCP=ipv6\nIPv6AcceptRA=no\n[DHCPv6]\nWithoutRA=solicit\nUseDelegatedPrefix=no\n"
		if err := os.MkdirAll(folder, 0o755); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = os.RemoveAll(filepath.Dir(folder)) })
		if err := os.WriteFile(filepath.Join(folder, "eth0.network"), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
		// Where /sys can be written it waits for udev, which is not here.
		return []string{"unshare", "--mount", "--uts", "sh", "-c", `mount --bind /sys /sys && mount -o remount,bind,ro /sys && SYSTEMD_LOG_LEVEL=debug SYSTEMD_LOG_TARGET=console exec "$0"`,
			"/lib/systemd/systemd-networkd"}
	}},
	"dhcpcd": {"REPLY6 received", func(t *testing.T) []string {
		conf := filepath.Join(t.TempDir(), "dhcpcd.conf")
		text := "ipv6only\nnoipv6rs\nia_na 1\nscript /bin/true\nduid ll\n"
		if err := os.WriteFile(conf, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		// It has no flag for where it keeps its leases, and would go on with an earlier test's.
		// Its several processes end with their namespace, and that with the shell: dhcpcd
		// itself changes its user, whereby --kill-child is forgotten.
		fresh := `mount -t tmpfs none /var/lib/dhcpcd && "$0" "$@"; exit $?`
		return []string{"unshare", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc", "sh", "-c", fresh, lookPath(t, "dhcpcd"), "-B", "-d", "-f", conf, "eth0"}
	}},
}

// other is a client that runs, and how often it was answered.
type other struct {
	mu       sync.Mutex
	said     []string
	answered string
}

func (o *other) Write(b []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.said = append(o.said, strings.Split(strings.TrimSpace(string(b)), "\n")...)
	return len(b), nil
}

func (o *other) answers() (n int) {
	o.mu.Lock()
	defer o.mu.Unlock()
	for _, line := range o.said {
		if strings.Contains(line, o.answered) {
			n++
		}
	}
	return n
}

func (l *lab) other(name string) *other {
	l.t.Helper()
	o := &other{answered: others[name].answered}
	cmd := l.self.Command(l.t.Context(), others[name].command(l.t)...)
	cmd.Stdout, cmd.Stderr = o, o
	cmd.WaitDelay = 5 * time.Second // of a pipe that others hold
	if err := cmd.Start(); err != nil {
		l.t.Fatal(err)
	}
	ended := make(chan struct{})
	go func() { defer close(ended); _ = cmd.Wait() }()
	l.t.Cleanup(func() {
		<-ended
		testnet.Eventually(l.t, time.Minute, name+" has left the port", func() bool {
			out, err := l.self.Command(context.Background(), "ss", "-Hlun", "sport = :546").Output()
			return err == nil && len(out) == 0
		})
		if l.t.Failed() {
			o.mu.Lock()
			defer o.mu.Unlock()
			l.t.Logf("%s said:\n%s", name, strings.Join(o.said, "\n"))
		}
	})
	return o
}

// Both have what they ask for, whoever was first, and both have it prolonged while the
// other runs.
func TestBesideAnotherClient(t *testing.T) {
	for name := range others {
		for _, first := range []string{"it", "v6net"} {
			t.Run(fmt.Sprintf("%s, %s first", name, first), func(t *testing.T) {
				l := newLab(t)
				l.capture()
				var o *other
				if first == "it" {
					o = l.other(name)
					l.kea("aa", 2, 20, 40, 60, pool("2001:db8:100::", 48, 56))
					l.eventually(name+" has an address", func() bool { return o.answers() > 0 })
				} else {
					// Both ask at the same time: v6net's socket is open while the other starts.
					go func() { _, _ = l.delegated(56) }()
					l.eventually("v6net asks", func() bool { return l.has("Solicit") })
					o = l.other(name)
					l.kea("aa", 2, 20, 40, 60, pool("2001:db8:100::", 48, 56))
				}
				lent := l.lease(56)
				l.eventually(name+" has an address", func() bool { return o.answers() > 0 })
				before := o.answers()
				l.eventually("both have more time", func() bool {
					now := l.status().Delegations
					return l.has("Renew") && len(now) == 1 && now[0].Valid.After(lent.Valid) && o.answers() > before
				})
				if l.has("Rebind") {
					t.Errorf("v6net has missed an answer: sent %v", l.messages())
				}
			})
		}
	}
}

// Port 546 may be held without leave for others, and is nobody's while v6net asks.
func TestPortIsNotNeeded(t *testing.T) {
	l := newLab(t)
	hold := func() (int, error) {
		fd, err := unix.Socket(unix.AF_INET6, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
		if err != nil {
			t.Fatal(err)
		}
		return fd, unix.Bind(fd, &unix.SockaddrInet6{Port: clientPort})
	}
	go func() { _, _ = l.delegated(56) }()
	l.eventually("v6net asks", func() bool { return l.has("Solicit") })
	fd, err := hold()
	if err != nil {
		t.Fatalf("port 546 while v6net asks: %v", err)
	}
	defer func() { _ = unix.Close(fd) }()
	l.kea("aa", 2, 20, 40, 60, pool("2001:db8:100::", 48, 56))
	l.lease(56)
}

// The host's firewall does not have to let answers in.
func TestBehindTheHostsFirewall(t *testing.T) {
	l := newLab(t)
	l.self.Run(t, "nft", "table inet wall { chain in { type filter hook input priority 0; policy drop; meta l4proto ipv6-icmp accept; }; }")
	t.Cleanup(func() {
		_ = testnet.Self(t).Command(context.Background(), "nft", "delete", "table", "inet", "wall").Run()
	})
	l.kea("aa", 2, 20, 40, 60, pool("2001:db8:100::", 48, 56))
	l.lease(56)
}
