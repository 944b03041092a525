package compress

import (
	"bytes"
	"encoding/binary"
	"errors"
	"hash/crc32"
	"io"
	"maps"
	"math/rand/v2"
	"os/exec"
	"slices"
	"strings"
	"testing"
	"testing/iotest"
)

// sample is text and noise, large enough for every library's inner buffers to
// be used more than once.
func sample(n int) []byte {
	rng := rand.New(rand.NewPCG(1, 2))
	var b bytes.Buffer
	for b.Len() < n {
		word := make([]byte, 1+rng.IntN(12))
		for i := range word {
			word[i] = "etaoin shrdlu\n"[rng.IntN(14)]
		}
		b.Write(bytes.Repeat(word, 1+rng.IntN(4)))
		if rng.IntN(50) == 0 {
			for range rng.IntN(500) {
				b.WriteByte(byte(rng.Uint32()))
			}
		}
	}
	return b.Bytes()[:n]
}

func pack(t testing.TB, method string, data []byte) []byte {
	t.Helper()
	return packed(t, method, data, -1, false)
}

func packed(t testing.TB, method string, data []byte, level int, parallel bool) []byte {
	t.Helper()
	var file bytes.Buffer
	w, err := NewWriter(method, &file, level, parallel)
	if err != nil {
		t.Fatalf("%s: %v", method, err)
	}
	for part := range slices.Chunk(data, 100_003) {
		if n, err := w.Write(part); n != len(part) || err != nil {
			t.Fatalf("%s: writing %d bytes: %d, %v", method, len(part), n, err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatalf("%s: closing: %v", method, err)
	}
	return file.Bytes()
}

func unpack(method string, file []byte) ([]byte, error) {
	r, err := NewReader(method, bytes.NewReader(file))
	if err != nil {
		return nil, err
	}
	defer r.Close()
	return io.ReadAll(r)
}

// writable are the methods that can be written and have a format of their own.
func writable() []string {
	return slices.DeleteFunc(slices.Sorted(maps.Keys(codecs)), func(m string) bool {
		return codecs[m].write == nil || m == "none"
	})
}

func TestRoundTrip(t *testing.T) {
	large := sample(300_000)
	for method, c := range codecs {
		if c.write == nil {
			continue
		}
		for _, level := range []int{-1, c.min, min(c.max, 7)} {
			for _, parallel := range []bool{false, true} {
				for _, data := range [][]byte{nil, []byte("x"), large} {
					got, err := unpack(method, packed(t, method, data, level, parallel))
					if err != nil || !bytes.Equal(got, data) {
						t.Errorf("%s, level %d, parallel %t: %d bytes came back as %d: %v", method, level, parallel, len(data), len(got), err)
					}
				}
			}
		}
	}
}

// However a file arrives, and however little is asked for, the same comes out.
func TestPieces(t *testing.T) {
	data := sample(70_000)
	for _, method := range writable() {
		file := pack(t, method, data)
		for name, source := range map[string]io.Reader{
			"byte by byte":        iotest.OneByteReader(bytes.NewReader(file)),
			"with end":            iotest.DataErrReader(bytes.NewReader(file)),
			"with empty readings": &hesitant{r: bytes.NewReader(file)},
		} {
			r, err := NewReader(method, source)
			if err != nil {
				t.Fatalf("%s, %s: %v", method, name, err)
			}
			got, err := io.ReadAll(iotest.HalfReader(r))
			if err != nil || !bytes.Equal(got, data) {
				t.Errorf("%s, %s: got %d bytes, %v", method, name, len(got), err)
			}
			if n, err := r.Read(make([]byte, 10)); n != 0 || err != io.EOF {
				t.Errorf("%s, %s: after the end: %d, %v", method, name, n, err)
			}
			for range 2 {
				if err := r.Close(); err != nil {
					t.Errorf("%s, %s: closing: %v", method, name, err)
				}
			}
			if _, err := r.Read(make([]byte, 10)); !errors.Is(err, errClosed) {
				t.Errorf("%s, %s: after closing: %v", method, name, err)
			}
		}
	}
}

// A hesitant reader gives nothing every other time.
type hesitant struct {
	r   io.Reader
	odd bool
}

func (h *hesitant) Read(p []byte) (int, error) {
	if h.odd = !h.odd; h.odd {
		return 0, nil
	}
	return h.r.Read(p[:min(len(p), 1000)])
}

func TestMembers(t *testing.T) {
	one, two := sample(50_000), []byte("another")
	for _, method := range writable() {
		if method == "br" {
			continue // has no members
		}
		file := slices.Concat(pack(t, method, one), pack(t, method, nil), pack(t, method, two))
		got, err := unpack(method, file)
		if want := slices.Concat(one, two); err != nil || !bytes.Equal(got, want) {
			t.Errorf("%s: got %d bytes of %d, %v", method, len(got), len(want), err)
		}
	}
	// Between streams of xz there may be zero bytes, a multiple of four.
	file := slices.Concat(pack(t, "xz", one), make([]byte, 4), pack(t, "xz", two), make([]byte, 8))
	if got, err := unpack("xz", file); err != nil || len(got) != len(one)+len(two) {
		t.Errorf("padded streams of xz: got %d bytes, %v", len(got), err)
	}
	if _, err := unpack("xz", append(pack(t, "xz", one), 0, 0, 0)); err == nil {
		t.Error("three bytes of padding after a stream of xz were accepted")
	}
}

// Nothing but whole files is accepted.
func TestDamage(t *testing.T) {
	data := sample(3_000)
	for _, method := range writable() {
		file := pack(t, method, data)
		for n := range len(file) {
			if got, err := unpack(method, file[:n]); err == nil {
				t.Errorf("%s: the first %d bytes of %d were accepted as %d bytes", method, n, len(file), len(got))
			} else if errors.Is(err, io.EOF) {
				t.Errorf("%s: the first %d bytes look like a file that ends: %v", method, n, err)
			}
		}
		for _, garbage := range []string{"x", "\x00", "garbage after the end", strings.Repeat("\x00\xff", 50_000)} {
			if _, err := unpack(method, append(slices.Clone(file), garbage...)); err == nil {
				t.Errorf("%s: %q after the end was accepted", method, garbage[:min(len(garbage), 30)])
			}
		}
		for _, garbage := range []string{"x", "garbage instead of a file", strings.Repeat("\x00", 100_000)} {
			if _, err := unpack(method, []byte(garbage)); err == nil {
				t.Errorf("%s: %q was accepted", method, garbage[:min(len(garbage), 30)])
			}
		}
	}
}

// An error of the network is not hidden as an error of the format.
func TestSourceErrors(t *testing.T) {
	broken := errors.New("connection lost")
	data := sample(300_000)
	for _, method := range append(writable(), "none") {
		file := pack(t, method, data)
		for _, n := range []int{0, 1, 10, len(file) / 2, len(file) - 1, len(file)} {
			r, err := NewReader(method, io.MultiReader(bytes.NewReader(file[:n]), iotest.ErrReader(broken)))
			if err == nil {
				_, err = io.ReadAll(r)
				_ = r.Close()
			}
			if !errors.Is(err, broken) {
				t.Errorf("%s: a source that fails after %d bytes of %d: %v", method, n, len(file), err)
			}
		}
		w, err := NewWriter(method, failingWriter{broken}, -1, false)
		if err != nil {
			t.Fatal(err)
		}
		_, err = w.Write(data)
		if closing := w.Close(); err == nil {
			err = closing
		}
		if !errors.Is(err, broken) {
			t.Errorf("%s: writing where that fails: %v", method, err)
		}
	}
}

type failingWriter struct{ err error }

func (w failingWriter) Write([]byte) (int, error) { return 0, w.err }

func TestMethods(t *testing.T) {
	extensions := map[string]string{"none": "", "xz": ".xz", "bzip2": ".bz2", "": ".bz2", "zstd": ".zst", "br": ".br",
		"lzip": ".lzip", "gzip": "", "lzma": "", "rot13": ""}
	for method, want := range extensions {
		if got := Extension(method); got != want {
			t.Errorf("the extension of '%s' is %q, want %q", method, got, want)
		}
	}
	_, err := NewReader("rot13", nil)
	if err == nil || err.Error() != "unknown compression method 'rot13'" {
		t.Errorf("reading an unknown method: %v", err)
	}
	for _, bad := range []struct {
		method string
		level  int
	}{{"rot13", -1}, {"lzma", -1}, {"xz", 10}, {"xz", -2}, {"zstd", 0}, {"gzip", 10}} {
		if _, err := NewWriter(bad.method, io.Discard, bad.level, false); err == nil {
			t.Errorf("a writer for method '%s' and level %d was made", bad.method, bad.level)
		}
	}
	file := pack(t, "bzip2", []byte("text"))
	if got, err := unpack("", file); err != nil || string(got) != "text" {
		t.Errorf("without a method: %q, %v", got, err)
	}
}

// The programs that people use for it read what is written here, and write what
// is read here.
func TestPrograms(t *testing.T) {
	data := sample(300_000)
	for method, program := range map[string][]string{
		"xz": {"xz", "-c"}, "zstd": {"zstd", "-qc"}, "bzip2": {"bzip2", "-c"}, "gzip": {"gzip", "-c"}, "lzma": {"xz", "-c", "--format=lzma"},
	} {
		if _, err := exec.LookPath(program[0]); err != nil {
			t.Logf("'%s' is not installed", program[0])
			continue
		}
		run := func(input []byte, more ...string) []byte {
			cmd := exec.Command(program[0], append(program[1:], more...)...)
			cmd.Stdin = bytes.NewReader(input)
			out, err := cmd.Output()
			if err != nil {
				t.Errorf("%v: %v", cmd.Args, err)
			}
			return out
		}
		if got, err := unpack(method, run(data)); err != nil || !bytes.Equal(got, data) {
			t.Errorf("%s: reading what '%s' wrote: %d bytes, %v", method, program[0], len(got), err)
		}
		if codecs[method].write != nil {
			if got := run(pack(t, method, data), "-d"); !bytes.Equal(got, data) {
				t.Errorf("%s: '%s' reads %d bytes of %d", method, program[0], len(got), len(data))
			}
		}
	}
}

// There is no common program for lzip; its members are those of "lzma" with a
// short header and a footer.
func TestLzip(t *testing.T) {
	if _, err := exec.LookPath("xz"); err != nil {
		t.Skip("skipped: 'xz' is not installed")
	}
	data := sample(100_000)
	cmd := exec.Command("xz", "-6", "-c", "--format=lzma")
	cmd.Stdin = bytes.NewReader(data)
	lzma, err := cmd.Output()
	if err != nil {
		t.Fatal(err)
	}
	le := binary.LittleEndian
	member := append([]byte("LZIP\x01\x17"), lzma[13:]...) // 23: 8 MiB
	member = le.AppendUint32(member, crc32.ChecksumIEEE(data))
	member = le.AppendUint64(member, uint64(len(data)))
	member = le.AppendUint64(member, uint64(len(member)+8))
	got, err := unpack("lzip", append(member, member...))
	if err != nil || !bytes.Equal(got, append(data, data...)) {
		t.Errorf("got %d bytes of %d, %v", len(got), 2*len(data), err)
	}
	if _, err := unpack("lzip", append(member, "LZIP"...)); err == nil {
		t.Error("half a second member was accepted")
	}
}
