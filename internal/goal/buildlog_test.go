package goal

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"gobuild/internal/store/storepath"
)

const logged = storepath.Path("/s/00000000000000000000000000000000-x.drv")

func TestLogFile(t *testing.T) {
	for compressed, want := range map[bool]string{
		false: "/log/drvs/00/000000000000000000000000000000-x.drv",
		true:  "/log/drvs/00/000000000000000000000000000000-x.drv.bz2",
	} {
		if got := LogFile("/log", logged, compressed); got != want {
			t.Errorf("got '%s', want '%s'", got, want)
		}
	}
}

// lines is a text of many different lines.
func lines(n int) []byte {
	var b bytes.Buffer
	for i := range n {
		fmt.Fprintf(&b, "line %d of the log, %x\n", i, i*i*7919)
	}
	return b.Bytes()
}

// TestBuildLogs writes logs of all sizes in pieces, over longer ones, and
// reads them back.
func TestBuildLogs(t *testing.T) {
	l := newLab(t)
	e := l.engine()
	for _, compressed := range []bool{true, false} {
		e.opt.CompressLog, l.opt.CompressLog = compressed, compressed
		for _, text := range [][]byte{lines(60_000), lines(2000), lines(1), nil} {
			for _, piece := range []int{1 << 20, 5000} {
				log, err := e.openLog(logged)
				if err != nil {
					t.Fatal(err)
				}
				for rest := text; len(rest) > 0; {
					n := min(piece, len(rest))
					log.write(rest[:n])
					rest = rest[n:]
				}
				if err := log.close(); err != nil {
					t.Error(err)
				}
				if err := log.close(); err != nil {
					t.Errorf("closing again: %v", err)
				}
				if err := e.w.Run(); err != nil { // waits for the compressor
					t.Fatal(err)
				}
				if got := l.log(logged); got != string(text) {
					t.Errorf("compressed %v: %d bytes in pieces of %d became %d", compressed, len(text), piece, len(got))
				}
			}
		}
	}
	l.nothingRuns()
	if left, _ := filepath.Glob(l.opt.LogDir + "/drvs/*/.*"); len(left) > 0 {
		t.Errorf("left behind: %v", left)
	}
}

func TestNoBuildLog(t *testing.T) {
	l := newLab(t)
	l.opt.KeepLog = false
	log, err := l.engine().openLog(logged)
	if err != nil || log.path != "" {
		t.Fatalf("a log at '%s', %v", log.path, err)
	}
	log.write(lines(10_000))
	if err := log.close(); err != nil {
		t.Error(err)
	}
	if _, err := os.Stat(l.opt.LogDir + "/drvs/00"); err == nil {
		t.Error("there are logs")
	}
}

// TestBuildLogThatCannotBe wants errors that name the file, and builders that
// go on although their log is full.
func TestBuildLogThatCannotBe(t *testing.T) {
	l := newLab(t)
	l.opt.LogDir = l.dir + "/file"
	if err := os.WriteFile(l.opt.LogDir, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	e := l.engine()
	want := "creating log file '" + LogFile(l.opt.LogDir, logged, true) + "': "
	if _, err := e.openLog(logged); err == nil || !strings.HasPrefix(err.Error(), want) {
		t.Errorf("a log in a file: %v, want %s", err, want)
	}
	results, _ := l.fails(l.drv("x", "echo > $out"))
	l.wantStatuses(results, MiscFailure)
	l.wantClean()

	for _, compressed := range []bool{true, false} {
		full, err := os.OpenFile("/dev/full", os.O_WRONLY, 0)
		if err != nil {
			t.Skipf("skipped: %v", err)
		}
		log := &buildLog{eng: e, path: "/the/log", file: full, bzip: compressed, end: -1}
		log.write([]byte("text"))
		log.write([]byte("more"))
		if err := log.close(); err == nil || !strings.HasPrefix(err.Error(), "writing log file '/the/log': ") {
			t.Errorf("compressed %v: a full disk gives %v", compressed, err)
		}
	}
	null, err := os.OpenFile(os.DevNull, os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	log := &buildLog{eng: e, path: l.dir + "/gone/log", file: null, bzip: true, end: -1}
	log.write(lines(10_000))
	if err := log.close(); err == nil || !strings.HasPrefix(err.Error(), "writing log file '"+log.path+"': ") {
		t.Errorf("no place for a spool gives %v", err)
	}
}

// TestNamedSpool is for file systems that have no unnamed files.
func TestNamedSpool(t *testing.T) {
	dir := t.TempDir()
	f, err := openNamedSpool(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if _, err := f.WriteAt([]byte("text"), 0); err != nil {
		t.Error(err)
	}
	if left, _ := os.ReadDir(dir); len(left) > 0 {
		t.Errorf("it has a name: %v", left)
	}
	if _, err := openNamedSpool(dir + "/none"); err == nil {
		t.Error("a spool in no directory")
	}
}
