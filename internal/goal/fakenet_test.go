package goal

import (
	"bufio"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"gobuild/internal/cache/wire"
	"gobuild/internal/store/digest"
	"gobuild/internal/store/nar"
	"gobuild/internal/store/storepath"
)

// fakeNetChild is the name under which the test program is a network program
// that does what a script says.
const fakeNetChild = "substitute"

// A fakeCache is one of the caches that the fake network program knows, by
// store path.
type fakeCache map[string]fakeSubstitute

// A fakeSubstitute is a file with some contents, or trouble.
type fakeSubstitute struct {
	Contents   string
	References []string
	Unknown    string // the cache cannot say whether it has the path
	Fails      string // fetching ends with this error
	Gone, Down bool   // and this is why
	Dies       string // the program ends when asked: "query" or "fetch"
	Hangs      bool   // fetching never ends
}

// fakeNetMain is that program. The first substituter is the file with its
// caches; what it was asked is appended to a file beside it.
func fakeNetMain() int {
	in := bufio.NewReader(os.Stdin)
	var config wire.Config
	line, err := in.ReadBytes('\n')
	if err != nil || json.Unmarshal(line, &config) != nil || config.Version != wire.Version {
		return 7
	}
	text, err := os.ReadFile(config.Substituters[0])
	var caches []fakeCache
	if err != nil || json.Unmarshal(text, &caches) != nil {
		return 8
	}
	asked, err := os.OpenFile(config.Substituters[0]+".asked", os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o666)
	if err != nil {
		return 9
	}
	for {
		line, err := in.ReadBytes('\n')
		if err != nil {
			return 0
		}
		var r wire.Request
		if json.Unmarshal(line, &r) != nil {
			return 10
		}
		if r.Path != "" {
			fmt.Fprintf(asked, "%s %s\n", r.Op, storepath.Path(r.Path).Name())
		}
		reply := answerFake(caches, &r)
		if reply == nil {
			continue
		}
		out, err := wire.Encode(reply)
		if err != nil {
			return 11
		}
		if _, err := os.Stdout.Write(out); err != nil {
			return 12
		}
	}
}

func answerFake(caches []fakeCache, r *wire.Request) *wire.Reply {
	switch r.Op {
	case wire.Info:
		unknown := ""
		for i, c := range caches[r.After:] {
			s, ok := c[r.Path]
			switch {
			case !ok:
				continue
			case s.Unknown != "":
				unknown = s.Unknown
				continue
			case s.Dies == "query":
				_ = unix.Kill(os.Getpid(), unix.SIGKILL)
			}
			archive := fakeArchive(s.Contents)
			return &wire.Reply{ID: r.ID, Kind: wire.Found, Source: r.After + i, URI: fmt.Sprintf("test://%d", r.After+i), URL: fmt.Sprintf("test://%d/nar/x", r.After+i), Info: &wire.Substitute{
				NarHash: digest.Of(digest.SHA256, archive).String(), NarSize: uint64(len(archive)), DownloadSize: 10, References: s.References,
			}}
		}
		return &wire.Reply{ID: r.ID, Kind: wire.Absent, Error: unknown}
	case wire.Fetch:
		return fetchFake(caches[r.Source][r.Path], r)
	case wire.Cancel:
		return &wire.Reply{ID: r.ID, Kind: wire.Failed, Error: "cancelled"}
	}
	return nil
}

func fetchFake(s fakeSubstitute, r *wire.Request) *wire.Reply {
	switch {
	case s.Hangs:
		return &wire.Reply{ID: r.ID, Kind: wire.Progress, Unpacked: 1}
	case s.Dies == "fetch":
		_ = os.WriteFile(r.Dest, []byte("half"), 0o444)
		_ = unix.Kill(os.Getpid(), unix.SIGKILL)
	case s.Fails != "":
		return &wire.Reply{ID: r.ID, Kind: wire.Failed, Error: s.Fails, Gone: s.Gone, Down: s.Down}
	}
	if err := os.WriteFile(r.Dest, []byte(s.Contents), 0o444); err != nil {
		return &wire.Reply{ID: r.ID, Kind: wire.Failed, Error: err.Error()}
	}
	t := []unix.Timeval{{Sec: 1}, {Sec: 1}}
	if err := unix.Utimes(r.Dest, t); err != nil {
		return &wire.Reply{ID: r.ID, Kind: wire.Failed, Error: err.Error()}
	}
	return &wire.Reply{ID: r.ID, Kind: wire.Fetched, Downloaded: 10, Unpacked: uint64(len(s.Contents))}
}

// fakeArchive is the archive of a file with some contents.
func fakeArchive(contents string) []byte {
	dir, err := os.MkdirTemp("", "archive-")
	if err != nil {
		panic(err)
	}
	defer os.RemoveAll(dir)
	var b strings.Builder
	if err := os.WriteFile(dir+"/x", []byte(contents), 0o444); err != nil {
		panic(err)
	}
	if err := nar.Dump(&b, dir+"/x"); err != nil {
		panic(err)
	}
	return []byte(b.String())
}

// caches gives the lab's engines caches that have what the maps say.
func (l *lab) caches(caches ...fakeCache) {
	l.Helper()
	text, err := json.Marshal(caches)
	if err == nil {
		err = os.WriteFile(l.dir+"/caches", text, 0o666)
	}
	if err != nil {
		l.Fatal(err)
	}
	l.opt.Substitute, l.opt.MaxSubst = true, 4
	self, err := os.Executable()
	if err != nil {
		l.Fatal(err)
	}
	l.sources = func() []Source {
		config := wire.Config{StoreDir: string(l.store.Dir()), Substituters: []string{l.dir + "/caches"}}
		return []Source{NewCaches(config, func() (string, error) { return self, nil }, nil, "")}
	}
}

// asked is what the caches were asked, sorted.
func (l *lab) asked() []string {
	l.Helper()
	text, err := os.ReadFile(l.dir + "/caches.asked")
	if err != nil && !os.IsNotExist(err) {
		l.Fatal(err)
	}
	_ = os.Remove(l.dir + "/caches.asked")
	return slices.Sorted(strings.SplitSeq(strings.TrimSuffix(string(text), "\n"), "\n"))
}

// path is some store path with a name.
func (l *lab) path(name string) storepath.Path {
	l.Helper()
	hash := digest.EncodeNix32(digest.Of(digest.SHA256, []byte(name)).Bytes()[:20])
	p, err := l.store.Dir().FromBase(hash + "-" + name)
	if err != nil {
		l.Fatal(err)
	}
	return p
}

// unfetched looks for what a run with caches must not leave behind.
func (l *lab) unfetched() {
	l.Helper()
	l.wantClean()
	if left, _ := filepath.Glob(l.store.RealDir() + "/*-tmp"); len(left) > 0 {
		l.Errorf("left in the store: %v", left)
	}
}
