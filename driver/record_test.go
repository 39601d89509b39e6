package driver

import (
	"bytes"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"
)

// What took how long is told of every call there is, and of no others.
func TestCallsAreRecorded(t *testing.T) {
	var got []string
	h := New(&fakeEngine{}, quiet())
	h.Record = func(method string, took time.Duration, failed bool) {
		if took < 0 {
			t.Errorf("%s took %s", method, took)
		}
		if failed {
			method += " failed"
		}
		got = append(got, method)
	}
	for _, path := range []string{"/Plugin.Activate", "/NetworkDriver.Nonsense", "/IpamDriver.RequestAddress"} {
		h.ServeHTTP(httptest.NewRecorder(), httptest.NewRequest(http.MethodPost, path, strings.NewReader("not JSON")))
	}
	if want := "Plugin.Activate, IpamDriver.RequestAddress failed"; strings.Join(got, ", ") != want {
		t.Errorf("recorded %q, want %s", got, want)
	}
}

// A line of the log says what its call was about.
func TestLogNamesWhatACallIsAbout(t *testing.T) {
	var log bytes.Buffer
	h := New(&fakeEngine{}, slog.New(slog.NewTextHandler(&log, nil)))
	h.ServeHTTP(httptest.NewRecorder(), httptest.NewRequest(http.MethodPost, "/NetworkDriver.Join",
		strings.NewReader(`{"NetworkID":"n1","EndpointID":"e1","SandboxKey":"","Options":{"PoolID":"no"}} and more`)))
	if !strings.Contains(log.String(), `method=NetworkDriver.Join network=n1 endpoint=e1 err=`) || strings.Contains(log.String(), "pool=") {
		t.Errorf("the log says %s", log.String())
	}
}

func TestSubject(t *testing.T) {
	for body, want := range map[string]int{
		``: 0, `nonsense`: 0, `[1]`: 0, `{"NetworkID":7`: 2, `{"NetworkID":""}`: 0, `{"PoolID":"p","Address":"a"}`: 2, `{"Options":{},"NetworkID":"n"}`: 0, `{"NetworkID":`: 0,
	} {
		if got := subject([]byte(body)); len(got) != want {
			t.Errorf("of %q: %v, want %d of them", body, got, want)
		}
	}
}
