package nflog

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/mdlayher/netlink"
	route "github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/v6net/v6net/internal/firewall"
)

// bufferBytes is room for packets that nobody has read yet. More are lost, and counted
// where all denied packets are.
const bufferBytes = 1 << 20

// Listener hears of denied packets while it is wanted. Groups are a network namespace's
// own: two listeners in two of them do not meet.
type Listener struct {
	group uint16
	links *route.Handle
	bound chan *netlink.Conn // the one that Run is to read

	mu   sync.Mutex
	conn *netlink.Conn // nil: nothing is listened to
}

// New makes one that listens to nothing yet, and looks links up in the network namespace
// of the calling thread.
func New(group uint16) (*Listener, error) {
	links, err := route.NewHandle(unix.NETLINK_ROUTE)
	if err != nil {
		return nil, fmt.Errorf("open rtnetlink socket: %w", err)
	}
	return &Listener{group: group, links: links, bound: make(chan *netlink.Conn, 1)}, nil
}

// Close ends it.
func (l *Listener) Close() error {
	err := l.Listen(false)
	l.links.Close()
	return err
}

// Listen begins to listen, in the network namespace of the calling thread, or ends it:
// the group is anybody's then. Again is no change.
func (l *Listener) Listen(on bool) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	switch {
	case on == (l.conn != nil):
		return nil
	case !on:
		conn := l.conn
		l.conn = nil
		select {
		case <-l.bound: // nobody has begun to read it
		default:
		}
		if err := conn.Close(); err != nil { // with the socket goes what it is bound to
			return fmt.Errorf("close the socket of NFLOG group %d: %w", l.group, err)
		}
		return nil
	}
	conn, err := dial(l.group)
	if err != nil {
		return err
	}
	l.conn = conn
	l.bound <- conn // which is empty: it is emptied where one ends
	return nil
}

// dial opens a socket that is the group's listener.
func dial(group uint16) (*netlink.Conn, error) {
	conn, err := netlink.Dial(unix.NETLINK_NETFILTER, nil)
	if err != nil {
		return nil, fmt.Errorf("open netfilter netlink socket: %w", err)
	}
	if err := take(conn, group); err != nil {
		return nil, errors.Join(err, conn.Close())
	}
	return conn, nil
}

// take binds the group.
func take(conn *netlink.Conn, group uint16) error {
	// What is lost is no error: it has been counted.
	if err := errors.Join(conn.SetReadBuffer(bufferBytes), conn.SetOption(netlink.NoENOBUFS, true)); err != nil {
		return fmt.Errorf("set up the socket of NFLOG group %d: %w", group, err)
	}
	request, err := bind(group)
	if err != nil {
		return err
	}
	if request, err = conn.Send(request); err != nil {
		return fmt.Errorf("bind NFLOG group %d: %w", group, err)
	}
	if err := conn.SetReadDeadline(time.Now().Add(answerTime)); err != nil {
		return err
	}
	// A packet may come before the answer. It is not told, as those before it.
	for answered := false; !answered; {
		messages, err := conn.Receive()
		switch {
		case errors.Is(err, unix.EPERM), errors.Is(err, unix.EBUSY): // whose it is has another socket
			return fmt.Errorf("NFLOG group %d is another program's, which /proc/net/netfilter/nfnetlink_log names (choose another by --firewall-log-group): %w", group, err)
		case err != nil:
			return fmt.Errorf("bind NFLOG group %d: %w", group, err)
		}
		for _, m := range messages {
			answered = answered || m.Header.Type == netlink.Error && m.Header.Sequence == request.Header.Sequence
		}
	}
	return conn.SetReadDeadline(time.Time{})
}

// answerTime is for how long the kernel, which answers within the request, is waited for.
const answerTime = 5 * time.Second

// Run passes on what is told until ctx ends.
func (l *Listener) Run(ctx context.Context, tell func(firewall.Refusal)) error {
	for {
		select {
		case <-ctx.Done():
			return nil
		case conn := <-l.bound:
			if err := l.read(ctx, conn, tell); err != nil {
				return err
			}
		}
	}
}

// read ends with ctx, or with the socket.
func (l *Listener) read(ctx context.Context, conn *netlink.Conn, tell func(firewall.Refusal)) error {
	stop := context.AfterFunc(ctx, func() { _ = conn.SetReadDeadline(time.Unix(1, 0)) })
	defer stop()
	for {
		messages, err := conn.Receive()
		switch {
		case err != nil && (ctx.Err() != nil || !l.reads(conn)):
			return nil
		case err != nil:
			return fmt.Errorf("read NFLOG group %d: %w", l.group, err)
		}
		for _, m := range messages {
			if t, ok := decode(m); ok {
				t.In, t.Out, t.Port = l.name(t.in), l.name(t.out), l.name(t.port)
				tell(t.Refusal)
			}
		}
	}
}

// reads reports whether a socket is still listened to.
func (l *Listener) reads(conn *netlink.Conn) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.conn == conn
}

// name is a link's; empty: it is gone.
func (l *Listener) name(index uint32) string {
	if index == 0 {
		return ""
	}
	link, err := l.links.LinkByIndex(int(index))
	if err != nil {
		return ""
	}
	return link.Attrs().Name
}
