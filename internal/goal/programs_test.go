package goal

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"gobuild/internal/hook"
	"gobuild/internal/store/digest"
	"gobuild/internal/store/storepath"
	"gobuild/internal/worker"
)

// fetcher is a substituter program. What it knows of a path is in a file, and
// what it does to fetch it in another.
const fetcher = `
case $1 in
--query)
	echo $$ >> $LAB/processes
	while read verb paths; do
		echo "$verb $paths" >> $LAB/asked
		for p in $paths; do
			if [ -e $DIR/$(basename $p).info ]; then cat $DIR/$(basename $p).info; fi
		done
		echo
	done;;
--substitute)
	if [ -e $DIR/$(basename $2).hash ]; then cat $DIR/$(basename $2).hash; else echo; fi
	dest=$3
	. $DIR/$(basename $2).fetch;;
esac
`

// program gives the lab's engines one more substituter program, and returns the
// directory from which it lives.
func (l *lab) program(name, script string) string {
	l.Helper()
	dir := filepath.Join(l.dir, name)
	if err := os.Mkdir(dir, 0o755); err != nil {
		l.Fatal(err)
	}
	l.write(dir+"/program", "#!/bin/sh\nLAB='"+l.dir+"'\nDIR='"+dir+"'\n"+script)
	if err := os.Chmod(dir+"/program", 0o755); err != nil {
		l.Fatal(err)
	}
	l.opt.Substitute, l.opt.MaxSubst = true, 4
	before := l.sources
	l.sources = func() []Source {
		var all []Source
		if before != nil {
			all = before()
		}
		return append(all, NewSubstituterProgram(hook.Substituter{Path: dir + "/program", Env: os.Environ()}))
	}
	return dir
}

// offers has a program know a path and fetch it by a script.
func (l *lab) offers(dir string, p storepath.Path, script string, references ...storepath.Path) {
	l.Helper()
	info := fmt.Sprintf("%s\n\n%d\n", p, len(references))
	for _, r := range references {
		info += string(r) + "\n"
	}
	l.write(dir+"/"+p.Base()+".info", info+"100\n0\n")
	l.write(dir+"/"+p.Base()+".fetch", script+"\n")
}

// TestProgramFetches has a closure fetched, and asks one process about all.
func TestProgramFetches(t *testing.T) {
	l := newLab(t)
	dir := l.program("first", fetcher)
	a, b, c := l.path("a"), l.path("b"), l.path("c")
	l.offers(dir, a, "echo fetching >&2; mkdir $dest; echo A > $dest/file; chmod 777 $dest/file", b, a, c)
	l.offers(dir, b, "echo B > $dest", c)
	l.offers(dir, c, "echo C > $dest")
	l.opt.BuildTrace = true
	results, err := l.engine().Ensure([]storepath.Path{a})
	if err != nil {
		t.Fatalf("%v\n%s", err, l.sink)
	}
	l.wantStatuses(results, Substituted)
	info, err := l.store.Info(a)
	if err != nil {
		t.Fatal(err)
	}
	if want := slices.Sorted(slices.Values([]storepath.Path{a, b, c})); !slices.Equal(info.References, want) || info.Ultimate || info.Deriver != "" {
		t.Errorf("registered %+v", info)
	}
	if st, err := os.Stat(l.store.RealPath(a) + "/file"); err != nil || st.Mode() != 0o555 || st.ModTime().Unix() != 1 {
		t.Errorf("not canonical: %v, %v", st, err)
	}
	l.wantGood(a, b, c)
	if got := l.noted("processes"); countLines(got) != 1 {
		t.Errorf("asked processes %s", got)
	}
	l.wantEvents(fmt.Sprintf("message 0 @ substituter-started %s %s/program", a, dir), "message 3 fetching",
		fmt.Sprintf("message 0 @ substituter-succeeded %s", a))
	l.wantNoProcess(t)
	l.unfetched()
}

// TestProgramInPlans asks about many paths at once, and prefers fetching to
// building.
func TestProgramInPlans(t *testing.T) {
	l := newLab(t)
	dir := l.program("first", fetcher)
	var all []storepath.Path
	for i := range 20 {
		d := l.drv(fmt.Sprint(i), "echo built > $out")
		if i > 0 {
			l.offers(dir, l.out(d, "out"), "echo fetched > $dest")
		}
		all = append(all, d)
	}
	e := l.engine()
	plan, err := e.Plan(targets(all...), ToFollow)
	if err != nil {
		t.Fatal(err)
	}
	if len(plan.Build) != 1 || len(plan.Fetch) != 19 {
		t.Errorf("planned %+v", plan)
	}
	results, err := e.Realise(targets(all...))
	if err != nil {
		t.Fatalf("%v\n%s", err, l.sink)
	}
	for i, r := range results {
		want := Substituted
		if i == 0 {
			want = Built
		}
		if r.Status != want {
			t.Errorf("%d: %s", i, r.Status)
		}
	}
	if got := l.noted("asked"); countLines(got) > 3 {
		t.Errorf("asked\n%s", got)
	}
	l.unfetched()
}

// TestProgramFails looks at what can go wrong with a program, and has the next
// one do better.
func TestProgramFails(t *testing.T) {
	good := digest.Of(digest.SHA256, []byte("x")) // of no archive
	for name, c := range map[string]struct{ script, fetch, hash, says string }{
		"status":       {fetcher, "exit 3", "", "fetching path 'P' failed with exit code 3"},
		"killed":       {fetcher, "echo half > $dest; kill -9 $$", "", "fetching path 'P' failed due to signal 9 (Killed)"},
		"nothing":      {fetcher, ":", "", "substitute did not produce path 'P'"},
		"mismatch":     {fetcher, "echo x > $dest", good.String(), "hash mismatch in downloaded path 'P': expected " + good.String() + ", got sha256:"},
		"bad hash":     {fetcher, "echo x > $dest", "nonsense", "fetching path 'P': bad hash from substituter: nonsense"},
		"bad tree":     {fetcher, "mkfifo $dest", "", "fetching path 'P': "},
		"silent":       {fetcher, "sleep 1000", "", "fetching path 'P': timed out after 1 seconds of silence"},
		"dies asked":   {"read question; echo complaint >&2; exit 1", "", "", "looking for a substitute of 'P': substituter 'PROGRAM' failed: complaint"},
		"dies mute":    {"read question; exit 1", "", "", "looking for a substitute of 'P': substituter 'PROGRAM' failed: failed with exit code 1"},
		"nonsense":     {"while read question; do echo nonsense; done", "", "", "looking for a substitute of 'P': substituter 'PROGRAM': got unexpected path 'nonsense' from substituter"},
		"cannot start": {"", "", "", "looking for a substitute of 'P': starting the substituter 'PROGRAM': "},
	} {
		t.Run(name, func(t *testing.T) {
			l := newLab(t)
			p := l.path("p")
			l.opt.Silence = time.Second
			dir := l.program("first", c.script)
			l.offers(dir, p, c.fetch)
			if c.hash != "" {
				l.write(dir+"/"+p.Base()+".hash", c.hash+"\n")
			}
			if name == "cannot start" {
				if err := os.Remove(dir + "/program"); err != nil {
					t.Fatal(err)
				}
			}
			l.offers(l.program("second", fetcher), p, "echo good > $dest")
			results, err := l.engine().Ensure([]storepath.Path{p})
			if err != nil {
				t.Fatalf("%v\n%s", err, l.sink)
			}
			l.wantStatuses(results, Substituted)
			if got := l.read(p); got != "good\n" {
				t.Errorf("contents %q", got)
			}
			says := strings.NewReplacer("PROGRAM", dir+"/program", "'P'", "'"+string(p)+"'").Replace(c.says)
			if !strings.Contains(l.sink.String(), says) && !strings.HasPrefix(name, "dies") && name != "nonsense" && name != "cannot start" {
				t.Errorf("nothing says %q in\n%s", says, l.sink)
			}
			l.unfetched()
			// Alone it is the reason why there is nothing.
			q := l.path("q")
			l.sources = nil
			only := l.program("third", c.script)
			l.offers(only, q, c.fetch)
			if c.hash != "" {
				l.write(only+"/"+q.Base()+".hash", c.hash+"\n")
			}
			if name == "cannot start" {
				if err := os.Remove(only + "/program"); err != nil {
					t.Fatal(err)
				}
			}
			if _, err := l.engine().Ensure([]storepath.Path{q}); err == nil {
				t.Fatal("it was fetched")
			}
			says = strings.NewReplacer("PROGRAM", only+"/program", "'P'", "'"+string(q)+"'").Replace(c.says)
			if !strings.Contains(l.sink.String(), says) {
				t.Errorf("nothing says %q in\n%s", says, l.sink)
			}
			l.unfetched()
		})
	}
}

// TestProgramHash takes hashes by any algorithm.
func TestProgramHash(t *testing.T) {
	l := newLab(t)
	p, q := l.path("p"), l.path("q")
	dir := l.program("first", fetcher)
	for _, x := range []storepath.Path{p, q} {
		l.offers(dir, x, "printf x > $dest")
	}
	e := l.engine()
	if _, err := e.Ensure([]storepath.Path{p}); err != nil {
		t.Fatal(err)
	}
	info, err := l.store.Info(p)
	if err != nil {
		t.Fatal(err)
	}
	l.write(dir+"/"+q.Base()+".hash", "sha256:"+info.NarHash.Hex()+"\nmore\n")
	if _, err := e.Ensure([]storepath.Path{q}); err != nil {
		t.Error(err)
	}
	l.unfetched()
}

// TestProgramsInterrupted ends a run, and a plan, while a program owes an answer,
// and wants no other source to be asked instead.
func TestProgramsInterrupted(t *testing.T) {
	for _, plan := range []bool{false, true} {
		l := newLab(t)
		slow := l.program("slow", "read question; echo > $DIR/asked; read more")
		l.program("second", fetcher)
		l.opt.Interrupted = func() error {
			if _, err := os.Lstat(slow + "/asked"); err != nil {
				return nil
			}
			return worker.ErrInterrupted
		}
		e := l.engine()
		p := l.path("p")
		var err error
		if plan {
			_, err = e.Plan([]Target{{Path: p}}, JustLook)
		} else {
			_, err = e.Ensure([]storepath.Path{p})
		}
		if !errors.Is(err, worker.ErrInterrupted) {
			t.Errorf("it ended with %v", err)
		}
		must(t, e.w.Dismiss()) // as closing does: the successor, if there is one, ends too
		if _, err := os.Lstat(l.dir + "/processes"); err == nil && !plan {
			t.Error("another source was asked")
		}
	}
}
