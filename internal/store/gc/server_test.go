package gc

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"runtime"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"gobuild/internal/store/storepath"
)

// collect starts a collection that is going to delete p.
func (f *fixture) collect(p storepath.Path) *collection {
	f.t.Helper()
	c, err := start(f.store, Options{}, []storepath.Path{p})
	f.must(err)
	return c
}

func (c *collection) isKept(p storepath.Path) bool {
	c.server.mu.Lock()
	defer c.server.mu.Unlock()
	_, kept := c.server.kept[p.HashPart()]
	return kept
}

func TestOwnClientDuringCollection(t *testing.T) {
	f := newFixture(t)
	a, other := f.addText("a", "a"), f.addText("other", "other")
	c := f.collect(a)
	if err := f.open().AddTempRoots(other); err != nil || c.isKept(other) {
		t.Errorf("a root of no interest: %v", err)
	}
	// the collection has looked at the roots already: only its server can know
	f.must(c.finder.find(), f.open().AddTempRoots(a))
	was, err := c.deletePath(a)
	var alive *AliveError
	if !errors.As(err, &alive) || alive.Root.From != fmt.Sprintf("{temp:%d}", os.Getpid()) || was || !f.valid(a) {
		t.Errorf("deleting what somebody keeps: %v, %v", was, err)
	}
	c.close()
}

func TestNixAsClientDuringCollection(t *testing.T) {
	f := newFixture(t)
	src := f.top + "/text"
	f.must(os.WriteFile(src, []byte("text"), 0o644))
	p := storepath.Path(f.lines(f.nix("nix-store", "--add", src))[0])

	c := f.collect(p)
	f.lines(f.nix("nix-store", "--add", src))
	var alive *AliveError
	if _, err := c.deletePath(p); !errors.As(err, &alive) || !f.valid(p) {
		t.Errorf("deleting what Nix keeps: %v", err)
	}
	c.close()

	// Nix asks for a path while it is being deleted: it must make it anew
	c = f.collect(p)
	if _, kept := c.server.begin(p.HashPart()); kept {
		t.Fatal("kept by nobody")
	}
	add := f.nix("nix-store", "--add", src)
	f.must(add.Start())
	for deadline := time.Now().Add(time.Minute); !c.isKept(p); runtime.Gosched() {
		if time.Now().After(deadline) {
			t.Fatal("Nix has not asked")
		}
	}
	f.must(f.store.Invalidate(p), c.discard(f.store.RealPath(p), p.Base()))
	c.server.end()
	f.must(add.Wait())
	c.close()
	if text, err := os.ReadFile(string(p)); string(text) != "text" || !f.valid(p) {
		t.Errorf("after Nix added it again: %q, %v", text, err)
	}
}

// Whoever adds a path gets it, while others try to delete it all the time.
func TestDeleteAgainstAdders(t *testing.T) {
	f := newFixture(t)
	src := f.top + "/text"
	f.must(os.WriteFile(src, []byte("text"), 0o644))
	p := storepath.Path(f.lines(f.nix("nix-store", "--add", src))[0])
	rounds := 10
	if testing.Short() {
		rounds = 2
	}
	for range rounds {
		add := f.nix("nix-store", "--add", src)
		f.must(add.Start())
		done := make(chan error, 1)
		go func() { done <- add.Wait() }()
		for running := true; running; {
			select {
			case err := <-done:
				f.must(err)
				running = false
			default:
			}
			var alive *AliveError
			if _, _, err := Delete(f.store, Options{}, p); err != nil && !errors.As(err, &alive) && !strings.Contains(err.Error(), "locked") {
				t.Fatal(err)
			}
		}
	}
	mine := f.open()
	for range rounds {
		f.wantGoneOrKept(p)
		got, err := mine.AddText("mine", []byte("mine"), nil)
		f.must(err)
		f.wantGoneOrKept(got)
		if !f.valid(got) {
			t.Fatal("a path was deleted although we keep it")
		}
	}
	f.lines(f.nix("nix-store", "--verify", "--check-contents"))
}

func (f *fixture) wantGoneOrKept(p storepath.Path) {
	f.t.Helper()
	var alive *AliveError
	if _, _, err := Delete(f.store, Options{}, p); err != nil && !errors.As(err, &alive) {
		f.t.Fatal(err)
	}
}

func TestDeleteWhatIsLocked(t *testing.T) {
	f := newFixture(t)
	a := f.addText("a", "a")
	holder, err := unix.Open(f.store.RealPath(a)+".lock", unix.O_CREAT|unix.O_RDWR, 0o600)
	f.must(err, unix.Flock(holder, unix.LOCK_EX))
	f.wantAlive(fmt.Sprintf("/proc/%d/fd/%d", os.Getpid(), holder), a, a)
	// nor may it be deleted if that was not seen in time
	c := f.collect(a)
	want := "cannot delete path '" + string(a) + "' because another process has locked it"
	if was, err := c.deletePath(a); err == nil || err.Error() != want || was || !f.valid(a) {
		t.Errorf("%v, %v", was, err)
	}
	c.close()
	f.must(unix.Close(holder))
	f.wantDeleted(a)
}

func (f *fixture) dial() net.Conn {
	f.t.Helper()
	// the name may be longer than a socket's address
	f.must(os.Chdir(f.top + "/var/gc-socket"))
	conn, err := net.Dial("unix", "socket")
	f.must(err, conn.SetDeadline(time.Now().Add(time.Minute)))
	return conn
}

func (f *fixture) ask(conn net.Conn, line string) {
	f.t.Helper()
	_, err := io.WriteString(conn, line+"\n")
	var answer [1]byte
	_, e := io.ReadFull(conn, answer[:])
	f.must(err, e)
	if answer[0] != '1' {
		f.t.Errorf("answer %q", answer)
	}
}

func TestServerAgainstRudeClients(t *testing.T) {
	here, err := os.Getwd()
	f := newFixture(t)
	f.must(err)
	defer os.Chdir(here)
	a := f.addText("a", "a")
	c := f.collect(a)
	defer c.close()
	if st, err := os.Stat(f.top + "/var/gc-socket/socket"); err != nil || st.Mode().Perm() != 0o666 {
		t.Errorf("the socket: %v, %v", st, err)
	}
	polite := f.dial()
	defer polite.Close()
	f.ask(polite, "garbage")
	f.ask(polite, "")

	endless := f.dial()
	defer endless.Close()
	_, _ = endless.Write(bytes.Repeat([]byte("x"), 2*maxLine))
	if n, err := endless.Read(make([]byte, 1)); err == nil {
		t.Errorf("an endless line got %d bytes of answer", n)
	}
	deaf := f.dial() // asks for ever and never reads an answer
	defer deaf.Close()
	for err := error(nil); err == nil; {
		_, err = deaf.Write(bytes.Repeat([]byte("\n"), maxLine))
	}
	// clients beyond the limit have to wait for others to leave
	var crowd []net.Conn
	for range maxClients {
		conn := f.dial()
		defer conn.Close()
		crowd = append(crowd, conn)
		if len(crowd) < maxClients {
			f.ask(conn, "x")
		}
	}
	last := crowd[maxClients-1]
	_, err = io.WriteString(last, string(a)+"\n")
	f.must(err)
	f.ask(polite, "still there")
	f.must(crowd[0].Close())
	if _, err := io.ReadFull(last, make([]byte, 1)); err != nil || !c.isKept(a) {
		t.Errorf("the last client: %v", err)
	}
}

// A client that waits for a deletion gets its answer afterwards, and those to
// what it sent behind.
func TestServerAnswersInOrder(t *testing.T) {
	here, err := os.Getwd()
	f := newFixture(t)
	f.must(err)
	defer os.Chdir(here)
	a := f.addText("a", "a")
	c := f.collect(a)
	defer c.close()
	c.server.begin(a.HashPart())
	conn, other := f.dial(), f.dial()
	defer conn.Close()
	defer other.Close()
	_, err = io.WriteString(conn, string(a)+"\nx\ny\n")
	f.must(err)
	for !c.isKept(a) {
		f.ask(other, "z") // is answered while the first one waits
	}
	c.server.end()
	if _, err := io.ReadFull(conn, make([]byte, 3)); err != nil {
		t.Errorf("answers after the deletion: %v", err)
	}
	if _, kept := c.server.begin(a.HashPart()); !kept {
		t.Error("what was asked for during its deletion could be deleted again")
	}
}

func FuzzLines(f *testing.F) {
	p := "/s/0123456789abcdfghijklmnpqrsvwxyz-x"
	f.Add([]byte(p + "\n"))
	f.Add([]byte("\n\n" + p + "\nrest"))
	f.Fuzz(func(t *testing.T, text []byte) {
		if len(text) > maxLine {
			return
		}
		pair, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_NONBLOCK, 0)
		if err != nil {
			t.Fatal(err)
		}
		defer unix.Close(pair[0])
		defer unix.Close(pair[1])
		part := p[len("/s/"):][:storepath.HashLen]
		v := &server{dir: "/s", wanted: map[string]bool{part: true}, kept: map[string]int32{}}
		c := &client{fd: pair[0], pid: 7}
		c.held = copy(c.buf[:], text)
		lines := bytes.Count(text, []byte("\n"))
		if stays := v.lines(c); !stays && lines < 100 && bytes.IndexByte(text, '\n') >= 0 {
			t.Error("hung up on")
		} else if !stays {
			return
		}
		got := 0
		for answers := make([]byte, 2*maxLine); ; {
			n, err := unix.Read(pair[1], answers)
			if n <= 0 || err != nil {
				break
			}
			got += n
		}
		if got != lines {
			t.Errorf("%d answers to %d lines", got, lines)
		}
		if _, kept := v.kept[part]; bytes.Contains(append([]byte("\n"), text...), []byte("\n"+p+"\n")) && !kept {
			t.Error("a path is not kept")
		}
	})
}
