//go:build netns

package crash_test

import (
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
)

// metadata is the server of a cloud, Linode's, as far as it is asked.
type metadata struct {
	mu     sync.Mutex
	prefix string
}

const metadataAddress = "169.254.169.254"

func newMetadata(m *machine) *metadata {
	m.t.Helper()
	if err := isOfCloud(); err != nil {
		m.t.Fatal(err)
	}
	m.host.Run(m.t, "ip", "addr", "add", "169.254.7.7/16", "dev", "eth0")
	m.up.Run(m.t, "ip", "addr", "add", metadataAddress+"/16", "dev", "lan0")
	d := &metadata{}
	m.up.Do(m.t, func() {
		l, err := net.Listen("tcp", metadataAddress+":80")
		if err != nil {
			m.t.Fatal(err)
		}
		server := &http.Server{Handler: d}
		m.t.Cleanup(func() { _ = server.Close() })
		go func() { _ = server.Serve(l) }()
	})
	return d
}

// isOfCloud has the firmware say so, to all that is in this process's namespace of mounts.
var isOfCloud = sync.OnceValue(func() error {
	const folder = "/sys/class/dmi/id"
	if out, err := exec.Command("mount", "-t", "tmpfs", "none", filepath.Dir(filepath.Dir(folder))).CombinedOutput(); err != nil {
		return fmt.Errorf("mount: %w: %s", err, out)
	}
	if err := os.MkdirAll(folder, 0o755); err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(folder, "sys_vendor"), []byte("Linode\n"), 0o600)
})

func (d *metadata) assign(prefix string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.prefix = prefix
}

// telling is an address that is there for a moment, and no part of any world.
const telling = "fe80::b"

// told has the daemon ask, since the link may be another one. The kernel tells of an address a
// moment after it is there, and never of one that is gone by then, so that it goes by itself.
func (d *metadata) told(m *machine) {
	m.t.Helper()
	m.host.Run(m.t, "ip", "addr", "replace", telling+"/64", "dev", "eth0", "nodad", "valid_lft", "1", "preferred_lft", "1")
}

func (d *metadata) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	d.mu.Lock()
	defer d.mu.Unlock()
	switch r.URL.Path {
	case "/v1/token":
		_, _ = w.Write([]byte("a-token"))
	case "/v1/network":
		_, _ = fmt.Fprintf(w, `{"ipv6":{"slaac":"2001:db8:5::5/128","ranges":[%q]}}`, d.prefix)
	default:
		http.NotFound(w, r)
	}
}
