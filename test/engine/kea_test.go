//go:build engine

package engine_test

import (
	"bufio"
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// delegate runs Kea on the lab's router, which lends /56 of a prefix and is asked
// again every other second, until stop or the end of the test. The router knows the
// way to them.
func (l *lab) delegate(t *testing.T, prefix string) (stop func()) {
	t.Helper()
	base, length, _ := strings.Cut(prefix, "/")
	config := fmt.Sprintf(`{"Dhcp6": {
		"interfaces-config": {"interfaces": ["lan0"]},
		"lease-database": {"type": "memfile", "persist": false},
		"server-id": {"type": "LL", "htype": 1, "identifier": "0200000000aa", "persist": false},
		"renew-timer": 2, "rebind-timer": 30, "preferred-lifetime": 300, "valid-lifetime": 600,
		"subnet6": [{"id": 1, "subnet": %q, "interface": "lan0",
			"pd-pools": [{"prefix": %q, "prefix-len": %s, "delegated-len": 56}]}],
		"loggers": [{"name": "kea-dhcp6", "severity": "INFO", "output_options": [{"output": "stdout", "flush": true}]}]
	}}`, linkPrefix, base, length)
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
	started, read := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(read)
		begin := sync.OnceFunc(func() { close(started) })
		for lines := bufio.NewScanner(out); lines.Scan(); {
			said = append(said, lines.Text())
			if strings.Contains(lines.Text(), "DHCP6_STARTED") {
				begin()
			}
		}
	}()
	stop = sync.OnceFunc(func() {
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
	return stop
}
