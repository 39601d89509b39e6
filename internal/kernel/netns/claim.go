package netns

import (
	"crypto/rand"
	"errors"
	"fmt"
	"net"
	"strings"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// ErrClaimed says that another process holds the claim.
var ErrClaimed = errors.New("another v6net daemon runs in this network namespace")

const (
	// claimTries and claimPause are for two that begin at once, each of which sees the other.
	claimTries = 5
	claimPause = 20 * time.Millisecond
)

// Claim makes this process the only one of root's in its network namespace to hold name,
// until release is called or the process ends, however it ends. The error
// matches [ErrClaimed] and names the holder's process where that is visible.
//
// The claim is an abstract unix socket: those live in the network namespace,
// not in a file system, so two daemons in different containers with host
// networking see each other, and nothing is left behind by kill -9. Any user may
// bind one, too: who is not root holds no claim, and when he has the name the claim
// is one that begins so. Therefore all are looked at, once this process has its own:
// of two at the same time at least one sees the other. Earlier versions know the
// name alone, which is why it is taken whenever it is free.
func Claim(name string) (release func() error, err error) {
	for try := 1; ; try++ {
		var own string
		release, own, err = bind(name)
		if err != nil {
			return nil, fmt.Errorf("claim %s: %w", name, err)
		}
		other, err := holderBeside(name, own)
		if err == nil && other == "" {
			return release, nil
		}
		if err := errors.Join(err, release()); err != nil {
			return nil, fmt.Errorf("claim %s: %w", name, err)
		}
		if try == claimTries {
			return nil, fmt.Errorf("claim %s: %w", name, claimedBy(other))
		}
		time.Sleep(claimPause/2 + time.Duration(random()%uint64(claimPause)))
	}
}

// bind holds a name of the claim, unless a process of root's has the first one.
func bind(name string) (release func() error, own string, err error) {
	listener, err := net.Listen("unix", "@"+name)
	if own = name; errors.Is(err, unix.EADDRINUSE) {
		other, err := holderBeside(name, "")
		if err != nil {
			return nil, "", err
		}
		if other != "" {
			return nil, "", claimedBy(other)
		}
		own = fmt.Sprintf("%s.%016x", name, random()) // which nobody can have taken before
		listener, err = net.Listen("unix", "@"+own)
		if err != nil {
			return nil, "", err
		}
	} else if err != nil {
		return nil, "", err
	}
	var accepting sync.WaitGroup
	accepting.Go(func() { // who asks whose it is does not wait there for ever
		for {
			c, err := listener.Accept()
			if err != nil {
				return
			}
			_ = c.Close()
		}
	})
	return func() error {
		err := listener.Close()
		accepting.Wait()
		return err
	}, own, nil
}

func random() (n uint64) {
	var b [8]byte
	_, _ = rand.Read(b[:]) // it cannot fail
	for _, octet := range b {
		n = n<<8 | uint64(octet)
	}
	return n
}

// holderBeside is the name that another process holds the claim by, if one does.
func holderBeside(name, own string) (string, error) {
	all, err := claims(name)
	for _, c := range all {
		if c.holds() && c.name != own {
			return c.name, err
		}
	}
	return "", err
}

// Claimant tells the holders of a claim apart, by the number that the kernel gives the
// socket; it is empty where nobody holds it in the network namespace of this thread.
// Nothing is connected to.
func Claimant(name string) (string, error) {
	all, err := claims(name)
	for _, c := range all {
		if c.holds() && c.listens {
			return fmt.Sprint(c.inode), err
		}
	}
	return "", err
}

// Intruders are the users, none of them root, that have taken a name of a claim.
func Intruders(name string) ([]uint32, error) {
	all, err := claims(name)
	var users []uint32
	for _, c := range all {
		if !c.holds() {
			users = append(users, c.uid)
		}
	}
	return users, err
}

// claimSocket is one that has a name of a claim.
type claimSocket struct {
	name    string
	inode   uint32
	listens bool
	uid     uint32 // who made it: 0 where the kernel does not say, before 5.3
}

func (c claimSocket) holds() bool { return c.uid == 0 }

// isClaim reports whether an abstract socket's name is one of a claim.
func isClaim(socket, name string) bool {
	return socket == name || strings.HasPrefix(socket, name+".")
}

// claimedBy is the error for who comes second.
func claimedBy(socket string) error {
	if pid, ok := holder(socket); ok {
		return fmt.Errorf("%w (process %d)", ErrClaimed, pid)
	}
	return ErrClaimed
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
