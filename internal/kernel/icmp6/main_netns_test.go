//go:build netns

package icmp6

import (
	"bytes"
	"context"
	"errors"
	"io"
	"log/slog"
	"net/netip"
	"os"
	"os/exec"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/v6net/v6net/internal/spec"
	"github.com/v6net/v6net/internal/testnet"
	"github.com/v6net/v6net/ndproxy"
)

var _ ndproxy.Conn = (*Conn)(nil)

func TestMain(m *testing.M) {
	if os.Getenv(holdEnv) != "" {
		hold()
	}
	testnet.Main(m)
}

const (
	leased  = "2001:db8::5"
	unknown = "2001:db8::6"
)

// lab is the host under test, whose eth0 proxies, and a Linux host upstream.
type lab struct {
	self, up *testnet.Host
	proxy    *ndproxy.Supervisor
}

func newLab(t *testing.T) *lab {
	l := &lab{self: testnet.Self(t), up: testnet.New(t, "up")}
	l.connect(t)
	l.capture(t)
	l.proxy = ndproxy.NewSupervisor(func(ctx context.Context, link string) (ndproxy.Conn, error, error) {
		conn, err := Dial(ctx, link)
		return conn, nil, err
	}, ndproxy.Knobs{}, slog.New(slog.NewTextHandler(testWriter{t}, nil)))
	ctx, cancel := context.WithCancel(t.Context())
	ran := make(chan error, 1)
	go func() { ran <- l.proxy.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-ran; err != nil {
			t.Errorf("proxy ended: %v", err)
		}
	})
	return l
}

func (l *lab) connect(t *testing.T) {
	testnet.Connect(t, l.self, "eth0", l.up, "lan0")
	addAddress(t, l.up, "2001:db8::2", "lan0")
}

// addAddress gives an interface an address and waits until it is in use: the
// kernel joins its group and makes its route later, in a work queue, even
// without duplicate address detection (net/ipv6/addrconf.c addrconf_dad_work).
func addAddress(t *testing.T, h *testnet.Host, addr, dev string) {
	t.Helper()
	h.Run(t, "ip", "addr", "add", addr+"/64", "dev", dev, "nodad")
	eventually(t, addr+" is in use", func() bool {
		return strings.Contains(h.Run(t, "ip", "-6", "route", "show", "table", "local", "dev", dev)+"\n", "local "+addr+" ")
	})
}

// capture has tcpdump decode what goes over the cable into the test's log.
func (l *lab) capture(t *testing.T) {
	cmd := l.up.Command(context.Background(), "tcpdump", "-Z", "root", "--immediate-mode", "-lnve", "-i", "lan0", "icmp6 and (ip6[40] == 135 or ip6[40] == 136) or vlan")
	out, in := io.Pipe()
	var log bytes.Buffer
	started := make(chan struct{})
	var once sync.Once
	copied := make(chan struct{})
	go func() {
		defer close(copied)
		b := make([]byte, 4096)
		for {
			n, err := out.Read(b)
			log.Write(b[:n])
			if bytes.Contains(log.Bytes(), []byte("listening on")) {
				once.Do(func() { close(started) })
			}
			if err != nil {
				return
			}
		}
	}()
	cmd.Stdout, cmd.Stderr = in, in
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	select {
	case <-started:
	case <-time.After(5 * time.Second):
		t.Error("tcpdump does not start")
	}
	t.Cleanup(func() {
		time.Sleep(50 * time.Millisecond) // what was sent last is yet to be decoded
		_ = cmd.Process.Signal(syscall.SIGINT)
		_ = cmd.Wait()
		_ = in.Close()
		<-copied
		t.Logf("on the cable:\n%s", log.String())
	})
}

// add leases leased, and waits until the proxy works.
func (l *lab) add(t *testing.T, addr string) {
	t.Helper()
	l.proxy.Add("eth0", netip.MustParseAddr(addr))
	l.healthy(t)
}

func (l *lab) status() spec.ProxyStatus {
	for _, s := range l.proxy.Status() {
		if s.Parent == "eth0" {
			return s
		}
	}
	return spec.ProxyStatus{}
}

func (l *lab) healthy(t *testing.T) {
	t.Helper()
	eventually(t, "the proxy works", func() bool { s := l.status(); return s.Parent != "" && s.Error == "" })
}

func (l *lab) degraded(t *testing.T, reason string) {
	t.Helper()
	eventually(t, "the proxy is degraded: "+reason, func() bool { return strings.Contains(l.status().Error, reason) })
}

// resolve has upstream's Linux look for addr, and returns the link-layer address
// that it learns, or nothing.
func (l *lab) resolve(t *testing.T, addr string) string {
	t.Helper()
	_ = l.up.Command(t.Context(), "ip", "neigh", "del", addr, "dev", "lan0").Run() // there may be none
	// Nobody answers the ping; it makes Linux ask for the neighbor.
	_ = l.up.Command(t.Context(), "ping", "-c", "1", "-W", "0.2", addr).Run()
	_, after, _ := strings.Cut(l.up.Run(t, "ip", "neigh", "show", addr, "dev", "lan0"), "lladdr ")
	mac, _, _ := strings.Cut(after, " ")
	return mac
}

// ndisc6 asks from upstream, and returns the link-layer address it is told, or
// nothing when it is told none.
func (l *lab) ndisc6(t *testing.T, addr string) string {
	t.Helper()
	out, err := l.up.Command(t.Context(), "ndisc6", "-q", "-1", "-r", "1", "-w", "300", addr, "lan0").Output()
	if exit := (*exec.ExitError)(nil); err != nil && !errors.As(err, &exit) {
		t.Fatalf("ndisc6 %s: %v", addr, err)
	}
	return strings.ToLower(strings.TrimSpace(string(out)))
}

func (l *lab) mac(t *testing.T) string {
	t.Helper()
	return strings.Fields(l.self.Run(t, "ip", "-br", "link", "show", "eth0"))[2]
}

func eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	within(t, 5*time.Second, what, ok)
}

func within(t *testing.T, most time.Duration, what string, ok func() bool) {
	t.Helper()
	for deadline := time.Now().Add(most); !ok(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("not within %v: %s", most, what)
		}
	}
}

type testWriter struct{ t testing.TB }

func (w testWriter) Write(b []byte) (int, error) {
	w.t.Log(strings.TrimSpace(string(b)))
	return len(b), nil
}
