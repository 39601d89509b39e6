package control

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"os"
	"syscall"
)

// caller is the process at the other end of a connection, as it was when it connected: the
// kernel says so (SO_PEERCRED, unix(7)), and not the caller.
type caller struct {
	syscall.Ucred
	err error // why it is not known
}

type callerKey struct{}

// withCaller keeps who a connection's requests are from.
func withCaller(ctx context.Context, c net.Conn) context.Context {
	return context.WithValue(ctx, callerKey{}, callerOf(c))
}

func callerOf(c net.Conn) caller {
	socket, ok := c.(syscall.Conn)
	if !ok {
		return caller{err: errors.New("this is no socket")}
	}
	raw, err := socket.SyscallConn()
	if err != nil {
		return caller{err: err}
	}
	var who *syscall.Ucred
	closed := raw.Control(func(fd uintptr) { who, err = syscall.GetsockoptUcred(int(fd), syscall.SOL_SOCKET, syscall.SO_PEERCRED) })
	if err := errors.Join(closed, err); err != nil {
		return caller{err: err}
	}
	return caller{Ucred: *who}
}

// mayChange reports whether a caller may change what there is: root, and the user that the
// daemon itself runs as. Others can have been let in by the socket's mode, to look; and what
// they then were allowed to do would be root's.
func (c caller) mayChange() bool {
	return c.Uid == 0 || int(c.Uid) == os.Geteuid()
}

// changing answers a request that changes something, if its caller may, and logs who that was.
func changing(level slog.Level, log *slog.Logger, change http.HandlerFunc) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		who, ok := r.Context().Value(callerKey{}).(caller)
		if !ok {
			who.err = errors.New("its connection is not known")
		}
		about := []any{"method", r.Method, "path", r.URL.Path, "uid", who.Uid, "pid", who.Pid}
		switch {
		case who.err != nil:
			log.Error("control: refused a change, since the kernel does not say who asks", append(about, "err", who.err)...)
			http.Error(w, "only root may change anything here, and who asks is not known: "+who.err.Error(), http.StatusForbidden)
			return
		case !who.mayChange():
			log.Warn("control: refused a change: only root may", about...)
			http.Error(w, fmt.Sprintf("only root may change anything here, and user %d asks: run this as root", who.Uid), http.StatusForbidden)
			return
		}
		log.Log(r.Context(), level, "control: asked for a change", about...)
		change(w, r)
	}
}
