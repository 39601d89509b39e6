package dhcp6

import (
	"bytes"
	"net/netip"
	"testing"

	"golang.org/x/net/bpf"
	"golang.org/x/sys/unix"
)

var (
	server = netip.MustParseAddr("fe80::1")
	client = netip.MustParseAddr("fe80::2")
)

func TestUnpack(t *testing.T) {
	whole := packet(server, client, serverPort, clientPort, []byte("hello"))
	for name, test := range map[string]struct {
		change   func([]byte) []byte
		verified bool
		ok       bool
	}{
		"as it was made":             {func(p []byte) []byte { return p }, false, true},
		"padded":                     {func(p []byte) []byte { return append(p, 0, 0, 0) }, false, true},
		"checksum yet to be made":    {func(p []byte) []byte { p[47] ^= 1; return p }, true, true},
		"wrong checksum":             {func(p []byte) []byte { p[47] ^= 1; return p }, false, false},
		"no checksum":                {func(p []byte) []byte { p[46], p[47] = 0, 0; return p }, false, false},
		"wrong content":              {func(p []byte) []byte { p[48] ^= 1; return p }, false, false},
		"cut off":                    {func(p []byte) []byte { return p[:len(p)-1] }, true, false},
		"shorter than its headers":   {func(p []byte) []byte { return p[:47] }, true, false},
		"a length of less than none": {func(p []byte) []byte { p[45] = 7; return p }, true, false},
		"longer than the packet":     {func(p []byte) []byte { p[5]--; return p }, true, false},
		"IPv4":                       {func(p []byte) []byte { p[0] = 0x45; return p }, true, false},
		"nothing":                    {func([]byte) []byte { return nil }, true, false},
	} {
		message, from, ok := unpack(test.change(bytes.Clone(whole)), test.verified)
		if ok != test.ok || ok && (string(message) != "hello" || from != server) {
			t.Errorf("%s: %q from %s, %v", name, message, from, ok)
		}
	}
}

func FuzzUnpack(f *testing.F) {
	f.Add(packet(server, client, serverPort, clientPort, []byte("hello")), false)
	f.Add(packet(server, client, serverPort, clientPort, nil), true)
	f.Fuzz(func(t *testing.T, p []byte, verified bool) {
		if message, _, ok := unpack(p, verified); ok && len(message) > len(p)-ipv6Len-udpLen {
			t.Fatalf("%d bytes out of %d", len(message), len(p))
		}
	})
}

func TestFilter(t *testing.T) {
	program := filter(link{index: 0}, client)[4:] // without what only the kernel knows
	vm, err := bpf.NewVM(program)
	if err != nil {
		t.Fatal(err)
	}
	tcp := packet(server, client, serverPort, clientPort, []byte("hello"))
	tcp[6] = unix.IPPROTO_TCP
	for name, test := range map[string]struct {
		packet []byte
		passes bool
	}{
		"an answer":      {packet(server, client, serverPort, clientPort, []byte("hello")), true},
		"another port":   {packet(server, client, serverPort, serverPort, []byte("hello")), false},
		"another's":      {packet(server, netip.MustParseAddr("fe80::3"), serverPort, clientPort, []byte("hello")), false},
		"to the servers": {packet(client, servers, clientPort, serverPort, []byte("hello")), false},
		"TCP":            {tcp, false},
		"cut off":        {tcp[:30], false},
	} {
		n, err := vm.Run(test.packet)
		if err != nil || (n > 0) != test.passes {
			t.Errorf("%s: %d bytes pass (%v), want it to pass: %v", name, n, err, test.passes)
		}
	}
}
