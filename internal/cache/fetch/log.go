package fetch

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"

	"gobuild/internal/cache/compress"
	"gobuild/internal/cache/wire"
	"gobuild/internal/store/storepath"
)

// maxLog bounds a log, in bytes: nobody has promised how long it is.
const maxLog = 1 << 30

// log puts the build log of a derivation, as the builder wrote it, at a
// request's Dest. Nothing vouches for it; it is for reading.
func (s *server) log(ctx context.Context, j *job, drv storepath.Path) (*wire.Reply, error) {
	body, uri, err := s.set.OpenLog(ctx, drv)
	if err != nil {
		return nil, fmt.Errorf("fetching the log of '%s': %w", drv, err)
	}
	defer body.Close()
	m := newMeter(ctx, s.out, j.ID)
	m.from, m.most = body, longest(maxLog)
	if err := s.unpackLog(m, body.Encoding, j.Dest); err != nil {
		if e := os.Remove(j.Dest); e != nil && !errors.Is(e, os.ErrNotExist) {
			err = fmt.Errorf("%w; and %w", err, e)
		}
		return nil, fmt.Errorf("cache '%s': fetching the log of '%s': %w", uri, drv, err)
	}
	return &wire.Reply{Kind: wire.Fetched, Downloaded: m.taken.Load(), Unpacked: m.unpacked.Load()}, nil
}

// unpackLog undoes the encoding that the server put around the file, and the
// compression of the file itself, which logs have without saying so.
func (s *server) unpackLog(m *meter, encoding, dest string) error {
	if encoding == "" {
		encoding = "none"
	}
	outer, err := compress.NewReader(encoding, m)
	if err != nil {
		return m.explain(err)
	}
	defer outer.Close()
	file := bufio.NewReader(outer)
	start, err := file.Peek(longestMagic)
	if err != nil && err != io.EOF {
		return m.explain(err)
	}
	inner, err := compress.NewReader(compressionOf(start), file)
	if err != nil {
		return m.explain(err)
	}
	defer inner.Close()
	return s.copyLog(m, inner, dest)
}

// magics are how files compressed by a method begin.
var magics = []struct{ begins, method string }{
	{"BZh", "bzip2"}, {"\xfd7zXZ\x00", "xz"}, {"\x28\xb5\x2f\xfd", "zstd"}, {"\x1f\x8b", "gzip"},
}

const longestMagic = 6

func compressionOf(start []byte) string {
	for _, m := range magics {
		if bytes.HasPrefix(start, []byte(m.begins)) {
			return m.method
		}
	}
	return "none"
}

func (s *server) copyLog(m *meter, from io.Reader, dest string) error {
	to, err := os.OpenFile(dest, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o644)
	if err != nil {
		return err
	}
	b := s.blocks.Get().(*block)
	defer s.blocks.Put(b)
	for err == nil {
		var n int
		n, err = readFull(from, b.buf[:])
		if err != nil && err != io.EOF {
			err = m.explain(err)
		}
		if m.unpacked.Add(uint64(n)) > maxLog {
			err = fmt.Errorf("it is longer than %d bytes", maxLog)
		} else if _, e := to.Write(b.buf[:n]); e != nil {
			err = e
		}
	}
	if err == io.EOF {
		err = nil
	}
	return errors.Join(err, to.Close())
}
