package engine_test

import (
	"bytes"
	"fmt"
	"log/slog"
	"strings"
	"testing"
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
}
