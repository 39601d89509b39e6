package main

import (
	"net"
	"path/filepath"
	"strings"
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

func TestRootlessByPodmansMark(t *testing.T) {
	t.Setenv("_CONTAINERS_ROOTLESS_UID", "1000")
	if !rootless() {
		t.Error("Podman of user 1000 is taken for root's")
	}
}
