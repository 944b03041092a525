package wire

import (
	"reflect"
	"strings"
	"testing"
)

// Replies arrive whole, whatever the pieces in which their bytes come.
func TestSplitterPieces(t *testing.T) {
	want := []Reply{
		{ID: 1, Kind: Found, Source: 2, URI: "file:///c", Info: &Substitute{NarHash: "sha256:x", NarSize: 3, References: []string{"a\nb"}}},
		{ID: 2, Kind: Absent, Error: "down"},
		{Kind: Message, Level: 1, Text: "hello"},
	}
	var stream []byte
	for _, r := range want {
		line, err := Encode(r)
		if err != nil {
			t.Fatal(err)
		}
		stream = append(stream, line...)
	}
	for size := 1; size <= len(stream); size++ {
		var s Splitter
		var got []Reply
		for rest := stream; len(rest) > 0; {
			n := min(size, len(rest))
			if err := s.Feed(rest[:n], func(r *Reply) { got = append(got, *r) }); err != nil {
				t.Fatalf("pieces of %d bytes: %v", size, err)
			}
			rest = rest[n:]
		}
		if !reflect.DeepEqual(got, want) {
			t.Fatalf("pieces of %d bytes: got %+v, want %+v", size, got, want)
		}
	}
}

func TestSplitterErrors(t *testing.T) {
	var s Splitter
	if err := s.Feed([]byte("no JSON\n"), func(*Reply) { t.Error("a reply was found") }); err == nil {
		t.Error("text that is no JSON was accepted")
	}
	s = Splitter{}
	var err error
	for range MaxLine>>20 + 1 {
		if err = s.Feed([]byte(strings.Repeat("x", 1<<20)), func(*Reply) {}); err != nil {
			break
		}
	}
	if err == nil {
		t.Error("an endless line was accepted")
	}
}
