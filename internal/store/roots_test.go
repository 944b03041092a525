package store

import (
	"bufio"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"gobuild/internal/store/digest"
	"gobuild/internal/store/pathlock"
	"gobuild/internal/store/storepath"
)

func rootsIn(t *testing.T, file string) []string {
	t.Helper()
	text, err := os.ReadFile(file)
	must(t, err)
	if len(text) == 0 {
		return nil
	}
	if text[len(text)-1] != 0 {
		t.Errorf("'%s' does not end with NUL: %q", file, text)
	}
	return strings.Split(string(text[:len(text)-1]), "\x00")
}

func TestTempRoots(t *testing.T) {
	cfg := testConfig(t)
	s := openStore(t, cfg)
	a, b := fakePath(s.dir, 1, "a"), fakePath(s.dir, 2, "b")
	must(t, s.AddTempRoots(a, b, a))
	must(t, s.AddTempRoots(b))
	file := s.state("temproots/" + strconv.Itoa(os.Getpid()))
	if got := rootsIn(t, file); !slices.Equal(got, []string{string(a), string(b)}) {
		t.Errorf("roots %q", got)
	}
	if _, ok, err := pathlock.LockFile(file, pathlock.Shared, pathlock.Try); ok || err != nil {
		t.Errorf("the file is not locked: %v, %v", ok, err)
	}
	// a second store of this process must not take the first one's file away
	second := openStore(t, cfg)
	must(t, second.AddTempRoots(b))
	if got := rootsIn(t, file+"-2"); !slices.Equal(got, []string{string(b)}) {
		t.Errorf("second store's roots %q", got)
	}
	request, err := s.NewTempRoots("123-7")
	must(t, err)
	must(t, request.Add(a))
	must(t, request.Close())
	must(t, s.Close())
	for _, gone := range []string{file, s.state("temproots/123-7")} {
		if _, err := os.Stat(gone); !os.IsNotExist(err) {
			t.Errorf("'%s' was left behind: %v", gone, err)
		}
	}
	if _, err := second.NewTempRoots("x1"); err == nil {
		t.Error("a name that stops other collectors was accepted")
	}
}

func TestTempRootsOfTheDead(t *testing.T) {
	s := newStore(t)
	file := s.state("temproots/77")
	must(t, os.WriteFile(file, []byte("/nix/store/of-a-dead-process\x00"), 0o600))
	roots, err := s.NewTempRoots("77")
	must(t, err)
	must(t, roots.Add(fakePath(s.dir, 1, "a")))
	if got := rootsIn(t, file); len(got) != 1 || got[0] != string(fakePath(s.dir, 1, "a")) {
		t.Errorf("roots %q", got)
	}
	must(t, roots.Close())
}

// While a collection runs, it must be told, and it may come and go meanwhile.
func TestTempRootsDuringCollection(t *testing.T) {
	cfg := testConfig(t)
	var lock *pathlock.File
	var heard []string
	served := make(chan struct{})
	naps := 0
	var s *Store
	cfg.Sleep = func(time.Duration) {
		switch naps++; naps {
		case 1: // it begins to listen only now, and is killed at once
			must(t, os.Mkdir(s.state("gc-socket"), 0o755))
			l, err := net.Listen("unix", s.state("gc-socket/socket"))
			must(t, err)
			l.(*net.UnixListener).SetUnlinkOnClose(false)
			must(t, l.Close())
		case 2: // another one
			must(t, os.Remove(s.state("gc-socket/socket")))
			l, err := net.Listen("unix", s.state("gc-socket/socket"))
			must(t, err)
			go func() {
				defer close(served)
				heard = collect(l)
			}()
		}
	}
	s = openStore(t, cfg)
	var err error
	lock, _, err = pathlock.LockFile(s.state("gc.lock"), pathlock.Exclusive, pathlock.Try)
	must(t, err)
	defer lock.Close()
	a, b := fakePath(s.dir, 1, "a"), fakePath(s.dir, 2, "b")
	must(t, s.AddTempRoots(a, b))
	<-served
	if naps != 2 || !slices.Equal(heard, []string{string(a), string(b)}) {
		t.Errorf("slept %d times, the collector heard %q", naps, heard)
	}
	if got := rootsIn(t, s.state("temproots/"+strconv.Itoa(os.Getpid()))); !slices.Equal(got, heard) {
		t.Errorf("roots %q", got)
	}
}

// collect answers one client as a collector does.
func collect(l net.Listener) (heard []string) {
	c, err := l.Accept()
	if err != nil {
		return []string{err.Error()}
	}
	defer l.Close()
	defer c.Close()
	lines := bufio.NewScanner(c)
	for lines.Scan() {
		heard = append(heard, lines.Text())
		if _, err := c.Write([]byte("1")); err != nil {
			return append(heard, err.Error())
		}
	}
	return heard
}

func TestAddRoot(t *testing.T) {
	s := newStore(t)
	a, b := fakePath(s.dir, 1, "a"), fakePath(s.dir, 2, "b")
	link := filepath.Join(t.TempDir(), "deep", "result")
	for _, p := range []storepath.Path{a, b} {
		must(t, s.AddRoot(link, p, Indirect))
		if got, err := os.Readlink(link); got != string(p) {
			t.Errorf("link leads to %q, %v", got, err)
		}
	}
	auto := s.state("gcroots/auto/" + digest.Of(digest.SHA1, []byte(link)).Nix32())
	if got, err := os.Readlink(auto); got != link {
		t.Errorf("indirect root leads to %q, %v", got, err)
	}
	direct := s.state("gcroots/mine")
	must(t, s.AddRoot(direct, a, Direct))
	if got, err := os.Readlink(direct); got != string(a) {
		t.Errorf("direct root leads to %q, %v", got, err)
	}
	file := filepath.Join(t.TempDir(), "file")
	must(t, os.WriteFile(file, []byte("precious"), 0o644))
	foreign := filepath.Join(t.TempDir(), "foreign")
	must(t, os.Symlink("/etc", foreign))
	for _, tc := range []struct {
		link string
		kind RootKind
		want string
	}{
		{file, Indirect, "cannot create symlink '" + file + "'; already exists"},
		{foreign, Indirect, "cannot create symlink '" + foreign + "'; already exists"},
		{string(s.dir) + "/result", Indirect, "in the Nix store is forbidden"},
		{link, Direct, fmt.Sprintf("path '%s' is not a valid garbage collector root; it's not in the directory '%s'", link, s.state("gcroots"))},
	} {
		if err := s.AddRoot(tc.link, a, tc.kind); err == nil || !strings.Contains(err.Error(), tc.want) {
			t.Errorf("root at '%s': %v", tc.link, err)
		}
	}
}

func TestLogPaths(t *testing.T) {
	s := newStore(t)
	base := "0c5d538000000000000000000000000x-hello.drv"
	p, err := s.dir.FromBase(base)
	must(t, err)
	log := s.cfg.LogDir
	want := []string{log + "/drvs/0c/" + base[2:], log + "/drvs/0c/" + base[2:] + ".bz2", log + "/drvs/" + base, log + "/drvs/" + base + ".bz2"}
	if got := s.LogPaths(p); !slices.Equal(got, want) {
		t.Errorf("%q", got)
	}
}

func TestRegistrationText(t *testing.T) {
	s := newStore(t)
	a, b := fakePath(s.dir, 1, "a"), fakePath(s.dir, 2, "b")
	info := fakeInfo(b, a, b)
	info.Deriver = fakePath(s.dir, 3, "b.drv")
	mustRegister(t, s, info, fakeInfo(a))
	got, err := s.RegistrationText([]storepath.Path{b, a}, RegistrationFormat{})
	if want := fmt.Sprintf("%s\n\n0\n%s\n\n2\n%s\n%s\n", a, b, a, b); err != nil || string(got) != want {
		t.Errorf("plain: %q, %v; want %q", got, err, want)
	}
	got, err = s.RegistrationText([]storepath.Path{b}, RegistrationFormat{Hash: true, Deriver: true})
	if want := fmt.Sprintf("%s\n%s\n112\n%s\n2\n%s\n%s\n", b, info.NarHash.Hex(), info.Deriver, a, b); err != nil || string(got) != want {
		t.Errorf("full: %q, %v; want %q", got, err, want)
	}
}
