package driver

import (
	"bytes"
	"encoding/json"
	"flag"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/v6net/v6net/internal/spec"
)

var update = flag.Bool("update", false, "write what was seen into testdata")

// step is one request of a Docker engine, what our engine is called with, and the answer.
type step struct {
	What    string
	Method  string
	Request json.RawMessage `json:",omitempty"` // none: an empty body
	Engine  json.RawMessage
	Answer  json.RawMessage
}

// TestGolden replays what engines of four generations send for one network and
// one container. The requests were written after those engines' own structs and
// the options that their daemons put in.
func TestGolden(t *testing.T) {
	files, err := filepath.Glob("testdata/engine-*.json")
	if err != nil || len(files) != 4 {
		t.Fatalf("found %q, %v; want the files of four engines", files, err)
	}
	for _, file := range files {
		name := strings.TrimSuffix(filepath.Base(file), ".json")
		t.Run(name, func(t *testing.T) {
			text, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			var steps []step
			if err := json.Unmarshal(text, &steps); err != nil {
				t.Fatalf("%s: %v", file, err)
			}
			engine := newFakeEngine()
			engine.made.Ports = []spec.Port{{Protocol: "tcp", Port: 80, HostPort: 8080}}
			h := New(engine, quiet())
			for i, s := range steps {
				status, answer := post(t, h, s.Method, string(s.Request))
				if status != 200 {
					t.Errorf("%s: status %d, want 200: the engine shows what is in the answer only then", s.What, status)
				}
				calls, err := json.Marshal(engine.taken())
				if err != nil {
					t.Fatal(err)
				}
				if *update {
					steps[i].Engine, steps[i].Answer = calls, json.RawMessage(answer)
					continue
				}
				if diff := cmp.Diff(value(t, s.Engine), value(t, calls)); diff != "" {
					t.Errorf("%s: %s called the engine with (-want +got):\n%s", s.What, s.Method, diff)
				}
				if diff := cmp.Diff(value(t, s.Answer), value(t, []byte(answer))); diff != "" {
					t.Errorf("%s: %s answered (-want +got):\n%s", s.What, s.Method, diff)
				}
			}
			if *update {
				write(t, file, steps)
			}
		})
	}
}

func value(t *testing.T, text []byte) any {
	t.Helper()
	var v any
	if err := json.Unmarshal(text, &v); err != nil {
		t.Fatalf("%s: %v", text, err)
	}
	return v
}

// write stores steps with one line for each part, so that a diff can be read.
func write(t *testing.T, file string, steps []step) {
	t.Helper()
	var b bytes.Buffer
	line := func(key string, v any, end string) {
		text, err := json.Marshal(v)
		if err != nil {
			t.Fatal(err)
		}
		b.WriteString("\t\t\"" + key + "\": " + string(text) + end + "\n")
	}
	b.WriteString("[\n")
	for i, s := range steps {
		b.WriteString("\t{\n")
		line("What", s.What, ",")
		line("Method", s.Method, ",")
		if s.Request != nil {
			line("Request", s.Request, ",")
		}
		line("Engine", s.Engine, ",")
		line("Answer", s.Answer, "")
		b.WriteString("\t}")
		if i < len(steps)-1 {
			b.WriteByte(',')
		}
		b.WriteByte('\n')
	}
	b.WriteString("]\n")
	if err := os.WriteFile(file, b.Bytes(), 0o644); err != nil {
		t.Fatal(err)
	}
}
