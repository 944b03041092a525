package logline

import (
	"bytes"
	"fmt"
	"slices"
	"strings"
	"testing"
	"unicode/utf8"

	"gobuild/internal/activity"
)

// recorder notes what a receiver is told, one string each.
type recorder []string

func (r *recorder) Line(text string) { *r = append(*r, "line "+text) }
func (r *recorder) Event(e Event) {
	*r = append(*r, fmt.Sprintf("%s id=%d level=%d type=%d/%d %q %v", e.Action, e.ID, e.Level, e.Type, e.ResultType, e.Text, e.Fields))
}

// split feeds the pieces and returns what came out.
func split(pieces ...string) []string {
	var r recorder
	s := NewSplitter(&r)
	for _, p := range pieces {
		_, _ = s.Write([]byte(p))
	}
	_ = s.Close()
	return r
}

func TestLines(t *testing.T) {
	for in, want := range map[string][]string{
		"":                     nil,
		"a\nb\n":               {"line a", "line b"},
		"a\n\nb":               {"line a", "line ", "line b"},
		"\n":                   {"line "},
		"dos\r\nline\r\n":      {"line dos", "line line"},
		"abc\rX\n":             {"line Xbc"},
		"10%\r50%\r100%\ndone": {"line 100%", "line done"},
		"abc\r":                {"line abc"},
		"\r\r\n":               {"line "},
		"abc\rde\r\rf":         {"line fec"},
		"\xff\x00\n":           {"line \xff\x00"},
		"@nix":                 {"line @nix"},
		" @nix {}":             {"line  @nix {}"},
	} {
		if got := split(in); !slices.Equal(got, want) {
			t.Errorf("%q: %q, want %q", in, got, want)
		}
		if got := split(strings.Split(in, "")...); !slices.Equal(got, want) {
			t.Errorf("%q byte by byte: %q, want %q", in, got, want)
		}
	}
}

func TestEvents(t *testing.T) {
	for in, want := range map[string][]string{
		`{"action":"setPhase","phase":"buildPhase"}`:      {`setPhase id=0 level=0 type=0/0 "buildPhase" []`},
		`{"action":"msg","level":3,"msg":"hi"}`:           {`msg id=0 level=3 type=0/0 "hi" []`},
		`{"action":"msg","level":-3,"msg":"hi"}`:          {`msg id=0 level=0 type=0/0 "hi" []`},
		`{"action":"msg","level":99,"msg":"hi","x":[{}]}`: {`msg id=0 level=7 type=0/0 "hi" []`},
		`{"action":"start","id":18446744073709551615,"level":4,"type":101,"text":"t","fields":["u",7],"parent":0}`: {
			`start id=18446744073709551615 level=4 type=101/0 "t" [u 7]`},
		`{"action":"stop","id":5}`:                             {`stop id=5 level=0 type=0/0 "" []`},
		`{"action":"result","id":5,"type":105,"fields":[1,2]}`: {`result id=5 level=0 type=0/105 "" [1 2]`},
		`{"action":"unknown"}`:                                 nil,
		`{}`:                                                   nil,
	} {
		if got := split("@nix " + in + "\n"); !slices.Equal(got, want) {
			t.Errorf("%s: %q, want %q", in, got, want)
		}
	}
}

func TestBadEvents(t *testing.T) {
	for _, in := range []string{
		"", "{", "[]", "null", `"x"`, `{"action":5}`, `{"action":"stop","id":-1}`, `{"action":"stop","id":"x"}`,
		`{"action":"result","fields":[1.5]}`, `{"action":"result","fields":[[]]}`, `{} {}`,
		`{"action":"result","fields":[` + strings.Repeat("1,", 16) + `1]}`,
		strings.Repeat(`{"x":`, 10000),
	} {
		got := split("@nix " + in)
		if len(got) != 2 || !strings.HasPrefix(got[0], `msg id=0 level=0 type=0/0 "bad JSON log message from the derivation builder: `) ||
			got[1] != "line @nix "+in {
			t.Errorf("%s: %q", in, got)
		}
	}
}

func TestLongLines(t *testing.T) {
	long := strings.Repeat("x", MaxLine)
	for _, c := range []struct {
		in   string
		want []int // lengths
	}{
		{long, []int{MaxLine}},
		{long + "\n", []int{MaxLine}},
		{long + "y\nz\n", []int{MaxLine, 1, 1}},
		{long + long + "y", []int{MaxLine, MaxLine, 1}},
		{long + "\ryy\n", []int{MaxLine}},
		{long[1:] + "é\n", []int{MaxLine - 1, 2}},
		{"@nix " + long + "\n", []int{MaxLine, 5}},
	} {
		for _, got := range [][]string{split(c.in), split(c.in[:100], c.in[100:])} {
			var lengths []int
			for _, l := range got {
				lengths = append(lengths, len(l)-len("line "))
			}
			if !slices.Equal(lengths, c.want) {
				t.Errorf("line of %d: pieces %v, want %v", len(c.in), lengths, c.want)
			}
		}
	}
	var s Splitter
	s.to = new(recorder)
	for range 100 {
		_, _ = s.Write(bytes.Repeat([]byte("\r"+long), 2))
	}
	if cap(s.line) > 2*MaxLine {
		t.Errorf("the splitter holds %d bytes", cap(s.line))
	}
}

func TestSplitRune(t *testing.T) {
	for in, want := range map[string]int{
		"": 0, "a": 0, "é": 0, "a\xc3": 1, "\xe2\x82": 2, "\xe2\x82\xac": 0, "\xf0\x9f\x98": 3, "\x80\x80": 0, "\xff": 0, "\xc3a": 0,
	} {
		if got := splitRune([]byte(in)); got != want {
			t.Errorf("%q: %d, want %d", in, got, want)
		}
	}
}

type discard struct{ lines, bytes int }

func (d *discard) Line(text string) { d.lines++; d.bytes += len(text) }
func (d *discard) Event(Event)      {}

func TestPlainLinesCostOneAllocation(t *testing.T) {
	s := NewSplitter(new(discard))
	in := []byte(strings.Repeat("a line of ordinary length, as builders print\n", 10))
	if n := testing.AllocsPerRun(100, func() { _, _ = s.Write(in) }); n > 10 {
		t.Errorf("%v allocations for 10 lines", n)
	}
}

// FuzzSplitter checks that the cuts between writes do not matter, that lines
// are bounded, and that no byte is lost where nothing overwrites.
func FuzzSplitter(f *testing.F) {
	f.Add([]byte("a\rb\n@nix {\"action\":\"setPhase\",\"phase\":\"p\"}\n@nix x\nend"), uint8(3))
	f.Add([]byte("é\r\n\xff"), uint8(1))
	f.Fuzz(func(t *testing.T, in []byte, step uint8) {
		in = bytes.Repeat(in, 1+int(step%4)*16)
		if len(in) > 4*MaxLine {
			in = in[:4*MaxLine]
		}
		whole := split(string(in))
		var r recorder
		s := NewSplitter(&r)
		for rest := in; len(rest) > 0; {
			n := min(len(rest), 1+int(step)*7)
			_, _ = s.Write(rest[:n])
			rest = rest[n:]
		}
		_ = s.Close()
		if !slices.Equal(whole, r) {
			t.Fatalf("depends on the cuts: %q and %q", whole, []string(r))
		}
		if !bytes.ContainsAny(in, "\r") && !bytes.Contains(in, []byte(prefix)) {
			total := 0
			for _, l := range whole {
				total += len(l) - len("line ")
			}
			if total != len(in)-bytes.Count(in, []byte("\n")) {
				t.Fatal("bytes were lost")
			}
		}
		for _, l := range whole {
			if strings.HasPrefix(l, "line ") && len(l) > MaxLine+5 {
				t.Fatal("line too long")
			}
		}
		if utf8.Valid(in) && !bytes.ContainsAny(in, "\r") {
			for _, l := range whole {
				if !utf8.ValidString(l) {
					t.Fatal("a character was split")
				}
			}
		}
	})
}

func BenchmarkSplitter(b *testing.B) {
	in := []byte(strings.Repeat("checking whether the compiler supports this or that... yes\n", 1000))
	s := NewSplitter(new(discard))
	b.SetBytes(int64(len(in)))
	b.ReportAllocs()
	for b.Loop() {
		_, _ = s.Write(in)
	}
}

func BenchmarkSplitterProgress(b *testing.B) {
	in := []byte(strings.Repeat("\r 50% [=========>          ]", 1000))
	s := NewSplitter(new(discard))
	b.SetBytes(int64(len(in)))
	for b.Loop() {
		_, _ = s.Write(in)
	}
}

func FuzzEvent(f *testing.F) {
	f.Add(`{"action":"start","id":5,"level":3,"type":101,"text":"t","fields":["u",7]}`)
	f.Add(`{"action":"msg","level":-9,"msg":"\ud800"}`)
	f.Fuzz(func(t *testing.T, text string) {
		e, err := parseEvent(text)
		if err != nil {
			return
		}
		if e.Level < activity.Error || e.Level > activity.Vomit || len(e.Fields) > maxFields {
			t.Fatalf("%+v", e)
		}
		for _, f := range e.Fields {
			switch f.(type) {
			case string, uint64:
			default:
				t.Fatalf("field %T", f)
			}
		}
	})
}

func TestPhaseLine(t *testing.T) {
	for _, phase := range []string{"buildPhase", `"quoted"`, "<a&b>", "\xff"} {
		line := string(PhaseLine(phase))
		e, is, err := ParseEvent(strings.TrimSuffix(line, "\n"))
		if want := strings.ToValidUTF8(phase, "\ufffd"); !is || err != nil || e.Action != SetPhase || e.Text != want {
			t.Errorf("%q: %+v, %v, %v", line, e, is, err)
		}
	}
	if _, is, _ := ParseEvent("@nixy {}"); is {
		t.Error("any line is taken for an event")
	}
}
