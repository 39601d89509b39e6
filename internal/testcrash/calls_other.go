//go:build !amd64

package testcrash

var harmlessHere []uint32
