//go:build netns

package main

import (
	"context"
	"encoding/binary"
	"fmt"
	"io"
	"net"
	"net/netip"
	"testing"
	"time"

	"github.com/v6net/v6net/internal/control"
	"github.com/v6net/v6net/internal/kernel/sandbox"
	"github.com/v6net/v6net/internal/spec"
	"github.com/v6net/v6net/internal/testnet"
)

// outside is the world that this host's eth0 leads to.
type outside struct{ up *testnet.Host }

func newOutside(t *testing.T) outside {
	t.Helper()
	self, up := testnet.Self(t), testnet.New(t, "up")
	testnet.Connect(t, self, "eth0", up, "lan0")
	up.Run(t, "ip", "addr", "add", "2001:db8:ffff::1/128", "dev", "lo")
	self.Run(t, "ip", "route", "add", "default", "via", up.LinkLocal(t, "lan0"), "dev", "eth0")
	return outside{up}
}

// furnish gives a container its link, as an engine does.
func furnish(t *testing.T, container *testnet.Host, a spec.Attachment, ep spec.Endpoint) {
	t.Helper()
	if _, err := sandbox.Furnish(t.Context(), container.Path(), sandbox.Link{
		Name: a.Interface, Alias: spec.EndpointAlias(ep.ID), Rename: "eth0", Addresses: []netip.Prefix{ep.IPv6},
		Routes: []sandbox.Route{{Destination: netip.MustParsePrefix("::/0"), Gateway: a.Gateway6}},
	}); err != nil {
		t.Fatal(err)
	}
}

// attach runs container n of a network by the control API, as Podman does. It publishes
// port 80, where it sends back what it gets.
func attach(t *testing.T, client *control.Client, network spec.NetworkRequest, n int) (*testnet.Host, spec.Endpoint) {
	t.Helper()
	container := testnet.New(t, fmt.Sprintf("c%d", n))
	attached, err := client.Attach(t.Context(), spec.AttachRequest{Network: network, ID: number("e", n), Container: number("c", n), Name: fmt.Sprint("web", n),
		Interface: "eth0", Sandbox: container.Path(), Ports: []spec.Port{{Protocol: "tcp", Port: 80, HostPort: 80}}})
	if err != nil {
		t.Fatal(err)
	}
	furnish(t, container, attached.Attachment, attached.Endpoint)
	echo(t, container)
	return container, attached.Endpoint
}

// echo has a container send back what it gets on port 80.
func echo(t *testing.T, container *testnet.Host) {
	t.Helper()
	listen(t, container, "[::]:80", func(c net.Conn) { _, _ = io.Copy(c, c) })
}

// listen has a host serve who connects to an address and port, until the end of the test.
func listen(t *testing.T, host *testnet.Host, where string, serve func(net.Conn)) {
	t.Helper()
	host.Do(t, func() {
		l, err := net.Listen("tcp", where)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = l.Close() })
		go func() {
			for {
				c, err := l.Accept()
				if err != nil {
					return
				}
				go func() {
					defer func() { _ = c.Close() }()
					serve(c)
				}()
			}
		}()
	})
}

// answers waits until an address answers from outside. How long that took it logs: on a
// machine that has other things to do it says little.
func (o outside) answers(t *testing.T, addr string) {
	t.Helper()
	began := time.Now()
	within(t, addr+" answers from outside", func() bool { return o.connects(t, addr) })
	if took := time.Since(began); took > time.Second {
		t.Logf("%s answers from outside after %v", addr, took.Round(time.Millisecond))
	}
}

func (o outside) connects(t *testing.T, addr string) bool {
	ctx, cancel := context.WithTimeout(t.Context(), time.Second)
	defer cancel()
	c, err := o.up.DialContext(ctx, "tcp", net.JoinHostPort(addr, "80"))
	if err != nil {
		return false
	}
	defer func() { _ = c.Close() }()
	_ = c.SetDeadline(time.Now().Add(time.Second))
	if _, err := c.Write([]byte("hello")); err != nil {
		return false
	}
	_, err = io.ReadFull(c, make([]byte, 5))
	return err == nil
}

// streamPause is between two numbers of a stream: as fast as they can, ten streams would
// take all of the machine's time from what they are to watch.
const streamPause = 5 * time.Millisecond

// stream is a connection on which numbers go to and fro.
type stream struct {
	conn net.Conn
	over chan struct{}
	done chan error
	sent int
}

func (o outside) stream(t *testing.T, addr string) *stream {
	t.Helper()
	c, err := o.up.DialContext(t.Context(), "tcp", net.JoinHostPort(addr, "80"))
	if err != nil {
		t.Fatal(err)
	}
	st := &stream{conn: c, over: make(chan struct{}), done: make(chan error)}
	go func() { st.done <- st.run() }()
	t.Cleanup(func() { _ = c.Close() })
	return st
}

func (st *stream) run() error {
	b, back := make([]byte, 8), make([]byte, 8)
	tick := time.NewTicker(streamPause)
	defer tick.Stop()
	for {
		select {
		case <-st.over:
			return st.conn.Close()
		case <-tick.C:
		}
		binary.BigEndian.PutUint64(b, uint64(st.sent))
		_ = st.conn.SetDeadline(time.Now().Add(patience))
		if _, err := st.conn.Write(b); err != nil {
			return fmt.Errorf("after %d bytes: %w", 8*st.sent, err)
		}
		if _, err := io.ReadFull(st.conn, back); err != nil {
			return fmt.Errorf("after %d bytes: %w", 8*st.sent, err)
		}
		if got := binary.BigEndian.Uint64(back); got != uint64(st.sent) {
			return fmt.Errorf("after %d bytes: %d came back for %d", 8*st.sent, got, st.sent)
		}
		st.sent++
	}
}

// end ends the conversation and says how many bytes of it went to and fro.
func (st *stream) end(t *testing.T) int {
	t.Helper()
	close(st.over)
	if err := <-st.done; err != nil {
		t.Errorf("the conversation on the former prefix: %v", err)
	}
	return 8 * st.sent
}
