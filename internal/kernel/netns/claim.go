package netns

import (
	"errors"
	"fmt"
	"net"
	"os"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// ErrClaimed says that another process holds the claim.
var ErrClaimed = errors.New("another v6net daemon runs in this network namespace")

// Claim makes this process the only one in its network namespace to hold name,
// until release is called or the process ends, however it ends. The error
// matches [ErrClaimed] and names the holder's process where that is visible.
//
// The claim is an abstract unix socket: those live in the network namespace,
// not in a file system, so two daemons in different containers with host
// networking see each other, and nothing is left behind by kill -9.
func Claim(name string) (release func() error, err error) {
	listener, err := net.Listen("unix", "@"+name)
	switch {
	case errors.Is(err, unix.EADDRINUSE):
		if pid, ok := holder(name); ok {
			return nil, fmt.Errorf("claim %s: %w (process %d)", name, ErrClaimed, pid)
		}
		return nil, fmt.Errorf("claim %s: %w", name, ErrClaimed)
	case err != nil:
		return nil, fmt.Errorf("claim %s: %w", name, err)
	}
	return listener.Close, nil
}

// Claimant tells the holders of a claim apart, by the number that the kernel gives the
// socket; it is empty where nobody holds it in the network namespace of this thread.
// Nothing is connected to.
func Claimant(name string) (string, error) {
	// Columns: the fourth are flags, of which SO_ACCEPTCON marks who listens, the seventh is the
	// inode, the last one the name (net/unix/af_unix.c, unix_seq_show).
	table, err := os.ReadFile("/proc/thread-self/net/unix")
	if err != nil {
		return "", fmt.Errorf("look for the claim %s: %w", name, err)
	}
	for line := range strings.Lines(string(table)) {
		if f := strings.Fields(line); len(f) == 8 && f[3] == "00010000" && f[7] == "@"+name {
			return f[6], nil
		}
	}
	return "", nil
}

// holder asks the kernel who listens on the claim's socket (SO_PEERCRED,
// unix(7)). It is false when that process is in another PID namespace.
func holder(name string) (pid int32, ok bool) {
	conn, err := net.DialTimeout("unix", "@"+name, time.Second)
	if err != nil {
		return 0, false
	}
	defer func() { _ = conn.Close() }()
	raw, err := conn.(*net.UnixConn).SyscallConn()
	if err != nil {
		return 0, false
	}
	var cred *unix.Ucred
	var credErr error
	err = raw.Control(func(fd uintptr) {
		cred, credErr = unix.GetsockoptUcred(int(fd), unix.SOL_SOCKET, unix.SO_PEERCRED)
	})
	if err != nil || credErr != nil || cred.Pid == 0 {
		return 0, false
	}
	return cred.Pid, true
}
