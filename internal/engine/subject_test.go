package engine_test

import (
	"bytes"
	"fmt"
	"log/slog"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/v6net/v6net/internal/spec"
)

// Lines about an endpoint name its network and, where its engine has told it, its
// container.
func TestLogNamesTheContainer(t *testing.T) {
	h := newHost(t)
	var log bytes.Buffer
	h.engine.Log = slog.New(slog.NewTextHandler(&log, nil))
	n, err := h.engine.MakeNetwork(t.Context(), request(1, "net", ula6(), auto4()))
	must(t, err)
	_, err = h.engine.Attach(t.Context(), attach(1, 1, "eth0"))
	must(t, err)
	must(t, h.engine.Detach(t.Context(), n.ID, epID(1)))
	for _, what := range []string{"endpoint created", "endpoint deleted"} {
		want := fmt.Sprintf("msg=%q network=%s endpoint=%s container=web", what, n.ID, epID(1))
		if !strings.Contains(log.String(), want) {
			t.Errorf("no line has %s:\n%s", want, log.String())
		}
	}
	if want := fmt.Sprintf("msg=\"network created\" network=%s name=net", n.ID); !strings.Contains(log.String(), want) {
		t.Errorf("no line has %s:\n%s", want, log.String())
	}
}

// Who waits for a prefix to be lent is told what for, after two seconds and then less and
// less often, and not any more when it has come.
func TestWaitingIsLogged(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHost(t)
		var log bytes.Buffer
		h.engine.Log = slog.New(slog.NewTextHandler(&log, nil))
		h.lentTo[pdOnEth0] = []spec.Delegation{delegated("2001:db8:a000::/56", time.Hour, 2*time.Hour)}
		h.onAsked = func() { time.Sleep(7 * time.Second) }
		_, err := h.engine.RequestPool(t.Context(), pd6(spec.FallbackNone))
		must(t, err)
		time.Sleep(time.Minute)
		const line = `msg="waiting for a prefix to be lent" source=pd link=eth0 at_most=15s waited=`
		if said := log.String(); strings.Count(said, line) != 2 || !strings.Contains(said, line+"2s") || !strings.Contains(said, line+"6s") {
			t.Errorf("in seven seconds the log says:\n%s", said)
		}
	})
}
