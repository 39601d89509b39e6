//go:build netns

package ndbpf

import (
	"bytes"
	"encoding/binary"
	"math/rand/v2"
	"net"
	"net/netip"
	"testing"

	"github.com/cilium/ebpf"

	"github.com/v6net/v6net/internal/testnet"
	"github.com/v6net/v6net/ndproxy"
)

// What the program does with a frame.
const (
	verdictPass     = -1 // TC_ACT_UNSPEC
	verdictDrop     = 2  // TC_ACT_SHOT
	verdictRedirect = 7  // TC_ACT_REDIRECT
)

// Whatever the frame, the program settles it as ndproxy.Decide would, byte for
// byte, or leaves it alone. The kernel runs it on frames by chance, made of those
// of the conformance table.
func TestPathsAgree(t *testing.T) {
	testnet.Connect(t, testnet.Self(t), "eth0", testnet.New(t, "up"), "lan0")
	device, err := net.InterfaceByName("eth0")
	if err != nil {
		t.Fatal(err)
	}
	us := [6]byte(device.HardwareAddr)
	dialed, err := Dial(t.Context(), "eth0")
	conn := loaded(t, dialed, err)
	defer func() { _ = conn.Close() }()
	at := ndproxy.Station{HardwareAddr: us, LinkLocal: netip.MustParseAddr("fe80::1"), Nonces: ndproxy.NewNonces()}
	leases := &ndproxy.Table{}
	leases.Add(target)
	if err := conn.Add(target); err != nil {
		t.Fatal(err)
	}
	if err := conn.Attach(at, ndproxy.Knobs{Rate: 1e9, SourceRate: 1e9}); err != nil {
		t.Fatal(err)
	}

	var seeds [][]byte
	for _, row := range conformance {
		seeds = append(seeds, row.q(us).frame(t))
	}
	context := make([]byte, 192) // struct __sk_buff
	binary.NativeEndian.PutUint32(context[40:], uint32(device.Index))
	seed := rand.Uint64()
	chance := rand.New(rand.NewPCG(seed, 0))
	settled := map[ndproxy.Reason]int{}
	for i := range 30_000 {
		frame := bytes.Clone(seeds[chance.IntN(len(seeds))])
		for range chance.IntN(3) {
			at := chance.IntN(len(frame))
			frame[at] = []byte{byte(chance.Uint32()), 0, 0xff, frame[at] + 1, frame[at] ^ 1<<chance.IntN(8)}[chance.IntN(5)]
		}
		switch chance.IntN(6) {
		case 0:
			frame = frame[:max(54, chance.IntN(len(frame)+1))] // the kernel runs no shorter ones
		case 1:
			frame = append(frame, byte(i), byte(i>>8))
		case 2, 3, 4:
			if len(frame) >= 58 {
				resum(frame)
			}
		}
		before := conn.read()
		out := make([]byte, 256)
		options := &ebpf.RunOptions{Data: frame, DataOut: out, Context: context}
		verdict, err := conn.objects.NdproxyAnswer.Run(options)
		if err != nil {
			t.Fatalf("run on %x: %v", frame, err)
		}
		after := conn.read()
		want := ndproxy.Decide(frame, at, leases)
		counted := ndproxy.NotSolicitation
		for r := range after {
			if after[r] != before[r] {
				counted = reasons[r]
			}
		}
		switch int32(verdict) {
		case verdictPass:
			if counted != ndproxy.NotSolicitation && counted != ndproxy.UnknownTarget || counted == ndproxy.UnknownTarget && want.Reason != counted {
				t.Fatalf("seed %d: %x counted as %v, Decide says %v", seed, frame, counted, want.Reason)
			}
		case verdictRedirect:
			if counted != want.Reason || !bytes.Equal(options.DataOut, want.Advertisement.AppendFrame(nil)) {
				t.Fatalf("seed %d: %x: %v\n%x, Decide says %v\n%x", seed, frame, counted, options.DataOut, want.Reason, want.Advertisement.AppendFrame(nil))
			}
		case verdictDrop:
			if counted != ndproxy.RateLimited {
				t.Fatalf("seed %d: %x is dropped as %v", seed, frame, counted)
			}
		default:
			t.Fatalf("seed %d: %x: verdict %d", seed, frame, int32(verdict))
		}
		settled[counted]++
	}
	t.Logf("settled by the program: %v", settled)
	for _, r := range []ndproxy.Reason{ndproxy.Solicited, ndproxy.Probed, ndproxy.Defended, ndproxy.UnknownTarget} {
		if settled[r] < 100 {
			t.Errorf("%d frames settled as %v: the test proves little", settled[r], r)
		}
	}
}
