package goal

import (
	"fmt"
	"io"
	"os"

	"github.com/dsnet/compress/bzip2"
	"golang.org/x/sys/unix"
)

// CompressLogChild is the name of the child job that compresses long logs.
const CompressLogChild = "__compress-log"

// CompressLogMain is that job. Descriptor 3 is the raw log, which grows until
// the end of file on descriptor 0; the compressed stream goes to 1. It returns
// the exit code.
func CompressLogMain() int {
	raw, out := os.NewFile(3, "log spool"), os.NewFile(1, "log")
	if err := compressLog(raw, out, waitForEnd); err != nil {
		fmt.Fprintf(os.Stderr, "error: compressing a build log: %v\n", err)
		return 1
	}
	return 0
}

// compressLog compresses a file that still grows. more sleeps a little and
// tells whether the file is complete now.
func compressLog(raw io.ReaderAt, out io.Writer, more func() (complete bool)) error {
	z, err := bzip2.NewWriter(out, &bzip2.WriterConfig{Level: bzip2.BestCompression})
	if err != nil {
		return err
	}
	buf := make([]byte, 256<<10)
	complete := false
	for off := int64(0); ; {
		n, err := raw.ReadAt(buf, off)
		if _, err := z.Write(buf[:n]); err != nil {
			return err
		}
		off += int64(n)
		switch {
		case err == nil, n > 0:
		case err != io.EOF:
			return err
		case complete:
			return z.Close()
		default:
			complete = more()
		}
	}
}

// waitForEnd waits up to a tenth of a second for the end of file on
// descriptor 0.
func waitForEnd() bool {
	fds := []unix.PollFd{{Fd: 0, Events: unix.POLLIN}}
	n, err := unix.Poll(fds, 100)
	return err == nil && n > 0
}
