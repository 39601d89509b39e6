package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"testing"

	"github.com/v6net/v6net/ndproxy"
)

// BenchmarkLoad is a list of a million addresses, read and answered for.
func BenchmarkLoad(b *testing.B) {
	var list bytes.Buffer
	addr := netip.MustParseAddr("2001:db8::")
	for range 1_000_000 {
		addr = addr.Next()
		fmt.Fprintln(&list, addr)
	}
	for b.Loop() {
		log := slog.New(slog.DiscardHandler)
		a := &aloneProxy{
			command: &ndproxyCommand{Interface: []string{"eth0"}, Addresses: "-"}, log: log, stdin: list.Bytes(),
			proxy: ndproxy.NewSupervisor(func(context.Context, string) (ndproxy.Conn, error) {
				return nil, errors.New("no link")
			}, ndproxy.Knobs{}, log),
		}
		if err := a.load(b.Context()); err != nil {
			b.Fatal(err)
		}
	}
}
