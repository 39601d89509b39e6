//go:build engine

package engine_test

import (
	"bufio"
	"context"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// provider is Kea on the lab's router.
type provider struct {
	stop func()
	lent <-chan loan // the first, as it is lent
}

// loan is a prefix that Kea has lent, and when it was.
type loan struct {
	prefix netip.Prefix
	at     time.Time
}

// lifetimes are what Kea lends for, in seconds.
type lifetimes struct{ preferred, valid int }

// loanWords are what Kea says of one.
var loanWords = regexp.MustCompile(`PD_LEASE_\w+ .* lease for prefix (\S+) and iaid=\d+ has been allocated`)

// delegate runs Kea on the lab's router, which lends /56 of a prefix and is asked
// again every other second, until stop or the end of the test. The router knows the
// way to them.
func (l *lab) delegate(t *testing.T, prefix string) provider {
	t.Helper()
	return l.delegateFor(t, prefix, lifetimes{preferred: 300, valid: 600})
}

// delegateFor is delegate for a time that is not the usual one.
func (l *lab) delegateFor(t *testing.T, prefix string, last lifetimes) provider {
	t.Helper()
	base, length, _ := strings.Cut(prefix, "/")
	config := fmt.Sprintf(`{"Dhcp6": {
		"interfaces-config": {"interfaces": ["lan0"]},
		"lease-database": {"type": "memfile", "persist": false},
		"server-id": {"type": "LL", "htype": 1, "identifier": "0200000000aa", "persist": false},
		"renew-timer": 2, "rebind-timer": %d, "preferred-lifetime": %d, "valid-lifetime": %d,
		"subnet6": [{"id": 1, "subnet": %q, "interface": "lan0",
			"pd-pools": [{"prefix": %q, "prefix-len": %s, "delegated-len": 56}]}],
		"loggers": [{"name": "kea-dhcp6", "severity": "INFO", "output_options": [{"output": "stdout", "flush": true}]}]
	}}`, min(30, last.preferred), last.preferred, last.valid, linkPrefix, base, length)
	path := filepath.Join(t.TempDir(), "kea.conf")
	if err := os.WriteFile(path, []byte(config), 0o600); err != nil {
		t.Fatal(err)
	}
	cmd := l.up.Command(context.Background(), "/usr/sbin/kea-dhcp6", "-c", path)
	cmd.Env = append(os.Environ(), "KEA_LOCKFILE_DIR=none", "KEA_PIDFILE_DIR="+filepath.Dir(path))
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	cmd.Stderr = cmd.Stdout
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	var said []string // guarded by read and started
	started, read, lent := make(chan struct{}), make(chan struct{}), make(chan loan, 1)
	go func() {
		defer close(read)
		begin := sync.OnceFunc(func() { close(started) })
		for lines := bufio.NewScanner(out); lines.Scan(); {
			said = append(said, lines.Text())
			if strings.Contains(lines.Text(), "DHCP6_STARTED") {
				begin()
			}
			if words := loanWords.FindStringSubmatch(lines.Text()); words != nil {
				if p, err := netip.ParsePrefix(words[1]); err == nil {
					select {
					case lent <- loan{p, time.Now()}:
					default: // it has lent before
					}
				}
			}
		}
	}()
	stop := sync.OnceFunc(func() {
		_ = cmd.Process.Signal(syscall.SIGTERM)
		dead := time.AfterFunc(10*time.Second, func() { _ = cmd.Process.Kill() })
		<-read
		_ = cmd.Wait()
		dead.Stop()
		if t.Failed() {
			t.Logf("kea said:\n%s", strings.Join(said, "\n"))
		}
	})
	t.Cleanup(stop)
	select {
	case <-started:
	case <-read:
		t.Fatalf("kea ended:\n%s", strings.Join(said, "\n"))
	case <-time.After(time.Minute):
		stop()
		t.Fatalf("kea is not ready:\n%s", strings.Join(said, "\n"))
	}
	return provider{stop, lent}
}
