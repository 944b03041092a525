package hook

import (
	"fmt"
	"slices"
	"strings"
	"testing"
)

// hear feeds pieces to a reader whose request is open and notes what it says.
func hear(p Protocol, pieces ...string) []string {
	var heard []string
	r := Replies{
		Protocol: p,
		Line:     func(text string) { heard = append(heard, "line "+text) },
		Reply:    func(r Reply) { heard = append(heard, fmt.Sprintf("reply %d %s%s", r.Verdict, r.Machine, r.Word)) },
	}
	r.Expect()
	for _, piece := range pieces {
		r.Feed([]byte(piece))
	}
	r.End()
	return heard
}

func TestReplies(t *testing.T) {
	for _, c := range []struct {
		protocol Protocol
		in       string
		want     []string
	}{
		{Binary, "# decline\n", []string{"reply 2 "}},
		{Binary, "# decline-permanently\n", []string{"reply 4 "}},
		{Binary, "# postpone\n", []string{"reply 3 "}},
		{Binary, "# accept\nssh://host\n", []string{"reply 1 ssh://host"}},
		{Binary, "# accept\n@nix {}\nssh://host\n@nix {}\n", []string{"line @nix {}", "reply 1 ssh://host", "line @nix {}"}},
		{Binary, "# accept\n", nil},
		{Binary, "# accept", nil},
		{Binary, "# accept\nssh://host", []string{"reply 1 ssh://host"}},
		{Binary, "warning: slow\n@nix {\"action\":\"stop\"}\n#accept\n# decline\n", []string{
			"line warning: slow", `line @nix {"action":"stop"}`, "line #accept", "reply 2 "}},
		{Binary, "# sure\n", []string{"reply 0 sure"}},
		{Binary, "# \n", []string{"reply 0 "}},
		{Binary, "# decline\n# decline\nx", []string{"reply 2 ", "line # decline", "line x"}},
		{Text, "# decline\n", []string{"reply 2 "}},
		{Text, "# accept\nbuilding\n", []string{"reply 1 ", "line building"}},
		{Text, "load is 3\r\n# postpone\r\n", []string{"line load is 3\r", "reply 3 "}},
		{Text, "# decline-permanently\n", []string{"reply 0 decline-permanently"}},
		{Text, "", nil},
		{Text, "died\x00", []string{"line died\x00"}},
	} {
		if got := hear(c.protocol, c.in); !slices.Equal(got, c.want) {
			t.Errorf("%q: %q, want %q", c.in, got, c.want)
		}
		if got := hear(c.protocol, strings.Split(c.in, "")...); !slices.Equal(got, c.want) {
			t.Errorf("%q byte by byte: %q, want %q", c.in, got, c.want)
		}
	}
}

// TestGoldenReplies reads what the stock hook said.
func TestGoldenReplies(t *testing.T) {
	want := []string{"reply 1 ssh-ng://host", "reply 1 ssh-ng://host", "reply 2 ", "reply 4 "}
	for i, s := range sessions(t) {
		heard := hear(Binary, strings.Join(s.Stderr, "\n"))
		replies := slices.DeleteFunc(slices.Clone(heard), func(h string) bool { return strings.HasPrefix(h, "line @nix {") })
		if len(replies) != 1 || replies[0] != want[i] {
			t.Errorf("%s: %q, want %q", s.Title, replies, want[i])
		}
	}
}

// FuzzReplies wants the same whatever the pieces in which bytes come, and no
// byte lost or kept too long.
func FuzzReplies(f *testing.F) {
	f.Add("# accept\nssh://h\n", uint8(3), true)
	f.Add("noise\n# decline\n# accept", uint8(1), false)
	f.Fuzz(func(t *testing.T, in string, size uint8, binary bool) {
		p := Text
		if binary {
			p = Binary
		}
		whole := hear(p, in)
		var pieces []string
		for rest := in; len(rest) > 0; {
			n := min(int(size)+1, len(rest))
			pieces, rest = append(pieces, rest[:n]), rest[n:]
		}
		if got := hear(p, pieces...); !slices.Equal(got, whole) {
			t.Errorf("%q in pieces of %d: %q, whole: %q", in, size, got, whole)
		}
		replies := 0
		for _, h := range whole {
			if strings.HasPrefix(h, "reply ") {
				replies++
			}
		}
		if replies > 1 {
			t.Errorf("%q: %d replies to one request", in, replies)
		}
	})
}

func TestLinesAreBounded(t *testing.T) {
	long := strings.Repeat("x", maxLine)
	for _, c := range []struct {
		in   string
		want []int
	}{
		{long, []int{maxLine}}, {long + "\n", []int{maxLine}}, {long + "\n\n", []int{maxLine, 0}},
		{long + "yz\nq\n", []int{maxLine, 2, 1}}, {long + long + "\ny", []int{maxLine, maxLine, 1}},
	} {
		for _, size := range []int{len(c.in), 1 << 16, 99_999} {
			var l Lines
			var got []int
			note := func(line []byte) { got = append(got, len(line)) }
			for rest := c.in; len(rest) > 0; {
				n := min(size, len(rest))
				l.Feed([]byte(rest[:n]), note)
				rest = rest[n:]
				if cap(l.rest) > 2*maxLine {
					t.Fatalf("%d bytes are kept", cap(l.rest))
				}
			}
			l.End(note)
			if !slices.Equal(got, c.want) {
				t.Errorf("%d bytes in pieces of %d: %v, want %v", len(c.in), size, got, c.want)
			}
		}
	}
}
