package pd

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"sync"
	"time"

	"github.com/insomniacslk/dhcp/dhcpv6"
)

// How an exchange ends without an answer.
var (
	errSilent = errors.New("no answer")
	errMoved  = errors.New("the link has changed")
	errLapsed = errors.New("the lease's time is over")
)

// dialAgain bounds the wait after a message that could not even be sent.
const dialAgain = time.Minute

// exchange sends a question again and again (RFC 8415 §15) until judge says of an
// answer that it is the last, or settle, each time before the question is repeated,
// that those of before will do. A lease whose time ends meanwhile is reported; when
// all of it has, so has the exchange.
func (c *Client) exchange(ctx context.Context, q question, t timing, judge func(answer) bool, settle func() bool) error {
	id, err := dhcpv6.GenerateTransactionID()
	if err != nil {
		return err
	}
	s := &session{client: c, id: id, judge: judge, held: !c.empty(), changed: c.changed}
	if q.kind == dhcpv6.MessageTypeRelease {
		s.changed = nil
	}
	defer s.close()
	began := time.Now()
	var rt time.Duration
	for n := 1; ; n++ {
		if w := c.sent.wait(time.Now()); w > 0 && !sleep(ctx, w) {
			return ctx.Err()
		}
		if q.kind == dhcpv6.MessageTypeSolicit {
			t.most = c.solicitMost // which may be another one since the last
		}
		rt = t.next(rt)
		if n == 1 && q.kind == dhcpv6.MessageTypeSolicit {
			rt = max(rt, t.initial+time.Millisecond) // RAND is more than nothing here (§18.2.1)
		}
		elapsed := time.Since(began)
		if n == 1 {
			elapsed = 0 // §21.9
		}
		c.sent.take(time.Now())
		wait := rt
		if err := s.send(ctx, c.message(q, id, elapsed)); err != nil {
			c.fail(err.Error())
			wait = min(wait, dialAgain)
		}
		if t.total > 0 {
			wait = min(wait, t.total-time.Since(began))
		}
		if err := s.listen(ctx, wait); !errors.Is(err, errSilent) {
			return err
		}
		switch {
		case settle != nil && settle():
			return nil
		case t.count > 0 && n >= t.count, t.total > 0 && time.Since(began) >= t.total:
			return errSilent
		}
	}
}

// A session is one exchange and its link, which is open once something was sent.
type session struct {
	client  *Client
	id      dhcpv6.TransactionID
	judge   func(answer) bool
	held    bool            // there was a lease when it began
	changed <-chan struct{} // the link has, if that ends the exchange

	conn  Conn
	in    chan received
	end   chan struct{}
	reads sync.WaitGroup
}

// listen judges what comes within so long; nil is that the last answer has come.
func (s *session) listen(ctx context.Context, wait time.Duration) error {
	over := time.NewTimer(wait)
	defer over.Stop()
	for {
		if done, err := s.once(ctx, over); done {
			return err
		}
	}
}

// once waits for one event.
func (s *session) once(ctx context.Context, over *time.Timer) (done bool, err error) {
	lapse := s.client.newTimer(s.client.expiry())
	defer lapse.Stop()
	select {
	case <-ctx.Done():
		return true, ctx.Err()
	case <-s.changed:
		return true, errMoved
	case <-over.C:
		return true, errSilent
	case <-lapse.C:
		s.client.lapse()
		return s.held && s.client.empty(), errLapsed
	case m := <-s.in:
		return s.hear(m), nil
	}
}

// hear judges one message.
func (s *session) hear(m received) (last bool) {
	c := s.client
	if m.err != nil {
		c.fail(fmt.Sprintf("receive on %s: %v", c.config.Link, m.err))
		s.close() // the next repetition dials again
		return false
	}
	if !m.from.IsLinkLocalUnicast() {
		c.config.Log.Debug("DHCPv6 message from elsewhere", "link", c.config.Link, "from", m.from)
		return false
	}
	a, err := parse(m.message, s.id, c.config.DUID)
	if err != nil {
		c.config.Log.Debug("DHCPv6 message that is not for us", "link", c.config.Link, "from", m.from, "err", err)
		return false
	}
	return s.judge(a)
}

type received struct {
	message []byte
	from    netip.Addr
	err     error
}

// send opens the link where it is not open, and sends.
func (s *session) send(ctx context.Context, message []byte) error {
	if s.conn == nil {
		conn, err := s.client.config.Dial(ctx)
		if err != nil {
			return err
		}
		s.conn, s.in, s.end = conn, make(chan received), make(chan struct{})
		s.reads.Go(func() { s.read(conn, s.in, s.end) })
	}
	if err := s.conn.Send(message); err != nil {
		s.close()
		return fmt.Errorf("send on %s: %w", s.client.config.Link, err)
	}
	return nil
}

func (s *session) read(conn Conn, in chan<- received, end <-chan struct{}) {
	b := make([]byte, mostMessage)
	for {
		n, from, err := conn.Receive(b)
		m := received{append([]byte(nil), b[:n]...), from.WithZone(""), err}
		select {
		case in <- m:
		case <-end:
			return
		}
		if err != nil {
			return
		}
	}
}

func (s *session) close() {
	if s.conn == nil {
		return
	}
	close(s.end)
	if err := s.conn.Close(); err != nil {
		s.client.config.Log.Debug("close DHCPv6 socket", "link", s.client.config.Link, "err", err)
	}
	s.reads.Wait()
	s.conn, s.in = nil, nil
}
