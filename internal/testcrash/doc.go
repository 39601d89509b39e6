// Package testcrash runs a program and kills it before the Nth change that it makes to
// the world outside itself: to the kernel's state, to settings, to files.
//
// What is a change is not said by the program under test, which knows nothing of this,
// nor by a list of its steps: every system call that is not known to be harmless is
// one (calls.go). A seccomp filter holds the thread that makes it until it has been
// counted (seccomp_unotify(2)); so a process that is killed then has made exactly the
// changes before it, whichever of its threads have made them.
package testcrash
