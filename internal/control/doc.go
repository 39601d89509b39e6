// Package control is the daemon's API for operators and thin clients: HTTP and
// JSON on a unix socket that only root can open.
package control
