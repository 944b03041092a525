package logzip

import (
	"bytes"
	"compress/bzip2"
	"errors"
	"fmt"
	"io"
	"os/exec"
	"testing"
)

// small is a block that costs little to compress.
const small = 9_000

// A growing file shows its parts one by one, each after a wait.
type growing struct {
	data  []byte
	shown int
	step  int
}

func (g *growing) ReadAt(p []byte, off int64) (int, error) {
	if off >= int64(g.shown) {
		return 0, io.EOF
	}
	n := copy(p, g.data[off:g.shown])
	if n < len(p) {
		return n, io.EOF
	}
	return n, nil
}

// wait shows more; the end is told only after everything has been shown.
func (g *growing) wait() bool {
	if g.shown == len(g.data) {
		return true
	}
	g.shown = min(g.shown+g.step, len(g.data))
	return false
}

func text(n int) []byte {
	var b bytes.Buffer
	for i := 0; b.Len() < n; i++ {
		fmt.Fprintf(&b, "[%d] checking for number %d... yes\n", i, i*i)
	}
	return b.Bytes()[:n]
}

func TestCompress(t *testing.T) {
	for _, size := range []int{1, 1000, small - 1, small, small + 1, 3*small + 12345} {
		g := &growing{data: text(size), step: 4_000}
		var out bytes.Buffer
		if err := compress(small, g, &out, g.wait); err != nil {
			t.Fatal(err)
		}
		got, err := io.ReadAll(bzip2.NewReader(&out))
		if err != nil || !bytes.Equal(got, g.data) {
			t.Errorf("%d bytes came back as %d, %v", size, len(got), err)
		}
	}
}

// TestOtherReaders: what we write is one log to the tool that everybody has.
func TestOtherReaders(t *testing.T) {
	bzcat, err := exec.LookPath("bzcat")
	if err != nil {
		t.Skip("bzcat is not installed")
	}
	g := &growing{data: text(2*small + 7), step: 1 << 30}
	var out bytes.Buffer
	if err := compress(small, g, &out, g.wait); err != nil {
		t.Fatal(err)
	}
	c := exec.Command(bzcat)
	c.Stdin = &out
	got, err := c.Output()
	if err != nil || !bytes.Equal(got, g.data) {
		t.Errorf("bzcat read %d bytes of %d, %v", len(got), len(g.data), err)
	}
}

var errBroken = errors.New("broken")

type broken struct{}

func (broken) Write([]byte) (int, error)         { return 0, errBroken }
func (broken) ReadAt([]byte, int64) (int, error) { return 0, errBroken }

func TestErrors(t *testing.T) {
	g := &growing{data: text(5 * small), step: 1 << 30}
	if err := compress(small, g, broken{}, g.wait); !errors.Is(err, errBroken) {
		t.Errorf("writing: %v", err)
	}
	if err := compress(small, broken{}, io.Discard, g.wait); !errors.Is(err, errBroken) {
		t.Errorf("reading: %v", err)
	}
}
