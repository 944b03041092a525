package builders

import (
	"bytes"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"gobuild/internal/builtin"
)

// A lab runs builders in the test's own process, with outputs in a directory.
type lab struct {
	t      *testing.T
	dir    string
	log    bytes.Buffer
	pauses []time.Duration
}

func newLab(t *testing.T) *lab { return &lab{t: t, dir: t.TempDir()} }

// path is that of a file of the lab.
func (l *lab) path(names ...string) string {
	return filepath.Join(append([]string{l.dir}, names...)...)
}

// write makes a file and the directories that lead to it.
func (l *lab) write(name, contents string) string {
	l.t.Helper()
	p := l.path(name)
	if err := os.MkdirAll(filepath.Dir(p), 0o755); err != nil {
		l.t.Fatal(err)
	}
	if err := os.WriteFile(p, []byte(contents), 0o644); err != nil {
		l.t.Fatal(err)
	}
	return p
}

func (l *lab) symlink(text, name string) {
	l.t.Helper()
	if err := os.Symlink(text, l.path(name)); err != nil {
		l.t.Fatal(err)
	}
}

// run builds with the attributes given, and with "out" below the lab.
func (l *lab) run(builder string, fetch *builtin.Fetch, attrs map[string]string) error {
	l.t.Helper()
	l.log.Reset()
	l.pauses = nil
	req := &builtin.Request{Builder: builder, Env: map[string][]byte{"out": []byte(l.path("out"))}, Fetch: fetch}
	for name, value := range attrs {
		req.Env[name] = []byte(value)
	}
	text, err := req.Encode()
	if err != nil {
		l.t.Fatal(err)
	}
	if req, err = builtin.Decode(bytes.NewReader(text)); err != nil {
		l.t.Fatal(err)
	}
	b := &build{Request: req, log: &l.log, sleep: func(d time.Duration) { l.pauses = append(l.pauses, d) }}
	return b.run()
}

// warnings are what the builder's log has for people.
func (l *lab) warnings() []string {
	l.t.Helper()
	var list []string
	for line := range strings.Lines(l.log.String()) {
		text, ok := strings.CutPrefix(line, "@nix ")
		var event struct{ Action, Msg string }
		if err := json.Unmarshal([]byte(text), &event); !ok || err != nil {
			l.t.Errorf("the log has the line %q", line)
		}
		if event.Action == "msg" {
			list = append(list, event.Msg)
		}
	}
	return list
}

// tree lists what is below a directory: links with their targets, files with
// their contents.
func (l *lab) tree(name string) string {
	l.t.Helper()
	var b strings.Builder
	err := filepath.WalkDir(l.path(name), func(p string, d os.DirEntry, err error) error {
		if err != nil {
			return err
		}
		rel, _ := filepath.Rel(l.path(name), p)
		b.WriteString(rel)
		switch d.Type() {
		case os.ModeDir:
			b.WriteString("/")
		case os.ModeSymlink:
			target, err := os.Readlink(p)
			if err != nil {
				return err
			}
			b.WriteString(" -> " + strings.TrimPrefix(target, l.dir+"/"))
		default:
			text, err := os.ReadFile(p)
			if err != nil {
				return err
			}
			b.WriteString(": " + strings.TrimSpace(string(text)))
		}
		b.WriteString("\n")
		return nil
	})
	if err != nil {
		l.t.Fatal(err)
	}
	return b.String()
}

// fails checks the text of an error.
func (l *lab) fails(err error, want string) {
	l.t.Helper()
	if err == nil || !strings.Contains(err.Error(), want) {
		l.t.Errorf("error: %v, want one with %q", err, want)
	}
}
