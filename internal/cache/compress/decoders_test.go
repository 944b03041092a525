package compress

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"sync"
	"testing"
)

// What is kept must not remember the file before, nor its error, nor serve two
// at once.
func TestDecoders(t *testing.T) {
	var d Decoders
	files := map[int][]byte{}
	for i := range 8 {
		var b bytes.Buffer
		w, err := NewWriter("zstd", &b, -1, false)
		if err == nil {
			_, err = w.Write(bytes.Repeat(fmt.Append(nil, "contents of file ", i), 1000*(i+1)))
		}
		if err := errors.Join(err, w.Close()); err != nil {
			t.Fatal(err)
		}
		files[i] = b.Bytes()
	}
	read := func(i, cut int) error {
		r, err := d.NewReader("zstd", bytes.NewReader(files[i][:len(files[i])-cut]))
		if err != nil {
			return err
		}
		got, err := io.ReadAll(r)
		if e := errors.Join(r.Close(), r.Close()); e != nil {
			return e
		}
		if want := bytes.Repeat(fmt.Append(nil, "contents of file ", i), 1000*(i+1)); err == nil && !bytes.Equal(got, want) {
			return fmt.Errorf("file %d is not what was written", i)
		}
		return err
	}
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			for i := range 64 {
				if err := read(i%8, 0); err != nil {
					t.Error(err)
				}
				if read(i%8, 3) == nil {
					t.Error("a file that is cut short was read")
				}
			}
		})
	}
	wg.Wait()
	if _, err := d.NewReader("nonsense", nil); err == nil {
		t.Error("an unknown method was accepted")
	}
}
