package main

import (
	"encoding/binary"
	"fmt"
	"io"
	"math"
	"net/netip"
	"runtime"
	"time"

	"github.com/gopacket/gopacket"
	"github.com/gopacket/gopacket/layers"
	"github.com/gopacket/gopacket/pcapgo"

	"github.com/v6net/v6net/internal/kernel/capture"
)

// fileWriter writes pcapng (draft-ietf-opsawg-pcapng), in which every link has its name
// and every address of v6net's its container's.
type fileWriter struct {
	out   *pcapgo.NgWriter
	ends  func() error
	spots []spot
	names nameTable
	began time.Time
}

func newFileWriter(w io.Writer, ends func() error, spots []spot, known nameTable, filter string, snaplen int) (*fileWriter, error) {
	f := &fileWriter{ends: ends, spots: spots, names: known, began: time.Now()}
	options := pcapgo.NgWriterOptions{SectionInfo: pcapgo.NgSectionInfo{
		Hardware: runtime.GOARCH, OS: runtime.GOOS, Application: "v6net " + version, Comment: "captured on " + spots[0].words,
	}}
	for i, s := range spots {
		link := pcapgo.NgInterface{
			Name: s.socket.Link, Description: s.words, Comment: s.words, Filter: filter, OS: runtime.GOOS,
			LinkType: layers.LinkTypeEthernet, SnapLength: uint32(snaplen), TimestampResolution: 9,
		}
		if s.socket.Header == 0 {
			link.LinkType = layers.LinkTypeRaw
		}
		var err error
		if i == 0 {
			f.out, err = pcapgo.NewNgWriterInterface(w, link, options)
		} else {
			_, err = f.out.AddInterface(link)
		}
		if err != nil {
			return nil, fmt.Errorf("write what is captured: %w", err)
		}
	}
	if err := f.out.Flush(); err != nil {
		return nil, fmt.Errorf("write what is captured: %w", err)
	}
	if _, err := w.Write(nameResolution(known)); err != nil {
		return nil, fmt.Errorf("write what is captured: %w", err)
	}
	return f, nil
}

// put writes a frame at once: who reads a pipe wants to see it.
func (f *fileWriter) put(at int, frame capture.Frame) error {
	options := pcapgo.NgPacketOptions{Flags: &pcapgo.NgEpbFlags{Direction: pcapgo.NgEpbFlagDirectionInbound}}
	if frame.Outgoing {
		options.Flags.Direction = pcapgo.NgEpbFlagDirectionOutbound
	}
	if words := endpointsWords(frame, f.spots[at].socket.Header, f.names); words != "" {
		options.Comments = []string{words}
	}
	info := gopacket.CaptureInfo{Timestamp: frame.Time, CaptureLength: len(frame.Data), Length: max(frame.Length, len(frame.Data)), InterfaceIndex: at}
	if err := f.out.WritePacketWithOptions(info, frame.Data, options); err != nil {
		return fmt.Errorf("write what is captured: %w", err)
	}
	if err := f.out.Flush(); err != nil {
		return fmt.Errorf("write what is captured: %w", err)
	}
	return nil
}

func (f *fileWriter) end(received, dropped []uint64) error {
	for i := range f.spots {
		stats := pcapgo.NgInterfaceStatistics{
			LastUpdate: time.Now(), StartTime: f.began, EndTime: time.Now(),
			PacketsReceived: received[i], PacketsDropped: dropped[i],
		}
		if err := f.out.WriteInterfaceStats(i, stats); err != nil {
			return fmt.Errorf("write what is captured: %w", err)
		}
	}
	if err := f.out.Flush(); err != nil {
		return fmt.Errorf("write what is captured: %w", err)
	}
	return f.ends()
}

// nameResolution is the block that says what addresses are called (§4.5 of the draft),
// in the byte order of the library's other blocks.
func nameResolution(known nameTable) []byte {
	const blockType, ipv4, ipv6, end = 4, 1, 2, 0
	order := binary.LittleEndian
	b := order.AppendUint32(nil, blockType)
	b = order.AppendUint32(b, 0) // its length, below
	for _, a := range known.order {
		kind := uint16(ipv6)
		if a.Is4() {
			kind = ipv4
		}
		value := append(a.AsSlice(), hostName(known.names[a])...)
		value = append(value, 0)
		if len(value) > math.MaxUint16 {
			continue
		}
		b = order.AppendUint16(b, kind)
		b = order.AppendUint16(b, uint16(len(value)))
		b = append(b, value...)
		for len(b)%4 != 0 {
			b = append(b, 0)
		}
	}
	b = order.AppendUint16(b, end)
	b = order.AppendUint16(b, 0)
	length := uint32(len(b) + 4)
	order.PutUint32(b[4:], length)
	return order.AppendUint32(b, length)
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
	case header > 0 && binary.BigEndian.Uint16(frame[12:]) != 0x86dd && binary.BigEndian.Uint16(frame[12:]) != 0x0800:
		return src, dst, false
	case ip[0]>>4 == 6 && len(ip) >= 40:
		return netip.AddrFrom16([16]byte(ip[8:])), netip.AddrFrom16([16]byte(ip[24:])), true
	case ip[0]>>4 == 4 && len(ip) >= 20:
		return netip.AddrFrom4([4]byte(ip[12:])), netip.AddrFrom4([4]byte(ip[16:])), true
	}
	return src, dst, false
}
