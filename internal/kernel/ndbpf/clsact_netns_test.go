//go:build netns

package ndbpf

import (
	"errors"
	"net"
	"strings"
	"syscall"
	"testing"

	"github.com/cilium/ebpf"

	"github.com/v6net/v6net/internal/testnet"
	"github.com/v6net/v6net/ndproxy"
)

// shown is what tc says of ingress of eth0.
func shown(t *testing.T) string {
	t.Helper()
	self := testnet.Self(t)
	return self.Run(t, "tc", "qdisc", "show", "dev", "eth0") + "\n" + self.Run(t, "tc", "filter", "show", "dev", "eth0", "ingress")
}

// otherFilter is one of another program.
func otherFilter(t *testing.T, do string) {
	t.Helper()
	match := []string{}
	if do == "add" {
		match = []string{"match", "u32", "0", "0", "flowid", "1:1"}
	}
	testnet.Self(t).Run(t, append([]string{"tc", "filter", do, "dev", "eth0", "ingress", "protocol", "ipv6", "prio", "7", "u32"}, match...)...)
}

// The filter by clsact is ours alone: what others have there stays.
func TestClsactIsShared(t *testing.T) {
	testnet.Connect(t, testnet.Self(t), "eth0", testnet.New(t, "up"), "lan0")
	before := shown(t)
	var objects programObjects
	if err := load(&objects); err != nil {
		t.Fatal(err)
	}
	defer func() { _ = objects.Close() }()
	device, err := net.InterfaceByName("eth0")
	if err != nil {
		t.Fatal(err)
	}
	at := attachPoint{"eth0", device.Index}
	attachIt := func() attachment {
		t.Helper()
		a, err := attachClsact(at, objects.NdproxyAnswer)
		if err != nil {
			t.Fatal(err)
		}
		if got := shown(t); strings.Count(got, filterName) != 1 || !strings.Contains(got, "direct-action") {
			t.Errorf("attached, and tc shows\n%s", got)
		}
		return a
	}
	a := attachIt()
	if _, err := attachClsact(at, objects.NdproxyAnswer); err == nil || !strings.Contains(err.Error(), "another process of v6net") {
		t.Errorf("a second one is attached: %v", err)
	}
	if err := errors.Join(Sweep(t.Context()), a.Close(), a.Close()); err != nil || shown(t) != before {
		t.Errorf("after Close (%v) tc shows\n%s\nwant\n%s", err, shown(t), before)
	}

	a = attachIt()
	otherFilter(t, "add")
	if err := a.Close(); err != nil || !strings.Contains(shown(t), "u32") || strings.Contains(shown(t), filterName) {
		t.Errorf("after Close (%v) with another's filter tc shows\n%s", err, shown(t))
	}
	otherFilter(t, "del")
	with := shown(t)
	if err := attachIt().Close(); err != nil || shown(t) != with || !strings.Contains(with, "clsact") {
		t.Errorf("after Close (%v) on another's qdisc tc shows\n%s\nwant\n%s", err, shown(t), with)
	}
}

// Before Linux 6.6 what a process that was killed has attached would answer for
// ever. A sweep finds it whether its link is used again or not, and what is alive,
// or another's, stays.
func TestSweep(t *testing.T) {
	testnet.Connect(t, testnet.Self(t), "eth0", testnet.New(t, "up"), "lan0")
	before := shown(t)
	if err := Sweep(t.Context()); err != nil || shown(t) != before {
		t.Errorf("nothing to sweep (%v), and tc shows\n%s\nwant\n%s", err, shown(t), before)
	}
	run := func() (kill func()) {
		t.Helper()
		cmd, line := start(t, testnet.Self(t), "clsact")
		if line != "attached: <nil>" {
			t.Fatalf("child says %q", line)
		}
		return func() {
			_ = cmd.Process.Signal(syscall.SIGKILL)
			_ = cmd.Wait()
		}
	}
	kill := run()
	if err := Sweep(t.Context()); err != nil || !strings.Contains(shown(t), filterName) {
		t.Errorf("swept what a live process has (%v); tc shows\n%s", err, shown(t))
	}
	kill()
	if !strings.Contains(shown(t), filterName) {
		t.Fatal("a filter by clsact goes with its process: the test proves nothing")
	}
	if err := Sweep(t.Context()); err != nil || shown(t) != before {
		t.Errorf("after the kill and Sweep (%v) tc shows\n%s\nwant\n%s", err, shown(t), before)
	}

	run()() // killed, and the next one takes the place
	kill = run()
	kill()
	otherFilter(t, "add")
	if err := Sweep(t.Context()); err != nil || strings.Contains(shown(t), filterName) || !strings.Contains(shown(t), "u32") {
		t.Errorf("after Sweep (%v) with another's filter tc shows\n%s", err, shown(t))
	}
}

// What cannot be taken away must not answer, and is tried again.
func TestDetachFails(t *testing.T) {
	testnet.Connect(t, testnet.Self(t), "eth0", testnet.New(t, "up"), "lan0")
	for _, detach := range []func(*Conn) error{(*Conn).Detach, (*Conn).Close} {
		var a stubborn
		dialed, err := dial(t.Context(), "eth0", func(at attachPoint, p *ebpf.Program) (attachment, error) {
			var err error
			a.attachment, err = attachClsact(at, p)
			return &a, err
		}, load)
		conn := loaded(t, dialed, err)
		if err := conn.Attach(ndproxy.Station{HardwareAddr: conn.HardwareAddr(), TargetAsSource: true}, ndproxy.Knobs{}); err != nil {
			t.Fatal(err)
		}
		a.err = errors.New("no buffer space")
		if err := detach(conn); err == nil || !conn.isAttached() || conn.config.Ready != 0 {
			t.Errorf("error %v, attached %v, ready %d after a failure", err, conn.isAttached(), conn.config.Ready)
		}
		a.err = nil
		if err := conn.Detach(); err != nil || conn.isAttached() || strings.Contains(shown(t), filterName) {
			t.Errorf("error %v, attached %v when tried again; tc shows\n%s", err, conn.isAttached(), shown(t))
		}
		_ = conn.Close()
	}
}

// stubborn is an attachment that does not let itself be taken away while it has an error.
type stubborn struct {
	attachment
	err error
}

func (s *stubborn) Close() error {
	if s.err != nil {
		return s.err
	}
	return s.attachment.Close()
}
