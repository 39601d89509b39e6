package main

import (
	"encoding/binary"
	"fmt"
	"io"
	"net/netip"
	"runtime"
	"time"

	"github.com/v6net/v6net/internal/kernel/capture"
	"github.com/v6net/v6net/internal/pcapng"
)

// fileWriter writes pcapng (draft-ietf-opsawg-pcapng), in which every link has its name
// and every address of v6net's its container's.
type fileWriter struct {
	out   *pcapng.Writer
	ends  func() error
	spots []spot
	names nameTable
	began time.Time
}

func newFileWriter(w io.Writer, ends func() error, spots []spot, known nameTable, filter string, snaplen int) (*fileWriter, error) {
	f := &fileWriter{ends: ends, spots: spots, names: known, began: time.Now()}
	var err error
	f.out, err = pcapng.NewWriter(w, pcapng.Section{
		Hardware: runtime.GOARCH, OS: runtime.GOOS, Application: "v6net " + version, Comment: "captured on " + spots[0].words,
	})
	for _, s := range spots {
		link := pcapng.Interface{
			Name: s.socket.Link, Description: s.words, Comment: s.words, Filter: filter, OS: runtime.GOOS,
			LinkType: pcapng.Ethernet, SnapLength: uint32(snaplen),
		}
		if s.socket.Header == 0 {
			link.LinkType = pcapng.RawIP
		}
		if err == nil {
			err = f.out.AddInterface(link)
		}
	}
	if err == nil {
		err = f.out.AddNames(known.order, func(a netip.Addr) string { return hostName(known.names[a]) })
	}
	if err != nil {
		return nil, fmt.Errorf("write what is captured: %w", err)
	}
	return f, nil
}

// put writes a frame at once: who reads a pipe wants to see it.
func (f *fileWriter) put(at int, frame capture.Frame) error {
	err := f.out.WritePacket(pcapng.Packet{
		Interface: at, Time: frame.Time, Data: frame.Data, Length: frame.Length, Outgoing: frame.Outgoing,
		Comment: endpointsWords(frame, f.spots[at].socket.Header, f.names),
	})
	if err != nil {
		return fmt.Errorf("write what is captured: %w", err)
	}
	return nil
}

func (f *fileWriter) end(received, dropped []uint64) error {
	for i := range f.spots {
		s := pcapng.Statistics{Began: f.began, Ended: time.Now(), Received: received[i], Dropped: dropped[i]}
		if err := f.out.WriteStatistics(i, s); err != nil {
			return fmt.Errorf("write what is captured: %w", err)
		}
	}
	return f.ends()
}

// hostName is a container's name without what a name of a host has not.
func hostName(name string) string {
	clean := []byte(name)
	for i, c := range clean {
		if c <= ' ' || c > '~' {
			clean[i] = '_'
		}
	}
	return string(clean)
}

// endpointsWords say which containers a frame is from and to; empty: none.
func endpointsWords(f capture.Frame, header int, known nameTable) string {
	src, dst, ok := endpoints(f.Data, header)
	if !ok {
		return ""
	}
	from, to := known.names[src], known.names[dst]
	switch {
	case from != "" && to != "":
		return "from " + from + " to " + to
	case from != "":
		return "from " + from
	case to != "":
		return "to " + to
	default:
		return ""
	}
}

// endpoints are the addresses of an IP packet.
func endpoints(frame []byte, header int) (src, dst netip.Addr, ok bool) {
	if len(frame) < header+1 {
		return src, dst, false
	}
	switch ip := frame[header:]; {
	case header > 0 && binary.BigEndian.Uint16(frame[12:]) != etherIPv6 && binary.BigEndian.Uint16(frame[12:]) != etherIPv4:
		return src, dst, false
	case ip[0]>>4 == 6 && len(ip) >= 40:
		return netip.AddrFrom16([16]byte(ip[8:])), netip.AddrFrom16([16]byte(ip[24:])), true
	case ip[0]>>4 == 4 && len(ip) >= 20:
		return netip.AddrFrom4([4]byte(ip[12:])), netip.AddrFrom4([4]byte(ip[16:])), true
	}
	return src, dst, false
}
