package testnet

import (
	"bytes"
	"context"
	"io"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

const (
	// mostCaptured is how much of a capture is kept: of a flood the beginning will do.
	mostCaptured = 1 << 16
	// captureDelay is how long tcpdump may take to decode what was sent last.
	captureDelay = 50 * time.Millisecond
)

// Capture has tcpdump decode into the test's log what goes over a link of the host
// until the test ends. The test fails if an ICMPv6 checksum is wrong in a packet
// that has the text of blame in its line; an empty blame is no packet.
func (h *Host) Capture(t testing.TB, link, filter, blame string) {
	t.Helper()
	cmd := h.Command(context.Background(), "tcpdump", "-Z", "root", "--immediate-mode", "-nvve", "-i", link, filter)
	out, in := io.Pipe()
	cmd.Stdout, cmd.Stderr = in, in
	var log bytes.Buffer
	started, copied := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(copied)
		var once sync.Once
		for b := make([]byte, 4096); ; {
			n, err := out.Read(b)
			log.Write(b[:min(n, mostCaptured-log.Len())])
			if bytes.Contains(log.Bytes(), []byte("listening on")) {
				once.Do(func() { close(started) })
			}
			if err != nil {
				return
			}
		}
	}()
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		time.Sleep(captureDelay)
		_ = cmd.Process.Signal(syscall.SIGINT)
		_ = cmd.Wait()
		_ = in.Close()
		<-copied
		t.Logf("on %s of %s:\n%s", link, h.Name(), log.String())
		for line := range strings.Lines(log.String()) {
			if blame != "" && strings.Contains(line, blame) && strings.Contains(line, "bad icmp6 cksum") {
				t.Errorf("tcpdump finds a wrong checksum: %s", line)
			}
		}
	})
	select {
	case <-started:
	case <-time.After(raiseTimeout):
		t.Fatal("tcpdump does not start")
	}
}
