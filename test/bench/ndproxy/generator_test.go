//go:build bench

package ndproxy_test

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"
	"unsafe"

	"golang.org/x/net/bpf"
	"golang.org/x/sys/unix"
)

// generator asks on one end of a cable, and hears the answers there. It sends by
// sendmmsg without a queue; that is as much as one thread of this machine can.
type generator struct {
	send, receive int
	from, to      [6]byte // its own MAC, and the proxy's
}

const (
	batchSize = 64
	distinct  = 4096 // frames that are sent in turn, each for a target by chance
)

// asker is the address that all solicitations come from.
var asker = netip.MustParseAddr("2001:db8::9") // of lan0

func newGenerator(link string, to [6]byte) (*generator, error) {
	device, err := net.InterfaceByName(link)
	if err != nil {
		return nil, err
	}
	g := &generator{from: [6]byte(device.HardwareAddr), to: to, send: -1, receive: -1}
	if g.send, err = unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_CLOEXEC, 0); err != nil {
		return nil, err
	}
	if err := unix.Bind(g.send, &unix.SockaddrLinklayer{Ifindex: device.Index}); err != nil {
		return nil, err
	}
	if err := unix.SetsockoptInt(g.send, unix.SOL_PACKET, unix.PACKET_QDISC_BYPASS, 1); err != nil {
		return nil, err
	}
	if g.receive, err = unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0); err != nil {
		return nil, err
	}
	// Solicited advertisements alone.
	program, err := bpf.Assemble([]bpf.Instruction{
		bpf.LoadAbsolute{Off: 20, Size: 1}, bpf.JumpIf{Cond: bpf.JumpNotEqual, Val: 58, SkipTrue: 5},
		bpf.LoadAbsolute{Off: 54, Size: 1}, bpf.JumpIf{Cond: bpf.JumpNotEqual, Val: 136, SkipTrue: 3},
		bpf.LoadAbsolute{Off: 58, Size: 1}, bpf.JumpIf{Cond: bpf.JumpBitsNotSet, Val: 0x40, SkipTrue: 1},
		bpf.RetConstant{Val: 1 << 12}, bpf.RetConstant{Val: 0},
	})
	if err != nil {
		return nil, err
	}
	filter := make([]unix.SockFilter, len(program))
	for i, in := range program {
		filter[i] = unix.SockFilter{Code: in.Op, Jt: in.Jt, Jf: in.Jf, K: in.K}
	}
	if err := unix.SetsockoptSockFprog(g.receive, unix.SOL_SOCKET, unix.SO_ATTACH_FILTER, &unix.SockFprog{Len: uint16(len(filter)), Filter: &filter[0]}); err != nil {
		return nil, err
	}
	if err := unix.SetsockoptInt(g.receive, unix.SOL_SOCKET, unix.SO_TIMESTAMPNS, 1); err != nil {
		return nil, err
	}
	return g, unix.Bind(g.receive, &unix.SockaddrLinklayer{Protocol: 0xdd86, Ifindex: device.Index})
}

func (g *generator) close() { _, _ = unix.Close(g.send), unix.Close(g.receive) }

// address is the nth of those that are proxied.
func address(n uint64) netip.Addr {
	a := netip.MustParseAddr("2001:db8:1::").As16()
	binary.BigEndian.PutUint64(a[8:], n+1)
	return netip.AddrFrom16(a)
}

// solicitation is a frame as Linux sends it, with a source link-layer address.
func (g *generator) solicitation(target netip.Addr, unicast bool) []byte {
	t, s := target.As16(), asker.As16()
	d, mac := [16]byte{0: 0xff, 1: 2, 11: 1, 12: 0xff, 13: t[13], 14: t[14], 15: t[15]}, [6]byte{0x33, 0x33, 0xff, t[13], t[14], t[15]}
	if unicast {
		d, mac = t, g.to
	}
	f := append(mac[:], g.from[:]...)
	f = append(f, 0x86, 0xdd, 0x60, 0, 0, 0, 0, 32, 58, 255)
	f = append(append(f, s[:]...), d[:]...)
	f = append(f, 135, 0, 0, 0, 0, 0, 0, 0)
	f = append(f, t[:]...)
	f = append(append(f, 1, 1), g.from[:]...)
	sum := uint32(32 + 58)
	for i := 22; i < len(f); i += 2 {
		sum += uint32(binary.BigEndian.Uint16(f[i:]))
	}
	for sum > 0xffff {
		sum = sum>>16 + sum&0xffff
	}
	binary.BigEndian.PutUint16(f[56:], ^uint16(sum))
	return f
}

// targets are frames for addresses by chance, first + 0 to n-1.
func (g *generator) targets(first, n uint64, unicast bool) [][]byte {
	frames := make([][]byte, distinct)
	for i := range frames {
		frames[i] = g.solicitation(address(first+rand.Uint64N(n)), unicast)
	}
	return frames
}

type mmsghdr struct {
	unix.Msghdr
	sent uint32
	_    [4]byte
}

// floodRate is how many unknown targets are asked for per second besides.
const floodRate = 50_000

// batches makes ready what sendmmsg takes.
func batches(frames [][]byte) [][]mmsghdr {
	var all [][]mmsghdr
	for chunk := range slices.Chunk(frames, batchSize) {
		b := make([]mmsghdr, len(chunk))
		for i, f := range chunk {
			b[i].Iov = &unix.Iovec{Base: &f[0], Len: uint64(len(f))}
			b[i].Iovlen = 1
		}
		all = append(all, b)
	}
	return all
}

func (g *generator) sendBatch(b []mmsghdr) (int, error) {
	n, _, errno := unix.Syscall6(unix.SYS_SENDMMSG, uintptr(g.send), uintptr(unsafe.Pointer(&b[0])), uintptr(len(b)), 0, 0, 0)
	if errno != 0 && errno != unix.ENOBUFS && errno != unix.EAGAIN {
		return 0, errno
	}
	if errno != 0 {
		return 0, nil
	}
	return int(n), nil
}

// heard is how many answers have come since it was called last, read or not.
func (g *generator) heard() (int, error) {
	s, err := unix.GetsockoptTpacketStats(g.receive, unix.SOL_PACKET, unix.PACKET_STATISTICS)
	if err != nil {
		return 0, err
	}
	return int(s.Packets), nil
}

func (g *generator) drain() {
	b := make([]byte, 2048)
	for {
		if _, _, err := unix.Recvfrom(g.receive, b, 0); err != nil {
			_, _ = g.heard()
			return
		}
	}
}

// rounds is how often a measurement is taken: others use this machine, too, and
// the round that they disturbed least counts.
const rounds = 6

// best is the round with the most answers by the clock and, on its own, the one
// with the most answers for the processor time of who answers: of the process
// pid, or of the generator's own thread, in which the kernel answers.
func (g *generator) best(t testing.TB, frames [][]byte, d time.Duration, pid, rounds int) (asked, answered, perCPU float64, err error) {
	for range rounds {
		spent := func() time.Duration {
			if pid != 0 {
				return processorTime(t, pid)
			}
			return threadTime()
		}
		before := spent()
		a, n, err := g.throughput(frames, d/time.Duration(rounds))
		if err != nil {
			return 0, 0, 0, err
		}
		if cpu := (spent() - before).Seconds(); cpu > 0 {
			perCPU = max(perCPU, n*(d.Seconds()/float64(rounds))/cpu)
		}
		if n > answered || asked == 0 {
			asked, answered = a, n
		}
	}
	return asked, answered, perCPU, nil
}

// threadTime is the processor time of the calling thread.
func threadTime() time.Duration {
	var u unix.Rusage
	if unix.Getrusage(unix.RUSAGE_THREAD, &u) != nil {
		return 0
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// calmest is the round with the lowest 99th percentile, or the fewest lost answers.
func (g *generator) calmest(frames, flood [][]byte, most int, d, patience time.Duration) (times []time.Duration, lost int, err error) {
	lost = -1
	for range rounds {
		t, l, err := g.latencies(frames, flood, most/rounds, d/rounds, patience)
		if err != nil {
			return nil, 0, err
		}
		if lost < 0 || l < lost || l == lost && quantile(t, 0.99) < quantile(times, 0.99) {
			times, lost = t, l
		}
	}
	return times, lost, nil
}

// throughput floods for a time.
func (g *generator) throughput(frames [][]byte, d time.Duration) (asked, answered float64, err error) {
	all := batches(frames)
	g.drain()
	began, sent := time.Now(), 0
	for i := 0; time.Since(began) < d; i++ {
		n, err := g.sendBatch(all[i%len(all)])
		if err != nil {
			return 0, 0, err
		}
		sent += n
	}
	took := time.Since(began).Seconds()
	// What still waits in a queue counts as answered in time: a millisecond's worth.
	n, err := g.heard()
	g.drain()
	runtime.KeepAlive(frames)
	return float64(sent) / took, float64(n) / took, err
}

// latencies asks, one at a time, and waits for each answer; beside that it sends
// the flood, if there is one. Answers that do not come within patience are lost.
func (g *generator) latencies(frames, flood [][]byte, most int, d, patience time.Duration) (times []time.Duration, lost int, err error) {
	g.drain()
	all := batches(flood)
	next, flooded := 0, time.Now()
	control, frame := make([]byte, 128), make([]byte, 2048)
	for deadline := time.Now().Add(d); len(times)+lost < most && time.Now().Before(deadline); {
		asked := frames[rand.IntN(len(frames))]
		began := time.Now()
		if err := unix.Sendto(g.send, asked, 0, nil); err != nil && !errors.Is(err, unix.ENOBUFS) {
			if _, err = unix.Write(g.send, asked); err != nil {
				return nil, 0, err
			}
		}
		for {
			n, oobn, _, _, err := unix.Recvmsg(g.receive, frame, control, 0)
			if err == nil && n >= 78 && slices.Equal(frame[62:78], asked[62:78]) {
				at, err := timestamp(control[:oobn])
				if err != nil {
					return nil, 0, err
				}
				if at.Before(began.Round(0)) { // to one that was asked before
					continue
				}
				times = append(times, at.Sub(began.Round(0)))
				break
			}
			if err != nil && !errors.Is(err, unix.EAGAIN) {
				return nil, 0, err
			}
			if time.Since(began) > patience {
				lost++
				break
			}
			if due := floodRate * time.Since(flooded).Seconds(); len(all) > 0 && float64(next*batchSize) < due {
				if _, err := g.sendBatch(all[next%len(all)]); err != nil {
					return nil, 0, err
				}
				next++
			}
		}
	}
	slices.Sort(times)
	return times, lost, nil
}

func timestamp(control []byte) (time.Time, error) {
	messages, err := unix.ParseSocketControlMessage(control)
	if err != nil {
		return time.Time{}, err
	}
	for _, m := range messages {
		if m.Header.Level == unix.SOL_SOCKET && m.Header.Type == unix.SCM_TIMESTAMPNS && len(m.Data) >= 16 {
			return time.Unix(int64(binary.NativeEndian.Uint64(m.Data)), int64(binary.NativeEndian.Uint64(m.Data[8:]))), nil
		}
	}
	return time.Time{}, errors.New("no timestamp")
}

// quantile is of sorted times.
func quantile(times []time.Duration, q float64) time.Duration {
	if len(times) == 0 {
		return 0
	}
	return times[min(len(times)-1, int(q*float64(len(times))))]
}

// rss is a process's resident memory in KiB.
func rss(t testing.TB, pid int) int {
	t.Helper()
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		t.Fatal(err)
	}
	var kib int
	for _, line := range slices.Collect(lines(string(text))) {
		if _, err := fmt.Sscanf(line, "VmRSS: %d kB", &kib); err == nil {
			return kib
		}
	}
	return 0
}

// processorTime is what a process has used up so far.
func processorTime(t testing.TB, pid int) time.Duration {
	t.Helper()
	tasks, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/schedstat", pid))
	if err != nil {
		t.Fatal(err)
	}
	var sum time.Duration
	for _, task := range tasks {
		text, err := os.ReadFile(task)
		if err != nil {
			continue // a thread that has ended
		}
		first, _, _ := strings.Cut(string(text), " ") // nanoseconds on a processor
		n, err := strconv.ParseInt(first, 10, 64)
		if err != nil {
			t.Fatal(err)
		}
		sum += time.Duration(n)
	}
	return sum
}
