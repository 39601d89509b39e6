//go:build netns

package pcapfilter

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/gopacket/gopacket"
	"github.com/gopacket/gopacket/layers"
	"github.com/gopacket/gopacket/pcapgo"
)

// tcpdump is the judge of what a filter means.
func TestAsTcpdump(t *testing.T) {
	var frames []sample
	for _, s := range samples(t) {
		if len(s.frame) >= 14 { // tcpdump reads no shorter one
			frames = append(frames, s)
		}
	}
	path := filepath.Join(t.TempDir(), "all.pcap")
	file, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	w := pcapgo.NewWriter(file)
	if err := w.WriteFileHeader(65536, layers.LinkTypeEthernet); err != nil {
		t.Fatal(err)
	}
	for i, s := range frames { // told apart by their time
		info := gopacket.CaptureInfo{Timestamp: time.Unix(int64(i), 0), CaptureLength: len(s.frame), Length: len(s.frame)}
		if err := w.WritePacket(info, s.frame); err != nil {
			t.Fatal(err)
		}
	}
	if err := file.Close(); err != nil {
		t.Fatal(err)
	}
	for _, filter := range filters {
		cmd := exec.Command("tcpdump", "-Z", "root", "-r", path, "-w", "-", filter)
		var said bytes.Buffer
		cmd.Stderr = &said
		out, err := cmd.Output()
		if err != nil {
			t.Fatalf("tcpdump %q: %v\n%s", filter, err, said.String())
		}
		r, err := pcapgo.NewReader(bytes.NewReader(out))
		if err != nil {
			t.Fatal(err)
		}
		var want []string
		for {
			_, info, err := r.ReadPacketData()
			if err != nil {
				break
			}
			want = append(want, frames[info.Timestamp.Unix()].name)
		}
		if got := run(t, compile(t, filter, Ethernet, nil), frames, 0); !slices.Equal(got, want) {
			t.Errorf("%q lets %q through, tcpdump %q", filter, got, want)
		}
	}
}
