package ndproxy

import (
	"bytes"
	"net/netip"
	"testing"

	"github.com/mdlayher/ndp"
)

// No frame makes Decide panic; what it answers is a solicitation for a lease in
// the eyes of mdlayher/ndp, too, and the answer goes back to its sender or to all.
func FuzzDecide(f *testing.F) {
	for _, seed := range []frame{multicast(leased), unicast(leased), dad(leased), multicast(unknown)} {
		b := seed.marshal(f)
		f.Add(b, false)
		f.Add(append(b, 0, 0, 0, 0), false)
		b = append([]byte(nil), b...)
		b[54] = typeAdvertisement
		f.Add(b, true)
		b = append([]byte(nil), b...)
		b[20] = 44
		f.Add(b, true)
	}
	at := here
	at.Nonces = NewNonces()
	f.Add(probe(nil, leased, at), false)
	f.Add(solicit(nil, leased, host, at), false)
	f.Fuzz(func(t *testing.T, frame []byte, fix bool) {
		if fix && len(frame) >= 58 { // past the checksum, to what lies behind it
			fixChecksum(frame)
		}
		before := bytes.Clone(frame)
		v := Decide(frame, at, set{leased: true})
		if !bytes.Equal(frame, before) {
			t.Error("Decide changed the frame")
		}
		if v.Reason >= reasons || v.Reason == RateLimited || v.Reason == SendFailed {
			t.Fatalf("verdict %v is not one of Decide's", v.Reason)
		}
		if v.Action() != Answer {
			if v.Advertisement != (Advertisement{}) {
				t.Errorf("verdict %v with an advertisement", v.Reason)
			}
			if (v.Reason == Conflict) != (v.Rival.Target == leased && v.Rival.HardwareAddr == [6]byte(frame[6:])) {
				t.Errorf("verdict %v with rival %+v", v.Reason, v.Rival)
			}
			return
		}
		// Without its options: ndp refuses what is wrong inside those that have no
		// place in a solicitation, which are to be ignored (RFC 4861 §7.1.1).
		m, err := ndp.ParseMessage(frame[54:78])
		if err != nil {
			t.Fatalf("answered what mdlayher/ndp cannot read: %v", err)
		}
		ns, ok := m.(*ndp.NeighborSolicitation)
		if !ok || ns.TargetAddress != leased || frame[21] != 255 {
			t.Fatalf("answered %+v with hop limit %d", m, frame[21])
		}
		na := judge(t, v.Advertisement.AppendFrame(nil))
		source := netip.AddrFrom16([16]byte(frame[22:]))
		if toAll := v.Advertisement.Destination == allNodes; toAll != source.IsUnspecified() || toAll == na.Solicited {
			t.Errorf("answer to %v, S=%v, for a solicitation from %v", v.Advertisement.Destination, na.Solicited, source)
		}
		if na.Solicited && v.Advertisement.NextHop != [6]byte(frame[6:]) {
			t.Errorf("answer to %x, asked by %x", v.Advertisement.NextHop, frame[6:12])
		}
	})
}
