//go:build netns

package ndbpf

import (
	"bytes"
	"context"
	"io"
	"log/slog"
	"net/netip"
	"os"
	"sync/atomic"
	"testing"
	"time"

	"github.com/cilium/ebpf"
	"golang.org/x/sys/unix"

	"github.com/v6net/v6net/internal/kernel/icmp6"
	"github.com/v6net/v6net/internal/spec"
	"github.com/v6net/v6net/internal/testnet"
	"github.com/v6net/v6net/ndproxy"
)

var (
	_ ndproxy.FastPath = (*Conn)(nil)
	_ ndproxy.Reporter = (*Conn)(nil)
)

func TestMain(m *testing.M) {
	if os.Getenv(childEnv) != "" {
		child()
	}
	testnet.Main(m)
}

const (
	leased  = "2001:db8::5"
	second  = "2001:db8::7" // another lease
	unknown = "2001:db8::6"
)

// paths are the data paths, which must behave as one.
var paths = map[string]ndproxy.Dialer{
	"packet": func(ctx context.Context, link string) (ndproxy.Conn, error) {
		return icmp6.Dial(ctx, link)
	},
	"ebpf by tcx":    dialer(attachTCX),
	"ebpf by clsact": dialer(attachClsact),
}

func dialer(attach func(attachPoint, *ebpf.Program) (attachment, error)) ndproxy.Dialer {
	return func(ctx context.Context, link string) (ndproxy.Conn, error) {
		return dial(ctx, link, attach, load)
	}
}

// loaded is a Conn whose programs are.
func loaded(t testing.TB, conn *Conn, err error) *Conn {
	t.Helper()
	if err == nil {
		err = conn.Load()
	}
	if err != nil {
		t.Fatal(err)
	}
	return conn
}

// lab is the host under test, whose eth0 proxies, and a Linux host upstream.
type lab struct {
	self, up *testnet.Host
	link     string
	proxy    *ndproxy.Supervisor
	wire     *os.File             // of up's end
	fast     bool                 // a program answers
	conn     atomic.Pointer[Conn] // the last one dialed; nil by the packet path
	lines    atomic.Int64         // that were logged
	unseen   bool                 // by tcpdump, which the VM has not
	see      func(ndproxy.Seen)   // while the proxy is watched; nil: nobody is told
}

func newLab(t testing.TB, path string, knobs ndproxy.Knobs) *lab {
	l := &lab{self: testnet.Self(t), up: testnet.New(t, "up"), link: "eth0"}
	testnet.Connect(t, l.self, "eth0", l.up, "lan0")
	l.up.AddAddress(t, "2001:db8::2/64", "lan0")
	l.run(t, path, knobs)
	return l
}

// run proxies by a path until the end of the test.
func (l *lab) run(t testing.TB, path string, knobs ndproxy.Knobs) {
	l.fast = path != "packet"
	l.wire = l.open(t, "lan0")
	if !l.unseen {
		l.up.Capture(t, "lan0", "icmp6 and (ip6[40] == 135 or ip6[40] == 136) or ip6 proto 44", "neighbor advertisement")
	}
	l.proxy = ndproxy.NewSupervisor(func(ctx context.Context, link string) (ndproxy.Conn, error) {
		conn, err := paths[path](ctx, link)
		fast, _ := conn.(*Conn)
		l.conn.Store(fast)
		return conn, err
	}, knobs, slog.New(slog.NewTextHandler(countedLog{t.Output(), &l.lines}, nil)))
	l.proxy.See = func(_ string, s ndproxy.Seen) {
		if l.see != nil {
			l.see(s)
		}
	}
	testnet.Running(t, "the proxy", l.proxy.Run)
}

// open is a socket for all that goes over upstream's end of the cable.
func (l *lab) open(t testing.TB, link string) *os.File {
	t.Helper()
	var file *os.File
	l.up.Do(t, func() {
		fd, err := unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
		if err != nil {
			t.Fatal(err)
		}
		file = os.NewFile(uintptr(fd), "wire")
		request, err := unix.NewIfreq(link)
		if err == nil {
			err = unix.IoctlIfreq(fd, unix.SIOCGIFINDEX, request)
		}
		if err == nil {
			err = unix.Bind(fd, &unix.SockaddrLinklayer{Protocol: 0xdd86, Ifindex: int(request.Uint32())})
		}
		if err != nil {
			t.Fatal(err)
		}
	})
	t.Cleanup(func() { _ = file.Close() })
	return file
}

// send puts a frame on the cable.
func (l *lab) send(t testing.TB, frame []byte) {
	t.Helper()
	if _, err := l.wire.Write(frame); err != nil {
		t.Fatal(err)
	}
}

// advertisement is the next one on the cable that is for target, whole.
func (l *lab) advertisement(t testing.TB, target netip.Addr) []byte {
	t.Helper()
	if err := l.wire.SetReadDeadline(time.Now().Add(patience)); err != nil {
		t.Fatal(err)
	}
	b := make([]byte, 2048)
	for {
		n, err := l.wire.Read(b)
		if err != nil {
			t.Fatalf("no advertisement of %s: %v; counters %v", target, err, l.counters())
		}
		if n >= 78 && b[20] == 58 && b[54] == 136 && netip.AddrFrom16([16]byte(b[62:])) == target {
			return bytes.Clone(b[:n])
		}
	}
}

// drain forgets what is on the cable.
func (l *lab) drain(t testing.TB) {
	t.Helper()
	if err := l.wire.SetReadDeadline(time.Now().Add(20 * time.Millisecond)); err != nil {
		t.Fatal(err)
	}
	for b := make([]byte, 2048); ; {
		if _, err := l.wire.Read(b); err != nil {
			return
		}
	}
}

// add leases addresses and waits until they are answered for by the path.
func (l *lab) add(t testing.TB, addrs ...string) {
	t.Helper()
	for _, a := range addrs {
		l.proxy.Add(l.link, netip.MustParseAddr(a))
	}
	l.healthy(t)
}

func (l *lab) healthy(t testing.TB) {
	t.Helper()
	eventually(t, "the proxy works", func() bool {
		s := l.status()
		// The status says packet, too, until a program is attached.
		return s.Parent != "" && s.Error == "" && (!l.fast || l.conn.Load().isAttached())
	})
	eventually(t, "what is told is told", func() bool { l.drain(t); return true })
}

func (c *Conn) isAttached() bool {
	if c == nil {
		return false
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.attached != nil
}

// settled is what the program itself has counted.
func (l *lab) settled() map[string]uint64 {
	m := map[string]uint64{}
	if c := l.conn.Load(); c != nil {
		c.Count(func(r ndproxy.Reason, n uint64) { m[r.String()] = n })
	}
	return m
}

func (l *lab) status() spec.ProxyStatus {
	for _, s := range l.proxy.Status() {
		if s.Parent == l.link {
			return s
		}
	}
	return spec.ProxyStatus{}
}

func (l *lab) counters() map[string]uint64 { return l.status().Counters }

func eventually(t testing.TB, what string, ok func() bool) {
	t.Helper()
	testnet.Eventually(t, patience, what, ok)
}

// countedLog counts the lines of a log.
type countedLog struct {
	io.Writer
	lines *atomic.Int64
}

func (c countedLog) Write(b []byte) (int, error) {
	c.lines.Add(1)
	return c.Writer.Write(b)
}
