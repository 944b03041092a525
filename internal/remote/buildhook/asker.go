package buildhook

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"strings"

	"gobuild/internal/protocol"
	"gobuild/internal/store/storepath"
)

// A Setting is a name with its value in nix.conf syntax.
type Setting struct{ Name, Value string }

// A request asks whether a derivation can be built elsewhere.
type request struct {
	willing  bool // the engine could do it now
	platform string
	drv      storepath.Path
	features []string
}

// A job is what an engine says of an accepted build.
type job struct {
	inputs  []storepath.Path // Binary: the closure of the inputs; Text: with that of the derivation
	outputs []string         // Binary: names of the outputs to make
	paths   []storepath.Path // Text: all outputs
}

// An Asker is the engine's side of the conversation.
type Asker interface {
	// next reads a request; ok is false when there are no more.
	next(dir storepath.Dir) (r request, ok bool, err error)
	job(dir storepath.Dir) (job, error)
	accept(uri string) string // the reply
	text() bool
}

// Binary is the protocol of today's engines.
type Binary struct{ in *protocol.Reader }

// NewBinary reads from an engine's pipe.
func NewBinary(in io.Reader) *Binary { return &Binary{protocol.NewReader(in)} }

// maxSettings bounds the settings of an engine.
const maxSettings = 1 << 12

// Settings reads what comes before the first request: all settings of the
// engine.
func (b *Binary) Settings() ([]Setting, error) {
	var all []Setting
	left := protocol.MaxText
	for b.in.Uint64() != 0 {
		s := Setting{Name: b.in.Name(), Value: b.in.Text(left)}
		if left -= len(s.Value); len(all) == maxSettings {
			return nil, fmt.Errorf("reading the engine's settings: more than %d", maxSettings)
		}
		all = append(all, s)
	}
	if err := b.in.Err(); err != nil {
		return nil, fmt.Errorf("reading the engine's settings: %w", err)
	}
	return all, nil
}

func (b *Binary) next(dir storepath.Dir) (request, bool, error) {
	word := b.in.Name()
	if errors.Is(b.in.Err(), io.EOF) || b.in.Err() == nil && word != "try" {
		return request{}, false, nil
	}
	r := request{willing: b.in.Bool(), platform: b.in.Name(), drv: b.in.Path(dir)}
	r.features = b.in.Texts(maxWord)
	if err := b.in.Err(); err != nil {
		return request{}, false, fmt.Errorf("reading the engine's request: %w", err)
	}
	return r, true, nil
}

// maxWord bounds the name of a feature, in bytes.
const maxWord = 4 << 10

func (b *Binary) job(dir storepath.Dir) (job, error) {
	j := job{inputs: b.in.Paths(dir), outputs: b.in.Texts(maxWord)}
	if err := b.in.Err(); err != nil {
		return job{}, fmt.Errorf("reading what to build: %w", err)
	}
	return j, nil
}

func (*Binary) accept(uri string) string { return "# accept\n" + uri + "\n" }
func (*Binary) text() bool               { return false }

// Text is the protocol of the original engine.
type Text struct{ lines *bufio.Scanner }

// NewText reads from an engine's pipe.
func NewText(in io.Reader) *Text {
	t := &Text{bufio.NewScanner(in)}
	t.lines.Buffer(nil, protocol.MaxText)
	return t
}

func (t *Text) next(dir storepath.Dir) (request, bool, error) {
	if !t.lines.Scan() {
		return request{}, false, t.lines.Err()
	}
	words := strings.Split(t.lines.Text(), " ")
	if len(words) < 3 || words[0] != "0" && words[0] != "1" {
		return request{}, false, fmt.Errorf("the engine's request '%s' makes no sense", t.lines.Text())
	}
	p, err := dir.Parse(words[2])
	if err != nil {
		return request{}, false, fmt.Errorf("reading the engine's request: %w", err)
	}
	r := request{willing: words[0] == "1", platform: words[1], drv: p}
	if len(words) > 3 {
		for f := range strings.SplitSeq(words[3], ",") {
			if f != "" {
				r.features = append(r.features, f)
			}
		}
	}
	return r, true, nil
}

func (t *Text) job(dir storepath.Dir) (j job, err error) {
	for _, list := range []*[]storepath.Path{&j.inputs, &j.paths} {
		if !t.lines.Scan() {
			return job{}, fmt.Errorf("reading what to build: %w", errors.Join(io.ErrUnexpectedEOF, t.lines.Err()))
		}
		for word := range strings.FieldsSeq(t.lines.Text()) {
			p, err := dir.Parse(word)
			if err != nil {
				return job{}, fmt.Errorf("reading what to build: %w", err)
			}
			*list = append(*list, p)
		}
	}
	return j, nil
}

func (*Text) accept(string) string { return "# accept\n" }
func (*Text) text() bool           { return true }
