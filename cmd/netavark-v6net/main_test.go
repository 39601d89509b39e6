package main

import (
	"net"
	"os"
	"os/signal"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
)

func TestDaemonByEnvironment(t *testing.T) {
	path := filepath.Join(t.TempDir(), "v6net.sock")
	t.Setenv("V6NET_CONTROL_SOCKET", path)
	if _, err := daemon(); err == nil || !strings.Contains(err.Error(), "start one with `v6net daemon --control-socket "+path+"`") {
		t.Errorf("without a daemon: %v", err)
	}
	l, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close() //nolint:errcheck // nothing was sent
	if d, err := daemon(); err != nil || d == nil {
		t.Errorf("with a daemon: %v, %v", d, err)
	}
}

func TestWaitingIsSaid(t *testing.T) {
	var said strings.Builder
	client("unused", &said).Waiting()
	if said.String() != "v6net: waiting for the daemon …\n" {
		t.Errorf("while the daemon takes its time Podman shows %q", said.String())
	}
}

func TestRootlessByPodmansMark(t *testing.T) {
	t.Setenv("_CONTAINERS_ROOTLESS_UID", "1000")
	if !rootless() {
		t.Error("Podman of user 1000 is taken for root's")
	}
}

// What netavark has a call ignore ends it not.
func TestIgnoredSignalsStayIgnored(t *testing.T) {
	signal.Ignore(syscall.SIGINT)
	defer signal.Reset(syscall.SIGINT)
	if got := endings(); slices.Contains(got, os.Signal(syscall.SIGINT)) || !slices.Contains(got, os.Signal(syscall.SIGTERM)) {
		t.Errorf("a call that ignores SIGINT is ended by %v", got)
	}
}
