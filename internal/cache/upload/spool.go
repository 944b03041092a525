package upload

import (
	"bytes"
	"fmt"
	"io"
	"os"
)

// inMemory is how many bytes of an archive wait in memory for their hash to be
// known; longer ones wait in a file.
const inMemory = 1 << 20

// A spool keeps what is written to it until its name is known.
type spool struct {
	buf  bytes.Buffer
	file *os.File // nil as long as all is in memory
	size int64
}

// Write appends.
func (s *spool) Write(p []byte) (int, error) {
	s.size += int64(len(p))
	if s.file == nil {
		if s.buf.Len()+len(p) <= inMemory {
			return s.buf.Write(p)
		}
		if err := s.spill(); err != nil {
			return 0, err
		}
	}
	return s.file.Write(p)
}

// spill goes on in a file that nobody else can find.
func (s *spool) spill() error {
	f, err := os.CreateTemp("", "gobuild-upload-")
	if err != nil {
		return fmt.Errorf("making a temporary file for an archive: %w", err)
	}
	s.file = f
	if err := os.Remove(f.Name()); err != nil {
		return err
	}
	_, err = f.Write(s.buf.Bytes())
	s.buf = bytes.Buffer{}
	return err
}

// reader gives back all that was written, as often as it is called.
func (s *spool) reader() io.ReadSeeker {
	if s.file == nil {
		return bytes.NewReader(s.buf.Bytes())
	}
	return io.NewSectionReader(s.file, 0, s.size)
}

// close gives the memory or the file back.
func (s *spool) close() error {
	s.buf = bytes.Buffer{}
	if s.file == nil {
		return nil
	}
	return s.file.Close()
}
