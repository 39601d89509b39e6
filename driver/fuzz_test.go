package driver

import (
	"encoding/json"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// FuzzHandler: whatever arrives at whatever method, the answer is one JSON
// object, and never a panic.
func FuzzHandler(f *testing.F) {
	files, err := filepath.Glob("testdata/engine-*.json")
	if err != nil {
		f.Fatal(err)
	}
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			f.Fatal(err)
		}
		var steps []step
		if err := json.Unmarshal(text, &steps); err != nil {
			f.Fatal(err)
		}
		for _, s := range steps {
			f.Add([]byte(s.Request))
		}
	}
	f.Add([]byte(strings.Repeat("[", 20000)))
	f.Add([]byte(`{"NetworkID": 1e999, "Options": {"com.docker.network.generic": {"mode": null}}}`))

	engine := newFakeEngine()
	h := New(engine, quiet())
	f.Fuzz(func(t *testing.T, body []byte) {
		engine.taken()
		for path := range h.routes {
			w := httptest.NewRecorder()
			h.ServeHTTP(w, httptest.NewRequest("POST", path, strings.NewReader(string(body))))
			var answer map[string]any
			if err := json.Unmarshal(w.Body.Bytes(), &answer); err != nil || answer == nil {
				t.Errorf("%s answered %q to %q, want a JSON object", path, w.Body, body)
			}
			if w.Code != 200 {
				t.Errorf("%s answered status %d to %q, want 200", path, w.Code, body)
			}
			for _, field := range []string{"Err", "Error"} {
				if text, _ := answer[field].(string); strings.Contains(text, "internal error") {
					t.Errorf("%s panicked on %q", path, body)
				}
			}
		}
	})
}
