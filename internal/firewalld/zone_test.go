package firewalld

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/godbus/dbus/v5"
)

// firewalld, and D-Bus with it, may be installed while v6net runs: the bus is looked for
// again when a network is made, and not before.
func TestBusComesLater(t *testing.T) {
	socket := filepath.Join(t.TempDir(), "bus")
	k := NewKeeper("unix:path="+socket, slog.New(slog.DiscardHandler))
	connect, tried := k.connect, make(chan error, 8)
	k.connect = func(ctx context.Context) (*dbus.Conn, error) {
		conn, err := connect(ctx)
		tried <- err
		return conn, err
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- k.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	if err := <-tried; !errors.Is(err, os.ErrNotExist) {
		t.Fatalf("without a bus: %v", err)
	}
	k.Keep([]string{"web0"}, nil)
	if err := <-tried; !errors.Is(err, os.ErrNotExist) {
		t.Fatalf("without a bus, when there is a network: %v", err)
	}
	l, err := net.Listen("unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() })
	if err := l.(*net.UnixListener).SetDeadline(time.Now().Add(20 * time.Second)); err != nil {
		t.Fatal(err)
	}
	k.Keep([]string{"web0", "web1"}, nil)
	conn, err := l.Accept()
	if err != nil {
		t.Fatalf("the bus is there, a network was made, and nobody has connected: %v", err)
	}
	_ = conn.Close()
}
