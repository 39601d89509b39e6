package pd

import (
	"fmt"
	"testing"
	"time"

	"github.com/insomniacslk/dhcp/dhcpv6"
	"github.com/insomniacslk/dhcp/iana"
)

// A neighbour hears the Solicit, and may refuse in the server's place as often and in as many
// words as he likes: it is told once, and once a second, and the server's offer counts.
func TestManyRefusals(t *testing.T) {
	run(t, Config{Bits: 56}, func(l *lab) {
		done := false
		l.answer = func(m *message) {
			if m.MessageType != solicit || done {
				return
			}
			done = true
			conn := l.conn
			all := make([][]byte, 0, 5000)
			for i := range cap(all) {
				all = append(all, m.bytes(dhcpv6.MessageTypeAdvertise, serverA, pd(1, 0, 0, code(iana.StatusNoPrefixAvail, fmt.Sprint("text ", i)))))
			}
			go func() {
				for _, b := range all {
					conn.in <- received{message: b, from: routerAddr}
				}
			}()
		}
		l.pass(900 * time.Millisecond)
		if n := len(l.said); n > 4 || l.now().Error == "" {
			t.Errorf("%d reports, the last one %+v", n, l.now())
		}
	})
}
