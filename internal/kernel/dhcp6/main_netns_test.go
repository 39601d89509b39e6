//go:build netns

package dhcp6

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"log/slog"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"go4.org/netipx"

	"github.com/v6net/v6net/internal/prefix/pd"
	"github.com/v6net/v6net/internal/prefix/sources"
	"github.com/v6net/v6net/internal/spec"
	"github.com/v6net/v6net/internal/store"
	"github.com/v6net/v6net/internal/testnet"
)

var _ pd.Conn = (*Conn)(nil)

func TestMain(m *testing.M) { testnet.Main(m) }

// lab is the host under test, eth0, on a cable to an upstream router's lan0.
type lab struct {
	t        *testing.T
	self, up *testnet.Host
	dir      string
	journal  *store.Store
	bits     int      // of the prefix to ask for
	many     []uint32 // the numbers of prefixes to ask for; none: the link's one
	level    slog.Level

	supervisor *sources.Supervisor
	stop       func()

	mu   sync.Mutex
	sent []string // kinds of the messages that v6net has sent
	told []string // what Changed was told
}

func newLab(t *testing.T) *lab {
	l := &lab{t: t, self: testnet.Self(t), up: testnet.New(t, "upstream"), dir: t.TempDir(), level: slog.LevelDebug}
	testnet.Connect(t, l.self, "eth0", l.up, "lan0")
	l.up.AddAddress(t, "2001:db8:ff::1/64", "lan0")
	var err error
	if l.journal, err = store.Open(filepath.Join(l.dir, "v6net.db")); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.journal.Close() })
	l.start("boot")
	t.Cleanup(func() {
		if t.Failed() {
			t.Logf("status %+v, sent %v", l.supervisor.Status(), l.messages())
		}
		l.stop()
	})
	return l
}

// start runs the sources as the daemon does, on what the journal holds.
func (l *lab) start(boot string) {
	l.t.Helper()
	duid, err := l.journal.DUID(pd.NewDUID)
	if err != nil {
		l.t.Fatal(err)
	}
	leases, err := l.journal.DelegationLeases()
	if err != nil {
		l.t.Fatal(err)
	}
	log := slog.New(slog.NewTextHandler(testWriter{l.t}, &slog.HandlerOptions{Level: l.level}))
	l.supervisor = sources.New(sources.Config{
		Journal: l.journal, Leases: leases, Log: log,
		Changed: func(_ context.Context, _ spec.Source, _ string, lent []spec.Delegation) {
			l.mu.Lock()
			defer l.mu.Unlock()
			l.told = append(l.told, strings.Join(list(lent), " "))
		},
		Starters: map[spec.Source]sources.Starter{spec.SourcePD: func(link string, before spec.DelegationLease) (sources.Source, error) {
			iaid, err := l.journal.IAID(link)
			if err != nil {
				return nil, err
			}
			ids := []uint32{iaid}
			if l.many != nil {
				ids = l.many
			}
			return pd.New(pd.Config{Link: link, DUID: duid, IAID: ids, Bits: l.bits, Boot: boot, Lease: before, Log: log,
				Dial: func(ctx context.Context) (pd.Conn, error) {
					conn, err := Dial(ctx, link)
					return &counter{conn, l}, err
				}}), nil
		}},
	})
	ctx, cancel := context.WithCancel(context.Background())
	ran := make(chan error, 1)
	go func() { ran <- l.supervisor.Run(ctx) }()
	l.stop = sync.OnceFunc(func() {
		cancel()
		if err := <-ran; err != nil {
			l.t.Errorf("the sources ended: %v", err)
		}
	})
}

// counter notes what is sent.
type counter struct {
	*Conn
	lab *lab
}

var kinds = map[byte]string{1: "Solicit", 3: "Request", 5: "Renew", 6: "Rebind", 8: "Release"}

func (c *counter) Send(b []byte) error {
	c.lab.mu.Lock()
	c.lab.sent = append(c.lab.sent, kinds[b[0]])
	c.lab.mu.Unlock()
	return c.Conn.Send(b)
}

func (l *lab) has(kind string) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return slices.Contains(l.sent, kind)
}

// messages are all that were sent.
func (l *lab) messages() []string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return slices.Clone(l.sent)
}

func (l *lab) forget() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.sent, l.told = nil, nil
}

func list(lent []spec.Delegation) []string {
	texts := make([]string, 0, len(lent))
	for _, d := range lent {
		texts = append(texts, d.Prefix.String())
	}
	return texts
}

// delegated asks for a prefix and waits long enough for any server.
func (l *lab) delegated(bits int) ([]spec.Delegation, error) {
	ctx, cancel := context.WithTimeout(l.t.Context(), time.Minute)
	defer cancel()
	l.bits = bits
	return l.supervisor.Delegated(ctx, spec.SourcePD, "eth0")
}

func (l *lab) lease(bits int) spec.Delegation {
	l.t.Helper()
	lent, err := l.delegated(bits)
	if err != nil || len(lent) != 1 {
		l.t.Fatalf("lent: %v, %v", list(lent), err)
	}
	return lent[0]
}

func (l *lab) status() spec.DelegationStatus {
	for _, s := range l.supervisor.Status() {
		return s
	}
	return spec.DelegationStatus{}
}

func (l *lab) eventually(what string, ok func() bool) {
	l.t.Helper()
	testnet.Eventually(l.t, time.Minute, what, ok)
}

// daemon runs a program in a host until the test ends or the func that it returns is
// called. It is ready when it has written that text.
func daemon(t *testing.T, h *testnet.Host, ready string, args ...string) (stop func()) {
	t.Helper()
	cmd := h.Command(context.Background(), args...)
	cmd.Env = append(os.Environ(), "KEA_LOCKFILE_DIR=none", "KEA_PIDFILE_DIR="+t.TempDir())
	out, in := io.Pipe()
	cmd.Stdout, cmd.Stderr = in, in
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	started := make(chan struct{})
	read := make(chan struct{})
	var said []string
	go func() {
		defer close(read)
		begin := sync.OnceFunc(func() { close(started) })
		for lines := bufio.NewScanner(out); lines.Scan(); {
			said = append(said, lines.Text())
			if strings.Contains(lines.Text(), ready) {
				begin()
			}
		}
	}()
	stop = sync.OnceFunc(func() {
		_ = cmd.Process.Signal(syscall.SIGTERM)
		dead := time.AfterFunc(time.Minute, func() { _ = cmd.Process.Kill() })
		_ = cmd.Wait()
		dead.Stop()
		_ = in.Close()
		<-read
		if t.Failed() {
			t.Logf("%s said:\n%s", filepath.Base(args[0]), strings.Join(said, "\n"))
		}
	})
	t.Cleanup(stop)
	select {
	case <-started:
	case <-time.After(2 * time.Minute):
		stop()
		t.Fatalf("%s is not ready:\n%s", args[0], strings.Join(said, "\n"))
	}
	return stop
}

// offer is what a server lends: prefixes of a length, of one; the zero offer: none.
type offer struct {
	of     netip.Prefix
	length int
}

func pool(prefix string, length, delegated int) offer {
	return offer{netip.PrefixFrom(netip.MustParseAddr(prefix), length), delegated}
}

// serve runs a server. id makes its DUID; times are in seconds.
type serve func(id string, t1, t2, preferred, valid int, lends offer) (stop func())

// onEachServer runs a test with every program that is a server.
func onEachServer(t *testing.T, test func(t *testing.T, l *lab, serve serve)) {
	for name, server := range map[string]func(*lab) serve{
		"Kea":       func(l *lab) serve { return l.kea },
		"ISC dhcpd": func(l *lab) serve { return l.isc },
	} {
		t.Run(name, func(t *testing.T) {
			l := newLab(t)
			l.capture()
			test(t, l, server(l))
		})
	}
}

// kea runs Kea as the upstream router's server.
func (l *lab) kea(id string, t1, t2, preferred, valid int, lends offer) (stop func()) {
	l.t.Helper()
	pools := ""
	if lends.of.IsValid() {
		pools = fmt.Sprintf(`{"prefix": "%s", "prefix-len": %d, "delegated-len": %d}`, lends.of.Addr(), lends.of.Bits(), lends.length)
	}
	config := fmt.Sprintf(`{"Dhcp6": {
		"interfaces-config": {"interfaces": ["lan0"]},
		"lease-database": {"type": "memfile", "persist": false},
		"server-id": {"type": "LL", "htype": 1, "identifier": "0200000000%s", "persist": false},
		"renew-timer": %d, "rebind-timer": %d, "preferred-lifetime": %d, "valid-lifetime": %d,
		"subnet6": [{"id": 1, "subnet": "2001:db8:ff::/64", "interface": "lan0", "rapid-commit": true,
			"pools": [{"pool": "2001:db8:ff::1:0-2001:db8:ff::1:ffff"}], "pd-pools": [%s]}],
		"loggers": [{"name": "kea-dhcp6", "severity": "INFO", "output_options": [{"output": "stdout", "flush": true}]}]
	}}`, id, t1, t2, preferred, valid, pools)
	path := filepath.Join(l.t.TempDir(), "kea.conf")
	if err := os.WriteFile(path, []byte(config), 0o600); err != nil {
		l.t.Fatal(err)
	}
	return daemon(l.t, l.up, "DHCP6_STARTED", "/usr/sbin/kea-dhcp6", "-c", path)
}

// isc runs ISC's dhcpd as the upstream router's server.
func (l *lab) isc(id string, t1, t2, preferred, valid int, lends offer) (stop func()) {
	l.t.Helper()
	dir, pools := l.t.TempDir(), ""
	if lends.of.IsValid() {
		last := netip.PrefixFrom(netipx.PrefixLastIP(lends.of), lends.length).Masked()
		pools = fmt.Sprintf("prefix6 %s %s /%d;", lends.of.Addr(), last.Addr(), lends.length)
	}
	config := fmt.Sprintf(`server-duid LL ethernet 02:00:00:00:00:%s;
		default-lease-time %d; preferred-lifetime %d; option dhcp-renewal-time %d; option dhcp-rebinding-time %d;
		subnet6 2001:db8:ff::/64 { range6 2001:db8:ff::1:0 2001:db8:ff::1:ffff; %s }`, id, valid, preferred, t1, t2, pools)
	conf, leases := filepath.Join(dir, "dhcpd6.conf"), filepath.Join(dir, "leases")
	for path, text := range map[string]string{conf: config, leases: ""} {
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			l.t.Fatal(err)
		}
	}
	return daemon(l.t, l.up, "Server starting service", "/usr/sbin/dhcpd", "-6", "-d", "-f", "-cf", conf, "-lf", leases, "-pf", filepath.Join(dir, "pid"), "lan0")
}

func (l *lab) capture() {
	l.up.Capture(l.t, "lan0", "udp port 546 or udp port 547 or icmp6[icmp6type] == 1", "")
}

func lookPath(t *testing.T, name string) string {
	t.Helper()
	path, err := exec.LookPath(name)
	if err != nil {
		t.Fatalf("%v: scripts/deps netns installs it", err)
	}
	return path
}

type testWriter struct{ t testing.TB }

func (w testWriter) Write(b []byte) (int, error) {
	w.t.Log(strings.TrimSpace(string(b)))
	return len(b), nil
}
