package testnet

import (
	"context"
	"encoding/binary"
	"errors"
	"net"
	"sync"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

const (
	// streamInterval is between two packets of a stream: a thousand a second.
	streamInterval = time.Millisecond
	// mostBehind is how many packets leave at once, at the most, when the machine was
	// busy with something else.
	mostBehind = 50
	// streamBuffer is room for what arrives while the machine is.
	streamBuffer = 8 << 20
)

// Stream is a flow of numbered UDP packets from one host to another one, which sends
// each back.
type Stream struct {
	conn    net.Conn       // of the sender
	echo    net.PacketConn // of the receiver
	stop    context.CancelFunc
	sending sync.WaitGroup
	reading sync.WaitGroup
	sent    int
	there   numbers // that have come
	back    numbers
}

// numbers are those of packets that have come.
type numbers struct {
	mu    sync.Mutex
	seen  map[uint64]bool
	last  time.Time
	pause time.Duration // the longest one between two of them
}

func (n *numbers) add(packet []byte) {
	n.mu.Lock()
	defer n.mu.Unlock()
	now := time.Now()
	if !n.last.IsZero() {
		n.pause = max(n.pause, now.Sub(n.last))
	}
	n.last = now
	n.seen[binary.BigEndian.Uint64(packet)] = true
}

func (n *numbers) count() int {
	n.mu.Lock()
	defer n.mu.Unlock()
	return len(n.seen)
}

// StartStream sends from one host to a UDP port at an address of the other one until
// [Stream.Stop]. It returns when the first packet has come back.
func StartStream(t testing.TB, from, to *Host, address, port string) *Stream {
	t.Helper()
	ctx, stop := context.WithCancel(context.Background())
	s := &Stream{stop: stop, there: numbers{seen: map[uint64]bool{}}, back: numbers{seen: map[uint64]bool{}}}
	to.Do(t, func() {
		var err error
		if s.echo, err = net.ListenPacket("udp", net.JoinHostPort(address, port)); err != nil {
			t.Fatal(err)
		}
	})
	conn, err := from.DialContext(ctx, "udp", net.JoinHostPort(address, port))
	if err != nil {
		t.Fatal(err)
	}
	s.conn = conn
	for _, c := range []any{s.echo, s.conn} {
		if err := widen(c.(syscall.Conn)); err != nil {
			t.Fatal(err)
		}
	}
	s.reading.Go(s.receive)
	s.reading.Go(s.answers)
	t.Cleanup(s.close)
	// The first one waits for neighbors, and may be lost with others that do.
	Eventually(t, raiseTimeout, "the first packet of a stream to "+address+" comes back", func() bool {
		if s.back.count() == 0 {
			_, _ = s.conn.Write(make([]byte, 8))
			time.Sleep(20 * time.Millisecond)
		}
		return s.back.count() > 0
	})
	s.sending.Go(func() { s.send(ctx) })
	return s
}

func (s *Stream) close() {
	s.stop()
	s.sending.Wait()
	_ = s.conn.Close()
	_ = s.echo.Close()
	s.reading.Wait()
}

// widen has a socket keep what comes while nobody reads.
func widen(c syscall.Conn) error {
	raw, err := c.SyscallConn()
	if err != nil {
		return err
	}
	var setErr error
	if err := raw.Control(func(fd uintptr) {
		setErr = unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_RCVBUFFORCE, streamBuffer)
	}); err != nil {
		return err
	}
	return setErr
}

// send sends number 1 and so on. What was to leave while the machine was busy leaves then.
func (s *Stream) send(ctx context.Context) {
	tick := time.NewTicker(streamInterval)
	defer tick.Stop()
	began, skipped, packet := time.Now(), 0, make([]byte, 8)
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		due := int(time.Since(began)/streamInterval) - skipped
		if behind := due - s.sent - mostBehind; behind > 0 {
			skipped, due = skipped+behind, due-behind
		}
		for ; s.sent < due; s.sent++ {
			binary.BigEndian.PutUint64(packet, uint64(s.sent+1))
			if _, err := s.conn.Write(packet); err != nil {
				_, _ = s.conn.Write(packet) // the error was an answer to an earlier one
			}
		}
	}
}

func (s *Stream) receive() {
	packet := make([]byte, 8)
	for {
		n, from, err := s.echo.ReadFrom(packet)
		if err != nil {
			return // closed
		}
		if n == len(packet) {
			s.there.add(packet)
			_, _ = s.echo.WriteTo(packet, from) // what does not leave does not come
		}
	}
}

func (s *Stream) answers() {
	packet := make([]byte, 8)
	for {
		n, err := s.conn.Read(packet)
		switch {
		case errors.Is(err, net.ErrClosed):
			return
		case err == nil && n == len(packet):
			s.back.add(packet)
		} // refused, say: then there is a number less
	}
}

// Outcome is what has become of a stream.
type Outcome struct {
	Sent  int
	There int           // arrived at the receiver
	Back  int           // came back to the sender
	Pause time.Duration // the longest one between two arrivals
}

// Stop ends the stream, and waits for what is on its way.
func (s *Stream) Stop() Outcome {
	s.stop()
	s.sending.Wait()
	for deadline := time.Now().Add(2 * time.Second); time.Now().Before(deadline) && s.back.count() <= s.sent; time.Sleep(10 * time.Millisecond) {
	}
	s.close()
	return Outcome{Sent: s.sent, There: s.there.count() - 1, Back: s.back.count() - 1, Pause: s.there.pause} // but for number 0
}
