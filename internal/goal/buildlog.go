package goal

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"

	"github.com/dsnet/compress/bzip2"
	"golang.org/x/sys/unix"

	"gobuild/internal/logzip"
	"gobuild/internal/store/storepath"
	"gobuild/internal/worker"
	"gobuild/internal/worker/proc"
)

// logInMemory is how much of a compressed log is kept in memory. What is
// longer goes raw to an unnamed file, from which a child compresses it: bzip2
// manages some ten megabytes a second, and neither the loop nor the builder
// should wait for that.
const logInMemory = 64 << 10

// emptyBzip2 is the bzip2 stream of no bytes, the log of a silent builder.
var emptyBzip2 = []byte("BZh9\x17\x72\x45\x38\x50\x90\x00\x00\x00\x00")

// A buildLog is the file that keeps a builder's output (database spec,
// section 10). The zero value keeps nothing.
type buildLog struct {
	eng   *Engine
	path  string
	file  *os.File
	bzip  bool
	mem   []byte
	spool *os.File
	end   int // write end of the pipe whose closing tells the compressor that the log is whole
	err   error
}

// LogFile is where the log of a derivation is written, under dir.
func LogFile(dir string, drv storepath.Path, compressed bool) string {
	base := drv.Base()
	name := filepath.Join(dir, "drvs", base[:2], base[2:])
	if compressed {
		name += ".bz2"
	}
	return name
}

// openLog creates the log of a derivation, empty. Without logs it returns a
// log that keeps nothing.
func (e *Engine) openLog(drv storepath.Path) (*buildLog, error) {
	l := &buildLog{eng: e, end: -1, bzip: e.opt.CompressLog}
	if !e.opt.KeepLog {
		return l, nil
	}
	l.path = LogFile(e.opt.LogDir, drv, l.bzip)
	open := func() (*os.File, error) {
		return os.OpenFile(l.path, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o666)
	}
	var err error
	if l.file, err = open(); os.IsNotExist(err) {
		if err = os.MkdirAll(filepath.Dir(l.path), 0o755); err == nil {
			l.file, err = open()
		}
	}
	if err != nil {
		return nil, fmt.Errorf("creating log file '%s': %w", l.path, err)
	}
	return l, nil
}

// write appends output. Errors are kept for close: a builder is not stopped
// because its log cannot be kept.
func (l *buildLog) write(p []byte) {
	if l.file == nil || l.err != nil {
		return
	}
	switch {
	case !l.bzip:
		_, l.err = l.file.Write(p)
	case l.spool == nil && len(l.mem)+len(p) <= logInMemory:
		l.mem = append(l.mem, p...)
	default:
		if l.spool == nil {
			l.err = l.startSpool()
		}
		if l.err == nil {
			_, l.err = l.spool.Write(p)
		}
	}
}

// startSpool moves the log to an unnamed file and starts its compressor.
func (l *buildLog) startSpool() error {
	var err error
	if l.spool, err = openSpool(filepath.Dir(l.path)); err != nil {
		return err
	}
	if _, err := l.spool.Write(l.mem); err != nil {
		return err
	}
	l.mem = nil
	pipe, err := proc.NewPipe()
	if err != nil {
		return err
	}
	p, err := proc.Start(proc.Command{
		Path:  proc.Self,
		Argv:  []string{"gobuild", logzip.Child},
		Env:   []string{},
		Files: []int{pipe.R, int(l.file.Fd()), 2, int(l.spool.Fd())},
	})
	proc.Close(pipe.R)
	if err != nil {
		proc.Close(pipe.W)
		return fmt.Errorf("starting the log compressor: %w", err)
	}
	l.end = pipe.W
	_, err = l.eng.w.WatchFor(l, worker.Child{Proc: p, Linger: true})
	return err
}

// openSpool makes an unnamed file.
func openSpool(dir string) (*os.File, error) {
	fd, err := unix.Open(dir, unix.O_TMPFILE|unix.O_RDWR|unix.O_CLOEXEC, 0o600)
	if err == unix.EOPNOTSUPP || err == unix.EISDIR { // not every file system has such files
		return openNamedSpool(dir)
	}
	if err != nil {
		return nil, err
	}
	return os.NewFile(uintptr(fd), "log spool"), nil
}

// openNamedSpool makes one that has a name for a moment.
func openNamedSpool(dir string) (*os.File, error) {
	f, err := os.CreateTemp(dir, ".log-*")
	if err != nil {
		return nil, err
	}
	if err := os.Remove(f.Name()); err != nil {
		f.Close()
		return nil, err
	}
	return f, nil
}

// close finishes the log. A compressor that is still busy goes on; Run waits
// for it at its end.
func (l *buildLog) close() error {
	if l.file == nil {
		return nil
	}
	if l.err == nil && l.bzip && l.spool == nil {
		l.err = l.compressSmall()
	}
	proc.Close(l.end)
	if l.spool != nil {
		l.spool.Close()
	}
	if err := l.file.Close(); l.err == nil {
		l.err = err
	}
	l.file, l.mem = nil, nil
	if l.err != nil {
		return fmt.Errorf("writing log file '%s': %w", l.path, l.err)
	}
	return nil
}

func (l *buildLog) compressSmall() error {
	if len(l.mem) == 0 {
		_, err := l.file.Write(emptyBzip2)
		return err
	}
	var out bytes.Buffer
	z, err := l.eng.bzip2Writer(&out)
	if err != nil {
		return err
	}
	if _, err := z.Write(l.mem); err != nil {
		return err
	}
	if err := z.Close(); err != nil {
		return err
	}
	_, err = l.file.Write(out.Bytes())
	return err
}

// bzip2Writer hands out the engine's one compressor, whose tables are costly
// to make.
func (e *Engine) bzip2Writer(out *bytes.Buffer) (*bzip2.Writer, error) {
	if e.bzip == nil {
		z, err := bzip2.NewWriter(out, &bzip2.WriterConfig{Level: bzip2.BestCompression})
		e.bzip = z
		return z, err
	}
	return e.bzip, e.bzip.Reset(out)
}

// Output and TimedOut make a log the listener of its compressor, which says
// nothing and has no limits.
func (l *buildLog) Output(*worker.Handle, int, []byte) {}

// TimedOut is never called.
func (l *buildLog) TimedOut(*worker.Handle, worker.Limit) {}
