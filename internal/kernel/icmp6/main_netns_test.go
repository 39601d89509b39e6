//go:build netns

package icmp6

import (
	"context"
	"log/slog"
	"net/netip"
	"os"
	"strings"
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
	l.up.Capture(t, "lan0", "icmp6 and (ip6[40] == 135 or ip6[40] == 136) or vlan", "")
	l.proxy = ndproxy.NewSupervisor(func(ctx context.Context, link string) (ndproxy.Conn, error) {
		return Dial(ctx, link)
	}, ndproxy.Knobs{}, slog.New(slog.NewTextHandler(t.Output(), nil)))
	testnet.Running(t, "the proxy", l.proxy.Run)
	return l
}

func (l *lab) connect(t *testing.T) {
	testnet.Connect(t, l.self, "eth0", l.up, "lan0")
	l.up.AddAddress(t, "2001:db8::2/64", "lan0")
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

// patience is for what needs a moment on a machine that has other work, too.
const patience = 30 * time.Second

func eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	testnet.Eventually(t, patience, what, ok)
}
