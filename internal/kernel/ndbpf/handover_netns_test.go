//go:build netns

package ndbpf

import (
	"context"
	"encoding/binary"
	"errors"
	"log/slog"
	"net/netip"
	"os"
	"sync/atomic"
	"testing"
	"time"

	"github.com/v6net/v6net/internal/testnet"
	"github.com/v6net/v6net/ndproxy"
)

// Every solicitation is answered before the program is loaded, while it comes and while it
// goes, and afterwards. (By clsact a link loses what it sends, whoever sends it, for a moment.)
func TestHandover(t *testing.T) {
	l := &lab{self: testnet.Self(t), up: testnet.New(t, "up"), link: "eth0"}
	testnet.Connect(t, l.self, "eth0", l.up, "lan0")
	l.up.AddAddress(t, "2001:db8::2/64", "lan0")
	l.wire = l.open(t, "lan0")
	begin := make(chan struct{})
	l.proxy = ndproxy.NewSupervisor(func(ctx context.Context, link string) (ndproxy.Conn, error) {
		conn, err := dial(ctx, link, attachTCX, func(objects *programObjects) error { <-begin; return load(objects) })
		l.conn.Store(conn)
		return conn, err
	}, ndproxy.Knobs{}, slog.New(slog.NewTextHandler(t.Output(), nil)))
	testnet.Running(t, "the proxy", l.proxy.Run)
	l.proxy.Add(l.link, target)
	testnet.Eventually(t, patience, "an answer", func() bool { return l.up.Resolve(t, leased, "lan0") != "" })
	l.drain(t)
	if err := l.wire.SetReadDeadline(time.Time{}); err != nil {
		t.Fatal(err)
	}
	var answered [1 << 16]atomic.Int32 // by what the source ends with
	received := make(chan error)
	go func() { received <- l.count(&answered) }()
	asked := 0
	ask := func(span time.Duration, until func() bool) {
		q := multicastTo(target)
		for since := time.Now(); asked < len(answered) && (time.Since(since) < span || !until()); asked++ {
			q.source = netip.AddrFrom16([16]byte{0: 0xfe, 1: 0x80, 8: 1, 14: byte(asked >> 8), 15: byte(asked)})
			l.send(t, q.frame(t))
			time.Sleep(100 * time.Microsecond)
		}
	}
	const some = 50 * time.Millisecond
	conn := l.conn.Load()
	ask(some, func() bool { return !conn.isAttached() })
	close(begin)
	ask(some, conn.isAttached)
	ask(some, func() bool { return true })
	byProgram := l.settled()["solicited"]
	detached := make(chan error, 1)
	go func() { detached <- conn.Detach() }()
	ask(some, func() bool { return !conn.isAttached() })
	if err := <-detached; err != nil {
		t.Error(err)
	}
	if err := l.wire.SetReadDeadline(time.Now().Add(time.Second)); err != nil {
		t.Fatal(err)
	}
	if err := <-received; !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Error(err)
	}
	var without []int
	twice := 0
	for i := range asked {
		switch answered[i].Load() {
		case 0:
			without = append(without, i)
		case 2:
			twice++
		}
	}
	t.Logf("%d questions; the program has answered %d, and for a moment both, %d", asked, byProgram, twice)
	if len(without) > 0 || byProgram == 0 || byProgram > uint64(asked)*9/10 {
		t.Errorf("of %d questions these had no answer: %v", asked, without)
	}
}

// count counts the advertisements for each address they are sent to, by its last two bytes.
func (l *lab) count(answered *[1 << 16]atomic.Int32) error {
	for b := make([]byte, 2048); ; {
		n, err := l.wire.Read(b)
		if err != nil {
			return err
		}
		if n >= 78 && b[20] == 58 && b[54] == 136 && b[38] == 0xfe {
			answered[binary.BigEndian.Uint16(b[52:])].Add(1)
		}
	}
}
