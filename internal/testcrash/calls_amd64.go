package testcrash

import "golang.org/x/sys/unix"

// harmlessHere are calls that newer architectures do not have.
var harmlessHere = []uint32{
	unix.SYS_ARCH_PRCTL, unix.SYS_STAT, unix.SYS_LSTAT, unix.SYS_ACCESS, unix.SYS_READLINK, unix.SYS_PIPE, unix.SYS_DUP2, unix.SYS_POLL, unix.SYS_SELECT,
	unix.SYS_EPOLL_CREATE, unix.SYS_EPOLL_WAIT, unix.SYS_FORK, unix.SYS_VFORK, unix.SYS_GETPGRP, unix.SYS_TIME,
}
