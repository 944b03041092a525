package ui

import (
	"bytes"
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"unicode/utf8"

	"gobuild/internal/activity"
)

// TestAppendJSON holds strings as a builder printed them and as Nix 2.8
// reported them.
func TestAppendJSON(t *testing.T) {
	for in, want := range map[string]string{
		"":                        `""`,
		"a\xe2\x82b":              `"a�b"`,
		"\xff\xfe":                `"��"`,
		"\xe0\x80\x80":            `"���"`,
		"\xf0\x9f\x98":            `"�"`,
		"\xed\xa0\x80z":           `"���z"`,
		"\x01\x1f\x7f\"\\/\t\b\f": "\"\\u0001\\u001f\x7f\\\"\\\\/\\t\\b\\f\"",
		"\u00a0\u2028<>&":         "\"\u00a0\u2028<>&\"",
		"\xf4\x90\x80\x80":        `"����"`,
		"\xc0\xaf":                `"��"`,
		"\xf0\x80x":               `"��x"`,
		"\xe2\x82\xe2\x82\xac":    `"�€"`,
		"\n\r\x1b[0m":             `"\n\r\u001b[0m"`,
		"é\U0001F600":             `"é😀"`,
	} {
		if got := string(appendJSON(nil, in)); got != want {
			t.Errorf("%q: %s, want %s", in, got, want)
		}
	}
}

func FuzzAppendJSON(f *testing.F) {
	f.Add("a\xe2\x82\"\\\x00\x7f\u2028")
	f.Fuzz(func(t *testing.T, in string) {
		out := appendJSON(nil, in)
		var back string
		if err := json.Unmarshal(out, &back); err != nil || !utf8.Valid(out) {
			t.Fatalf("%q became %s: %v", in, out, err)
		}
		if utf8.ValidString(in) && back != in {
			t.Fatalf("%q became %q", in, back)
		}
	})
}

// object is any object of the format.
type object struct {
	Action string `json:"action"`
	ID     activity.ID
	Level  activity.Level
	Type   int
	Text   string
	Parent activity.ID
	Msg    string
	RawMsg *string `json:"raw_msg"`
	Fields []json.RawMessage
}

// replay feeds a recorded line to a sink.
func replay(t *testing.T, s activity.Sink, line string) {
	t.Helper()
	var o object
	text := strings.TrimPrefix(line, "@nix ")
	if err := json.Unmarshal([]byte(text), &o); err != nil {
		t.Fatalf("%s: %v", line, err)
	}
	fields := make([]any, len(o.Fields))
	for i, f := range o.Fields {
		var n uint64
		var word string
		if json.Unmarshal(f, &n) == nil {
			fields[i] = n
		} else if err := json.Unmarshal(f, &word); err == nil {
			fields[i] = word
		}
	}
	switch {
	case o.Action == "start":
		s.Start(o.ID, o.Level, activity.Type(o.Type), o.Text, o.Parent, fields...)
	case o.Action == "stop":
		s.Stop(o.ID)
	case o.Action == "result":
		s.Result(o.ID, activity.ResultType(o.Type), fields...)
	case o.RawMsg != nil:
		s.Failure(errors.New(*o.RawMsg))
	case o.Level == activity.Warn:
		s.Message(o.Level, strings.TrimPrefix(o.Msg, "\x1b[35;1mwarning:\x1b[0m "))
	default:
		s.Message(o.Level, o.Msg)
	}
}

// recordings are the golden files of a kind, by name.
func recordings(t *testing.T, pattern string) map[string]string {
	t.Helper()
	names, err := filepath.Glob("../../testdata/golden/logging/" + pattern)
	if err != nil || len(names) == 0 {
		t.Fatalf("no recordings %s: %v", pattern, err)
	}
	out := map[string]string{}
	for _, name := range names {
		data, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		out[filepath.Base(name)] = string(data)
	}
	return out
}

// TestJSONRecordings replays what real Nix reported and expects its bytes.
func TestJSONRecordings(t *testing.T) {
	for name, want := range recordings(t, "*json*.stderr") {
		var out bytes.Buffer
		l := New(Options{Out: &out, Format: internalJSON, Verbosity: activity.Info})
		for line := range strings.Lines(want) {
			replay(t, l, strings.TrimSuffix(line, "\n"))
		}
		l.Summary(5)
		l.Close()
		got := out.String()
		if strings.HasPrefix(name, "nix28") { // which does not tell parents
			got = strings.ReplaceAll(got, `"parent":0,`, "")
		}
		if got != want {
			t.Errorf("%s:\n got %s\nwant %s", name, got, want)
		}
	}
}

// TestRawRecordings replays a JSON recording and expects what the raw formats
// showed of the same build.
func TestRawRecordings(t *testing.T) {
	strip := strings.NewReplacer("\x1b[35;1m", "", "\x1b[0m", "")
	for _, nix := range []string{"nix28", "nix226"} {
		events := recordings(t, nix+"-faillog-json.stderr")[nix+"-faillog-json.stderr"]
		want := recordings(t, nix+"-faillog-raw.stderr")[nix+"-faillog-raw.stderr"]
		var out bytes.Buffer
		l := New(Options{Out: &out, Verbosity: activity.Info})
		if nix == "nix28" { // its new command line does not print the plan
			plan, _, _ := strings.Cut(want, "\nbuilding")
			l.Message(activity.Info, plan)
		}
		for line := range strings.Lines(events) {
			replay(t, l, strings.TrimSuffix(line, "\n"))
		}
		if got := strip.Replace(out.String()); got != want {
			t.Errorf("%s:\n got %s\nwant %s", nix, got, want)
		}
	}
}

func TestJSONIgnoresVerbosityForActivities(t *testing.T) {
	var out bytes.Buffer
	l := New(Options{Out: &out, Format: internalJSON, Verbosity: activity.Warn})
	l.Start(1, activity.Vomit, activity.Unknown, "t", 0)
	l.Message(activity.Info, "hidden")
	l.Message(activity.Warn, "warning: two\nlines")
	l.Failure(errors.New("two\nlines"))
	l.Result(1, activity.Progress, 1, -2, uint64(3), true)
	want := `@nix {"action":"start","id":1,"level":7,"parent":0,"text":"t","type":0}
@nix {"action":"msg","level":1,"msg":"\u001b[35;1mwarning:\u001b[0m two\nlines"}
@nix {"action":"msg","column":null,"file":null,"level":0,"line":null,"msg":"\u001b[31;1merror:\u001b[0m two\n       lines","raw_msg":"two\nlines"}
@nix {"action":"result","fields":[1,-2,3,"true"],"id":1,"type":105}
`
	if out.String() != want {
		t.Errorf("got %s\nwant %s", out.String(), want)
	}
}
