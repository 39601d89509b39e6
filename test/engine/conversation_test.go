//go:build engine

package engine_test

import (
	"fmt"
	"io"
	"net"
	"testing"
	"time"

	"github.com/v6net/v6net/internal/testnet"
)

// echoCommand serves HTTP on port 80, as the image does by itself, and on port 7
// says what it is told (RFC 862).
var echoCommand = []string{"sh", "-c", "httpd -h /www; nc -ll -p 7 -e cat & trap exit TERM; wait"}

// patience is how long a conversation waits for an answer.
const patience = 20 * time.Second

// conversation is a TCP connection that is never idle. It tells whether those
// who used a network noticed what was done to it.
type conversation struct {
	address string
	conn    net.Conn
	stop    chan struct{}
	ended   chan struct{}
	longest time.Duration // for which it waited for an answer; read after ended
	stalled time.Duration // the longest that the machine itself had it wait; as longest
	err     error
}

// converse starts a conversation with the echo server at an address, as soon as
// that is up.
func converse(t *testing.T, from *testnet.Host, address string) *conversation {
	t.Helper()
	var conn net.Conn
	var err error
	for deadline := time.Now().Add(longest); ; time.Sleep(50 * time.Millisecond) {
		conn, err = from.DialContext(t.Context(), "tcp", address)
		if err == nil {
			break
		}
		if time.Now().After(deadline) {
			t.Fatal(err)
		}
	}
	c := &conversation{address: address, conn: conn, stop: make(chan struct{}), ended: make(chan struct{})}
	go func() {
		defer close(c.ended)
		c.err = c.talk()
	}()
	t.Cleanup(func() {
		_ = conn.Close()
		<-c.ended
	})
	return c
}

func (c *conversation) talk() error {
	answer := make([]byte, 1)
	const pause = 5 * time.Millisecond
	for {
		idle := time.Now()
		select {
		case <-c.stop:
			return nil
		case <-time.After(pause):
		}
		asked := time.Now()
		c.stalled = max(c.stalled, asked.Sub(idle)-pause)
		if err := c.conn.SetDeadline(asked.Add(patience)); err != nil {
			return err
		}
		if _, err := c.conn.Write([]byte{'?'}); err != nil {
			return err
		}
		if _, err := io.ReadFull(c.conn, answer); err != nil {
			return fmt.Errorf("no answer for %v: %w", time.Since(asked), err)
		}
		c.longest = max(c.longest, time.Since(asked))
	}
}

// mustHaveGoneOn ends a conversation and checks that it was never silent for
// longer than a limit, and what the machine made each of the two who talk wait.
func (c *conversation) mustHaveGoneOn(t *testing.T, limit time.Duration) {
	t.Helper()
	close(c.stop)
	<-c.ended
	switch {
	case c.err != nil:
		t.Errorf("conversation with %s: %v", c.address, c.err)
	case c.longest > limit+2*c.stalled:
		t.Errorf("conversation with %s was silent for %v, allowed are %v; the machine had it wait for up to %v", c.address, c.longest, limit, c.stalled)
	}
}

// stream sends a thousand packets a second from far to port 9 of a container, which has them
// sent back.
func (l *lab) stream(t *testing.T, container, address string) *testnet.Stream {
	t.Helper()
	in := testnet.At(container, "/proc/"+l.inspect(t, container, "{{.State.Pid}}")+"/ns/net")
	return testnet.StartStream(t, l.far, in, address, "9")
}

// mustLoseNothing ends a stream and checks that every packet has come, and come back.
func mustLoseNothing(t *testing.T, s *testnet.Stream) {
	t.Helper()
	o := s.Stop()
	t.Logf("a stream of %d packets: %d arrived, %d came back, the longest pause %v", o.Sent, o.There, o.Back, o.Pause.Round(time.Millisecond))
	if o.There != o.Sent || o.Back != o.Sent {
		t.Errorf("of %d packets %d have arrived and %d come back", o.Sent, o.There, o.Back)
	}
}
