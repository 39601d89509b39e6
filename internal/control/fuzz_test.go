package control

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/url"
	"reflect"
	"strings"
	"testing"

	"github.com/v6net/v6net/internal/event"
	"github.com/v6net/v6net/internal/spec"
)

// willing does what it is told, and counts the changes.
type willing struct{ changes int }

func (*willing) Status(context.Context) spec.Status { return spec.Status{} }
func (*willing) Describe([]spec.Event)              {}
func (*willing) Explain(context.Context, spec.Call) (spec.Judgement, error) {
	return spec.Judgement{}, nil
}
func (w *willing) DeleteNetwork(context.Context, string) error  { w.changes++; return nil }
func (w *willing) ForgetPool(context.Context, string) error     { w.changes++; return nil }
func (w *willing) Detach(context.Context, string, string) error { w.changes++; return nil }
func (w *willing) MakeNetwork(context.Context, spec.NetworkRequest) (spec.Network, error) {
	w.changes++
	return spec.Network{}, nil
}

func (w *willing) Attach(context.Context, spec.AttachRequest) (spec.Attached, error) {
	w.changes++
	return spec.Attached{}, nil
}

// FuzzServer: whatever root asks for, at whatever path with whatever query, is answered as the
// API does or refused with a word of why, never with a panic. Who is not root changes nothing,
// nor does who only looks, and a filter of events is understood as it was meant.
func FuzzServer(f *testing.F) {
	id := strings.Repeat("a1", 32)
	for _, seed := range []struct{ method, target, body string }{
		{"GET", statusPath, ""},
		{"GET", eventsPath + "?type=ndp&type=denied&source=2001:db8::/64", ""},
		{"GET", eventsPath + "?type=%00&source=fe80::1%25eth0/64", ""},
		{"GET", eventsPath + "?type=" + strings.Repeat("ndp&type=", 1000), ""},
		{"GET", eventsPath + "?%zz;source=::ffff:0.0.0.0/129", ""},
		{"DELETE", networksPath + id, ""},
		{"DELETE", networksPath + id + endpointsInfix + id, ""},
		{"DELETE", networksPath + "..%2f..%2fetc%2fpasswd", ""},
		{"DELETE", networksPath + "%ff" + endpointsInfix + "%00", ""},
		{"DELETE", poolsPath + "2001:db8::%2F64", ""},
		{"DELETE", poolsPath + "//" + id, ""},
		{"POST", makePath, `{"id": "` + id + `"}`},
		{"POST", attachPath, `{"network": null, "ports": [{}]}`},
		{"POST", explainPath, `{"from": "::", "to": 1e999}`},
		{"PATCH", explainPath, strings.Repeat("[", 20000)},
		{"OPTIONS", "*", ""},
	} {
		f.Add(seed.method, seed.target, seed.body)
	}
	known := map[int]bool{http.StatusOK: true, http.StatusNoContent: true, http.StatusBadRequest: true, http.StatusNotFound: true, http.StatusMethodNotAllowed: true,
		http.StatusMovedPermanently: true, http.StatusTemporaryRedirect: true} // by net/http, to the path that was meant
	f.Fuzz(func(t *testing.T, method, target, body string) {
		text := fmt.Sprintf("%s %s HTTP/1.1\r\nHost: v6net\r\nContent-Length: %d\r\n\r\n%s", method, target, len(body), body)
		r, err := http.ReadRequest(bufio.NewReader(strings.NewReader(text)))
		if err != nil {
			return // the server answers by itself
		}
		ask := func(uid uint32) (w *httptest.ResponseRecorder, changes int) {
			var who caller
			who.Uid = uid
			r := r.Clone(context.WithValue(t.Context(), callerKey{}, who))
			r.Body = io.NopCloser(strings.NewReader(body))
			engine, w := &willing{}, httptest.NewRecorder()
			routes(t.Context(), engine, &event.Hub{}, slog.New(slog.DiscardHandler)).ServeHTTP(w, r)
			return w, engine.changes
		}
		w, changes := ask(0)
		switch {
		case !known[w.Code]:
			t.Errorf("%s %q with %q: status %d, %q", method, target, body, w.Code, w.Body)
		case w.Code >= 400 && target != "*" && strings.TrimSpace(w.Body.String()) == "":
			t.Errorf("%s %q with %q: status %d, and no word of why", method, target, body, w.Code)
		case w.Code == 200 && r.URL.Path != eventsPath && !json.Valid(w.Body.Bytes()):
			t.Errorf("%s %q with %q: %q is no JSON", method, target, body, w.Body)
		case changes > 1 || changes == 1 && method != "POST" && method != "DELETE":
			t.Errorf("%s %q with %q makes %d changes", method, target, body, changes)
		}
		if _, changes := ask(65534); changes > 0 {
			t.Errorf("%s %q with %q makes changes for nobody", method, target, body)
		}
		filter, err := parseFilter(r.URL.Query())
		if err != nil {
			return
		}
		said, err := url.ParseQuery(filter.query())
		if err != nil {
			t.Fatal(err)
		}
		if again, err := parseFilter(said); err != nil || !reflect.DeepEqual(again, filter) {
			t.Errorf("%q is the filter %+v, which says %q, which is %+v (%v)", r.URL.RawQuery, filter, filter.query(), again, err)
		}
	})
}
