package testcrash

import (
	"errors"
	"fmt"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Of linux/seccomp.h and linux/audit.h, where x/sys has none.
const (
	seccompDataNr    = 0
	seccompDataArgs  = 16
	notifyRecv       = 0xc0502100 // SECCOMP_IOCTL_NOTIF_RECV
	notifySend       = 0xc0182101 // SECCOMP_IOCTL_NOTIF_SEND
	notifyContinue   = 1          // SECCOMP_USER_NOTIF_FLAG_CONTINUE
	newListener      = 1 << 3     // SECCOMP_FILTER_FLAG_NEW_LISTENER
	waitKillable     = 1 << 5     // SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV
	setModeFilter    = 1          // SECCOMP_SET_MODE_FILTER
	retAllow         = 0x7fff0000
	retNotify        = 0x7fc00000
	sizeOfWakeUp     = 8
	notificationSize = 80
)

// notification is struct seccomp_notif.
type notification struct {
	id    uint64
	tid   uint32
	flags uint32
	nr    int32
	arch  uint32
	ip    uint64
	args  [6]uint64
}

// response is struct seccomp_notif_resp.
type response struct {
	id    uint64
	value int64
	err   int32
	flags uint32
}

// install has this thread, and all that it starts, ask before each system call that is
// not harmless. The thread has to end soon, since it asks, too.
func install() (listener int, err error) {
	program := program()
	fprog := unix.SockFprog{Len: uint16(len(program)), Filter: &program[0]}
	// Killable alone: else a signal, of which Go's runtime sends many, would have the call
	// begun anew and counted twice.
	fd, _, errno := unix.Syscall(unix.SYS_SECCOMP, setModeFilter, newListener|waitKillable, uintptr(unsafe.Pointer(&fprog)))
	if errno != 0 {
		return 0, fmt.Errorf("install the filter of system calls: %w", errno)
	}
	return int(fd), nil
}

// program allows what is harmless by its number, or by its arguments, and has the rest asked for.
func program() []unix.SockFilter {
	const load, equal, anyBit, ret = unix.BPF_LD | unix.BPF_W | unix.BPF_ABS, unix.BPF_JMP | unix.BPF_JEQ | unix.BPF_K, unix.BPF_JMP | unix.BPF_JSET | unix.BPF_K, unix.BPF_RET | unix.BPF_K
	argument := func(n uint32) unix.SockFilter {
		return unix.SockFilter{Code: load, K: seccompDataArgs + 8*n} // its lower half, on little endian machines
	}
	p := []unix.SockFilter{{Code: load, K: seccompDataNr}}
	for _, nr := range append(harmless, harmlessHere...) {
		p = append(p, unix.SockFilter{Code: equal, Jf: 1, K: nr}, unix.SockFilter{Code: ret, K: retAllow})
	}
	// Files that are not made, and what Go's poller is woken by: also in the thread that
	// starts the program, at moments at which nobody may be waited for.
	return append(p,
		unix.SockFilter{Code: equal, Jf: 3, K: unix.SYS_OPENAT},
		argument(2),
		unix.SockFilter{Code: anyBit, Jt: 4, K: unix.O_CREAT | unix.O_TRUNC},
		unix.SockFilter{Code: ret, K: retAllow},
		unix.SockFilter{Code: equal, Jf: 2, K: unix.SYS_WRITE},
		argument(2),
		unix.SockFilter{Code: equal, Jt: 1, K: sizeOfWakeUp},
		unix.SockFilter{Code: ret, K: retNotify},
		unix.SockFilter{Code: ret, K: retAllow},
	)
}

// receive waits for a call. It answers false where the thread has died meanwhile.
func receive(listener int) (n notification, ok bool, err error) {
	_, _, errno := unix.Syscall(unix.SYS_IOCTL, uintptr(listener), notifyRecv, uintptr(unsafe.Pointer(&n)))
	if errors.Is(errno, unix.ENOENT) || errors.Is(errno, unix.EINTR) {
		return n, false, nil
	}
	if errno != 0 {
		return n, false, fmt.Errorf("receive a system call: %w", errno)
	}
	return n, true, nil
}

// proceed lets a call be made; a thread that has died meanwhile makes none.
func proceed(listener int, n notification) error {
	r := response{id: n.id, flags: notifyContinue}
	if _, _, errno := unix.Syscall(unix.SYS_IOCTL, uintptr(listener), notifySend, uintptr(unsafe.Pointer(&r))); errno != 0 && !errors.Is(errno, unix.ENOENT) {
		return fmt.Errorf("let a system call be made: %w", errno)
	}
	return nil
}
