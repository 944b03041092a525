package compress

import (
	"bytes"
	"encoding/binary"
	"errors"
	"hash/crc32"
	"runtime"
	"slices"
	"testing"
)

// Files that ask for more memory than they may have are refused, whatever they
// contain.
func TestWindows(t *testing.T) {
	files := map[string]struct {
		method string
		file   []byte
	}{
		"xz, 4 GiB":     {"xz", xzHeader(40)},
		"xz, 192 MiB":   {"xz", xzHeader(31)},
		"lzma, 4 GiB":   {"lzma", slices.Concat([]byte{0x5d, 0xff, 0xff, 0xff, 0xff}, bytes.Repeat([]byte{0xff}, 8), make([]byte, 100))},
		"lzip, 512 MiB": {"lzip", slices.Concat([]byte("LZIP\x01"), []byte{29}, make([]byte, 100))},
		"zstd, 2 GiB":   {"zstd", slices.Concat([]byte{0x28, 0xb5, 0x2f, 0xfd, 0, 21 << 3}, make([]byte, 100))},
		"zstd, 3.75 TB": {"zstd", slices.Concat([]byte{0x28, 0xb5, 0x2f, 0xfd, 0, 0xff}, make([]byte, 100))},
		"zstd, one segment of 1 TiB": {"zstd", slices.Concat([]byte{0x28, 0xb5, 0x2f, 0xfd, 0xe0},
			binary.LittleEndian.AppendUint64(nil, 1<<40), make([]byte, 100))},
	}
	for name, f := range files {
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		_, err := unpack(f.method, f.file)
		runtime.ReadMemStats(&after)
		if !errors.Is(err, errWindow) {
			t.Errorf("%s: %v, want %v", name, err, errWindow)
		}
		if used := after.TotalAlloc - before.TotalAlloc; used > 32<<20 {
			t.Errorf("%s: %d MiB were used (%v)", name, used>>20, err)
		}
	}
}

// xzHeader begins a file with one block whose window has the size that a byte
// stands for in the format.
func xzHeader(window byte) []byte {
	crc := func(b []byte) []byte { return binary.LittleEndian.AppendUint32(b, crc32.ChecksumIEEE(b)) }
	flags := []byte{0, 4}
	block := []byte{2, 0, 0x21, 1, window, 0, 0, 0}
	return slices.Concat([]byte("\xfd7zXZ\x00"), flags, crc(slices.Clone(flags))[2:], crc(block), make([]byte, 100))
}

// What the standard programs write at their highest levels is read.
func TestLargestUsualWindow(t *testing.T) {
	file := pack(t, "xz", []byte("text"))
	for _, level := range []int{9, 6} {
		var b bytes.Buffer
		w, err := NewWriter("xz", &b, level, true)
		if err != nil {
			t.Fatal(err)
		}
		_, _ = w.Write([]byte("text"))
		if err := w.Close(); err != nil {
			t.Fatal(err)
		}
		if got, err := unpack("xz", slices.Concat(b.Bytes(), file)); err != nil || string(got) != "texttext" {
			t.Errorf("level %d: %q, %v", level, got, err)
		}
	}
	// 64 MiB, as of level 9; what follows is no block.
	if _, err := unpack("xz", xzHeader(28)); !errors.Is(err, errCorrupt) {
		t.Errorf("a window of 64 MiB: %v, want %v", err, errCorrupt)
	}
}
