package pd

import (
	"context"
	"encoding/binary"
	"errors"
	"log/slog"
	"net"
	"net/netip"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/insomniacslk/dhcp/dhcpv6"
	"github.com/insomniacslk/dhcp/iana"

	"github.com/v6net/v6net/internal/spec"
)

var (
	clientDUID = []byte{0, 4, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16}
	serverA    = []byte{0, 3, 0, 1, 2, 0, 0, 0, 0, 0xa}
	serverB    = []byte{0, 3, 0, 1, 2, 0, 0, 0, 0, 0xb}
	routerAddr = netip.MustParseAddr("fe80::1")
)

// lab is a link with a client and whatever answer says of servers, in the time of synctest.
//
// The test holds mu but while it lets time pass: it and the client take turns.
type lab struct {
	mu     sync.Mutex
	t      *testing.T
	client *Client
	config Config
	began  time.Time
	// answer is what the link's servers do with a message.
	answer func(m *message)
	heard  []*message // all that the client has sent
	said   []spec.DelegationReport
	dialed error
	conn   *wire
	stop   func()
}

// message is one of the client's, when it came.
type message struct {
	*dhcpv6.Message
	at  time.Duration // since the lab began
	lab *lab
}

type wire struct {
	lab    *lab
	in     chan received
	closed chan struct{}
}

func (w *wire) Send(b []byte) error {
	m, err := dhcpv6.MessageFromBytes(b)
	if err != nil {
		w.lab.t.Errorf("the client sends what is no message: %v", err)
		return nil
	}
	got := &message{m, time.Since(w.lab.began), w.lab}
	w.lab.mu.Lock()
	defer w.lab.mu.Unlock()
	w.lab.heard = append(w.lab.heard, got)
	if w.lab.answer != nil {
		w.lab.answer(got)
	}
	return nil
}

func (w *wire) Receive(b []byte) (int, netip.Addr, error) {
	select {
	case m := <-w.in:
		return copy(b, m.message), m.from, m.err
	case <-w.closed:
		return 0, netip.Addr{}, net.ErrClosed
	}
}

func (w *wire) Close() error { close(w.closed); return nil }

// run has a client with this configuration run from the first time that f lets pass.
func run(t *testing.T, config Config, f func(l *lab)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		l := &lab{t: t, began: time.Now()}
		config.Link, config.DUID, config.Log = "eth0", clientDUID, slog.New(slog.DiscardHandler)
		if config.IAID == nil {
			config.IAID = []uint32{1}
		}
		config.Dial = func(context.Context) (Conn, error) {
			l.mu.Lock()
			defer l.mu.Unlock()
			if l.dialed != nil {
				return nil, l.dialed
			}
			l.conn = &wire{l, make(chan received, 100), make(chan struct{})}
			return l.conn, nil
		}
		l.config, l.stop = config, func() {}
		l.mu.Lock()
		defer l.mu.Unlock()
		f(l)
		l.stop()
	})
}

func (l *lab) start() {
	l.client = New(l.config)
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() {
		defer close(done)
		l.client.Run(ctx, func(r spec.DelegationReport) {
			l.mu.Lock()
			defer l.mu.Unlock()
			l.said = append(l.said, r)
		})
	}()
	l.stop = func() { l.turn(func() { cancel(); <-done }) }
}

// pass lets time pass, and what happens then happen.
func (l *lab) pass(d time.Duration) {
	if l.client == nil {
		l.start()
	}
	l.turn(func() {
		synctest.Wait()
		time.Sleep(d)
		synctest.Wait()
	})
}

// turn is the client's.
func (l *lab) turn(f func()) {
	l.mu.Unlock()
	defer l.mu.Lock()
	f()
}

func (l *lab) now() spec.DelegationReport {
	l.t.Helper()
	if len(l.said) == 0 {
		l.t.Fatal("the client has said nothing")
	}
	return l.said[len(l.said)-1]
}

// kinds are the kinds of messages since the last call.
func (l *lab) kinds() (kinds []dhcpv6.MessageType) {
	for _, m := range l.heard {
		kinds = append(kinds, m.MessageType)
	}
	l.heard = nil
	return kinds
}

func (l *lab) wantKinds(want ...dhcpv6.MessageType) {
	l.t.Helper()
	if got := l.kinds(); !slices.Equal(got, want) {
		l.t.Errorf("messages %v, want %v", got, want)
	}
}

func (l *lab) wantState(state string, prefixes ...string) {
	l.t.Helper()
	got := l.now()
	var lent []string
	for _, d := range got.Lease.Delegations() {
		lent = append(lent, d.Prefix.String())
	}
	if got.State != state || !slices.Equal(lent, prefixes) {
		l.t.Errorf("%s with %v (error %q), want %s with %v", got.State, lent, got.Error, state, prefixes)
	}
}

// send gives the client bytes from an address.
func (l *lab) send(from netip.Addr, b []byte) { l.conn.in <- received{message: b, from: from} }

// A part makes a server's message.
type part func(*dhcpv6.Message)

// reply answers a message.
func (m *message) reply(kind dhcpv6.MessageType, server []byte, parts ...part) {
	m.lab.send(routerAddr, m.bytes(kind, server, parts...))
}

func (m *message) bytes(kind dhcpv6.MessageType, server []byte, parts ...part) []byte {
	r := &dhcpv6.Message{MessageType: kind, TransactionID: m.TransactionID}
	r.AddOption(&dhcpv6.OptionGeneric{OptionCode: dhcpv6.OptionClientID, OptionData: clientDUID})
	if server != nil {
		r.AddOption(&dhcpv6.OptionGeneric{OptionCode: dhcpv6.OptionServerID, OptionData: server})
	}
	for _, p := range parts {
		p(r)
	}
	return r.ToBytes()
}

func (m *message) server() []byte { return content(m.Options.Options, dhcpv6.OptionServerID) }

// pd is an IA_PD with T1 and T2 in seconds.
func pd(id uint32, t1, t2 int, options ...dhcpv6.Option) part {
	o := &dhcpv6.OptIAPD{T1: time.Duration(t1) * time.Second, T2: time.Duration(t2) * time.Second}
	binary.BigEndian.PutUint32(o.IaId[:], id)
	for _, each := range options {
		o.Options.Add(each)
	}
	return func(m *dhcpv6.Message) { m.AddOption(o) }
}

// prefix is an IA Prefix with its lifetimes in seconds.
func prefix(p string, preferred, valid int) dhcpv6.Option {
	parsed := netip.MustParsePrefix(p)
	return &dhcpv6.OptIAPrefix{
		PreferredLifetime: time.Duration(preferred) * time.Second, ValidLifetime: time.Duration(valid) * time.Second,
		Prefix: &net.IPNet{IP: parsed.Addr().AsSlice(), Mask: net.CIDRMask(parsed.Bits(), 128)},
	}
}

func code(c iana.StatusCode, text string) dhcpv6.Option {
	return &dhcpv6.OptStatusCode{StatusCode: c, StatusMessage: text}
}

func option(o dhcpv6.Option) part { return func(m *dhcpv6.Message) { m.AddOption(o) } }

func rapid(m *dhcpv6.Message) {
	m.AddOption(&dhcpv6.OptionGeneric{OptionCode: dhcpv6.OptionRapidCommit})
}

// lender is a server that lends what grant says, to whoever asks for it.
func lender(server []byte, grant ...part) func(*message) {
	return func(m *message) {
		if to := m.server(); to != nil && string(to) != string(server) {
			return
		}
		switch m.MessageType {
		case dhcpv6.MessageTypeSolicit:
			m.reply(dhcpv6.MessageTypeAdvertise, server, grant...)
		case dhcpv6.MessageTypeRequest, dhcpv6.MessageTypeRenew, dhcpv6.MessageTypeRebind:
			m.reply(dhcpv6.MessageTypeReply, server, grant...)
		case dhcpv6.MessageTypeRelease:
			m.reply(dhcpv6.MessageTypeReply, server, option(code(iana.StatusSuccess, "")))
		}
	}
}

const (
	solicit = dhcpv6.MessageTypeSolicit
	request = dhcpv6.MessageTypeRequest
	renew   = dhcpv6.MessageTypeRenew
	rebind  = dhcpv6.MessageTypeRebind
	release = dhcpv6.MessageTypeRelease
)

const day = 24 * time.Hour

var errNoLink = errors.New("link eth0: network is down")
