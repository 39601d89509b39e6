package testcrash

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"os"
	"strings"

	"golang.org/x/sys/unix"
)

// change says what a call changes, or nothing if that is nothing.
func (p *Process) change(n notification) string {
	tid, fd := int(n.tid), int(n.args[0])
	switch n.nr {
	case unix.SYS_SENDTO:
		return netlinkChange(tid, fd, memory(tid, n.args[1], min(n.args[2], 64)))
	case unix.SYS_SENDMSG:
		// struct msghdr: name, its length, the vector at 16; struct iovec: base and length.
		header := memory(tid, n.args[1], 32)
		if len(header) < 32 {
			return "sendmsg"
		}
		vector := memory(tid, binary.NativeEndian.Uint64(header[16:]), 16)
		if len(vector) < 16 {
			return ""
		}
		return netlinkChange(tid, fd, memory(tid, binary.NativeEndian.Uint64(vector), min(binary.NativeEndian.Uint64(vector[8:]), 64)))
	case unix.SYS_WRITE, unix.SYS_PWRITE64, unix.SYS_WRITEV, unix.SYS_PWRITEV, unix.SYS_FSYNC, unix.SYS_FDATASYNC, unix.SYS_FTRUNCATE, unix.SYS_FCHMOD:
		file, err := os.Readlink(fmt.Sprintf("/proc/%d/fd/%d", tid, fd))
		if err != nil || !strings.HasPrefix(file, "/") || strings.HasPrefix(file, "/dev/") || strings.HasPrefix(file, "/memfd:") || file == p.Log {
			return "" // a socket, a pipe, an event
		}
		name := names[n.nr]
		if name == "" {
			name = "write"
		}
		return name + " " + file
	case unix.SYS_OPENAT, unix.SYS_UNLINKAT, unix.SYS_MKDIRAT, unix.SYS_FCHMODAT, unix.SYS_RENAMEAT, unix.SYS_RENAMEAT2:
		file := text(memory(tid, n.args[1], 256))
		if strings.HasPrefix(file, "/dev/") || n.nr == unix.SYS_OPENAT && strings.HasPrefix(file, "/proc/sys/") {
			return "" // a setting is changed by what is written
		}
		return names[n.nr] + " " + file
	case unix.SYS_BIND:
		// A socket with a name in the file system is a file. An abstract one goes with the process.
		if a := memory(tid, n.args[1], n.args[2]); len(a) > 2 && binary.NativeEndian.Uint16(a) == unix.AF_UNIX && a[2] != 0 {
			return "bind " + text(a[2:])
		}
		return ""
	case unix.SYS_BPF:
		return bpfAttaches[n.args[0]]
	case unix.SYS_IOCTL:
		switch n.args[1] {
		case unix.TCGETS, unix.SIOCGIFINDEX, unix.SIOCETHTOOL, unix.NS_GET_NSTYPE, unix.TIOCGWINSZ:
			return ""
		}
		return fmt.Sprintf("ioctl %#x", n.args[1])
	}
	if name, ok := names[n.nr]; ok {
		return name
	}
	return fmt.Sprintf("system call %d", n.nr)
}

// netlinkChange judges a message by its type.
func netlinkChange(tid, fd int, message []byte) string {
	protocol, ok := netlinkProtocol(tid, fd)
	if !ok {
		return "" // of another family: a packet, an answer
	}
	if len(message) < unix.SizeofNlMsghdr {
		return "netlink"
	}
	kind := binary.NativeEndian.Uint16(message[4:])
	switch protocol {
	case unix.NETLINK_ROUTE:
		if kind&3 == 2 { // of four each, the third one asks: NEW, DEL, GET, SET
			return ""
		}
		if name, ok := rtnetlink[kind]; ok {
			return name
		}
		return fmt.Sprintf("rtnetlink %d", kind)
	case unix.NETLINK_NETFILTER:
		switch kind {
		case unix.NFNL_MSG_BATCH_BEGIN: // nf_tables takes no change that is not in a batch
			return "nftables batch"
		case unix.NFNL_SUBSYS_CTNETLINK<<8 | 2: // IPCTNL_MSG_CT_DELETE
			return "conntrack delete"
		case unix.NFNL_SUBSYS_CTNETLINK << 8: // IPCTNL_MSG_CT_NEW
			return "conntrack new"
		}
		return ""
	case unix.NETLINK_SOCK_DIAG:
		return ""
	case unix.NETLINK_GENERIC:
		if kind == 0x10 { // the controller's: which families there are
			return ""
		}
	}
	return fmt.Sprintf("netlink %d/%d", protocol, kind)
}

// netlinkProtocol is that of another process's netlink socket.
func netlinkProtocol(tid, fd int) (protocol int, ok bool) {
	process, err := unix.PidfdOpen(threadGroup(tid), 0)
	if err != nil {
		return 0, false
	}
	defer func() { _ = unix.Close(process) }()
	socket, err := unix.PidfdGetfd(process, fd, 0)
	if err != nil {
		return 0, false
	}
	defer func() { _ = unix.Close(socket) }()
	if domain, err := unix.GetsockoptInt(socket, unix.SOL_SOCKET, unix.SO_DOMAIN); err != nil || domain != unix.AF_NETLINK {
		return 0, false
	}
	protocol, err = unix.GetsockoptInt(socket, unix.SOL_SOCKET, unix.SO_PROTOCOL)
	return protocol, err == nil
}

// threadGroup is the process that a thread is of.
func threadGroup(tid int) int {
	status, _ := os.ReadFile(fmt.Sprintf("/proc/%d/status", tid)) // of a thread that has died: 0, which is no process
	_, after, _ := bytes.Cut(status, []byte("\nTgid:\t"))
	pid := 0
	_, _ = fmt.Sscan(string(after), &pid)
	return pid
}

// memory is what a thread has at an address, as far as it can be read.
func memory(tid int, address, length uint64) []byte {
	if length == 0 {
		return nil
	}
	b := make([]byte, length)
	n, err := unix.ProcessVMReadv(tid, []unix.Iovec{{Base: &b[0], Len: length}}, []unix.RemoteIovec{{Base: uintptr(address), Len: int(length)}}, 0)
	if err != nil {
		return nil
	}
	return b[:n]
}

func text(b []byte) string {
	before, _, _ := bytes.Cut(b, []byte{0})
	return string(before)
}
