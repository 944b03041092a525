package goal

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"gobuild/internal/sandbox"
	"gobuild/internal/store/drv"
	"gobuild/internal/store/fstree"
	"gobuild/internal/store/storepath"
)

// inBoth runs a test without and with a sandbox.
func inBoth(t *testing.T, test func(t *testing.T, l *lab)) {
	t.Run("plain", func(t *testing.T) { test(t, newLab(t)) })
	t.Run("sandbox", func(t *testing.T) {
		l := newLab(t)
		l.sandboxed()
		test(t, l)
	})
}

// in realises targets in a mode with a new engine that knows nothing of what
// earlier ones have found out.
func (l *lab) in(mode BuildMode, paths ...storepath.Path) ([]BuildResult, error) {
	l.Helper()
	l.store = l.open()
	ts := targets(paths...)
	for i := range ts {
		ts[i].Mode = mode
	}
	return l.engine().Realise(ts)
}

// repair is in(Repair) where success is wanted.
func (l *lab) repair(paths ...storepath.Path) []BuildResult {
	l.Helper()
	results, err := l.in(Repair, paths...)
	if err != nil {
		l.Fatalf("repairing: %v\n%s", err, l.sink)
	}
	return results
}

// failsIn is in where a failure with an exit code is wanted, whose error it
// returns.
func (l *lab) failsIn(mode BuildMode, code int, paths ...storepath.Path) string {
	l.Helper()
	_, err := l.in(mode, paths...)
	var f *Failure
	if !errors.As(err, &f) || f.ExitCode != code {
		l.Fatalf("ended with %v, want exit code %d\n%s", err, code, l.sink)
	}
	return f.Error()
}

// write changes a file in the store by force.
func (l *lab) write(file, text string) {
	l.Helper()
	for _, name := range []string{filepath.Dir(file), file} {
		if st, err := os.Lstat(name); err == nil && name != l.store.RealDir() {
			if err := os.Chmod(name, st.Mode().Perm()|0o200); err != nil {
				l.Fatal(err)
			}
		}
	}
	if err := os.WriteFile(file, []byte(text), 0o644); err != nil {
		l.Fatal(err)
	}
}

func (l *lab) remove(p storepath.Path) {
	l.Helper()
	if _, err := fstree.RemoveAll(l.store.RealPath(p)); err != nil {
		l.Fatal(err)
	}
}

// wantGood wants valid paths with the contents that the database has.
func (l *lab) wantGood(paths ...storepath.Path) {
	l.Helper()
	s := l.open()
	for _, p := range paths {
		if good, err := s.ContentsGood(p); err != nil || !good {
			l.Errorf("the contents of '%s' are good: %v, %v", p, good, err)
		}
	}
}

// wantBuilt wants exactly these builds since the last call, by the text of
// their activities.
func (l *lab) wantBuilt(texts ...string) {
	l.Helper()
	var got []string
	for _, e := range l.sink.events {
		if text, ok := strings.CutPrefix(e, "start 105 "); ok {
			got = append(got, text)
		}
	}
	l.sink.events = nil
	if !slices.Equal(got, texts) {
		l.Errorf("builds %q, want %q", got, texts)
	}
}

const twoOutputs = `mkdir $out $dev
echo $out > $out/self; echo $dev > $dev/self; echo $out > $dev/other; ln -s $out/self $dev/link`

func TestRepair(t *testing.T) {
	inBoth(t, func(t *testing.T, l *lab) {
		two := l.drv("two", twoOutputs, outputs("dev", "out"))
		out, dev := l.out(two, "out"), l.out(two, "dev")
		l.realise(two)
		want := l.snapshot(out, dev)
		repairing := "repairing outputs of '" + string(two) + "'"
		l.sink.events = nil
		for _, c := range []struct {
			name   string
			damage func()
			says   []string
			builds []string
		}{
			{"nothing", func() {}, []string{"message 3 checking path '" + string(out) + "'..."}, nil},
			{"a changed file", func() { l.write(l.store.RealPath(out)+"/self", "bad\n") },
				[]string{"message 0 path '" + string(out) + "' is corrupted or missing!"}, []string{repairing}},
			{"one more file", func() { l.write(l.store.RealPath(dev)+"/more", "") },
				[]string{"message 0 path '" + string(dev) + "' is corrupted or missing!"}, []string{repairing}},
			{"another mode", func() { must(t, os.Chmod(l.store.RealPath(out)+"/self", 0o555)) }, nil, []string{repairing}},
			{"a file for a directory", func() { l.remove(out); l.write(l.store.RealPath(out), "") }, nil, []string{repairing}},
			{"a pipe", func() {
				l.write(l.store.RealPath(dev)+"/x", "")
				must(t, unix.Mkfifo(l.store.RealPath(dev)+"/p", 0o644))
			},
				nil, []string{repairing}},
			{"nothing there", func() { l.remove(out); l.remove(dev) }, nil, []string{repairing}},
		} {
			c.damage()
			l.repair(two)
			for _, s := range c.says {
				if !l.sink.has(s) {
					t.Errorf("%s: nobody said %q:\n%s", c.name, s, l.sink)
				}
			}
			l.wantBuilt(c.builds...)
			if got := l.snapshot(out, dev); got != want {
				t.Errorf("%s: after the repair there is\n%swant\n%s", c.name, got, want)
			}
			l.wantGood(out, dev)
			l.wantClean()
		}
	})
}

// snapshot is what there is on disk and in the database of some paths.
func (l *lab) snapshot(paths ...storepath.Path) string {
	l.Helper()
	var b strings.Builder
	for _, p := range paths {
		info, err := l.store.Info(p)
		if err != nil {
			l.Fatal(err)
		}
		fmt.Fprintf(&b, "%s %s %v %s\n", p, info.NarHash, info.References, info.Deriver)
		err = filepath.WalkDir(l.store.RealPath(p), func(name string, e os.DirEntry, err error) error {
			if err != nil {
				return err
			}
			st, err := e.Info()
			if err != nil {
				return err
			}
			fmt.Fprintf(&b, "%s %v %d %d", name, st.Mode(), st.ModTime().Unix(), st.Sys().(*syscall.Stat_t).Uid)
			text, _ := os.ReadFile(name)
			link, _ := os.Readlink(name)
			fmt.Fprintf(&b, " %q %q\n", text, link)
			return nil
		})
		if err != nil {
			l.Fatal(err)
		}
	}
	return b.String()
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// TestRepairKeepsGoodOutputs wants only the damaged output to be replaced,
// whose references to itself and to the others are right.
func TestRepairKeepsGoodOutputs(t *testing.T) {
	inBoth(t, func(t *testing.T, l *lab) {
		two := l.drv("two", twoOutputs, outputs("dev", "out"))
		out, dev := l.out(two, "out"), l.out(two, "dev")
		l.realise(two)
		before := inode(t, l.store.RealPath(out))
		l.write(l.store.RealPath(dev)+"/self", "bad\n")
		l.repair(two)
		if inode(t, l.store.RealPath(out)) != before {
			t.Error("the good output was replaced")
		}
		var got string
		for _, name := range []string{"self", "other"} {
			text, err := os.ReadFile(l.store.RealPath(dev) + "/" + name)
			must(t, err)
			got += string(text)
		}
		if want := string(dev) + "\n" + string(out) + "\n"; got != want {
			t.Errorf("dev says %q, want %q", got, want)
		}
		l.wantClean()
	})
}

func inode(t *testing.T, name string) uint64 {
	t.Helper()
	st, err := os.Lstat(name)
	must(t, err)
	return st.Sys().(*syscall.Stat_t).Ino
}

// TestRepairClosure damages what outputs refer to: that is made again, by
// whoever makes it, while the good outputs stay.
func TestRepairClosure(t *testing.T) {
	l := newLab(t)
	dep := l.drv("dep", "mkdir $out; echo dep > $out/f")
	unused := l.drv("unused", "echo > $out")
	top := l.drv("top", "mkdir $out; echo "+string(l.out(dep, "out"))+" > $out/f", l.needs(dep, unused))
	l.realise(top)
	l.sink.events = nil
	l.write(l.store.RealPath(l.out(dep, "out"))+"/f", "bad\n")
	l.remove(l.out(unused, "out")) // is not in the closure
	l.wantStatuses(l.repair(top), AlreadyValid)
	l.wantMessage("found corrupted or missing path '" + string(l.out(dep, "out")) + "' in the output closure of '" + string(top) + "'")
	l.wantBuilt("repairing outputs of '" + string(dep) + "'")
	l.wantGood(l.out(top, "out"), l.out(dep, "out"))

	// for a build everything is needed, and inputs come first
	l.write(l.store.RealPath(l.out(dep, "out"))+"/f", "bad\n")
	l.write(l.store.RealPath(l.out(top, "out"))+"/f", "bad\n")
	l.wantStatuses(l.repair(top), Built)
	l.wantBuilt("repairing outputs of '"+string(dep)+"'", "repairing outputs of '"+string(unused)+"'", "repairing outputs of '"+string(top)+"'")
	l.wantGood(l.out(top, "out"), l.out(dep, "out"), l.out(unused, "out"))
	l.wantClean()
}

// source makes a derivation depend on a path that is no derivation.
func (l *lab) source(p storepath.Path) func(*drv.Derivation) {
	return func(d *drv.Derivation) { d.InputSrcs = append(d.InputSrcs, p) }
}

func (l *lab) wantMessage(text string) {
	l.Helper()
	if !slices.ContainsFunc(l.sink.events, func(e string) bool { return strings.Contains(e, text) }) {
		l.Errorf("nobody said %q:\n%s", text, l.sink)
	}
}

// TestRepairFails wants damaged paths to stay as they are where the repair does
// not succeed: half a tree is better than none.
func TestRepairFails(t *testing.T) {
	inBoth(t, func(t *testing.T, l *lab) {
		l.opt.KeepGoing = true
		switchFile := l.dir + "/switch"
		must(t, os.WriteFile(switchFile, []byte("exit 0"), 0o644))
		l.opt.Sandbox.Paths = append(l.opt.Sandbox.Paths, sandbox.Bind{Target: switchFile, Source: switchFile, Optional: true})
		moody := l.drv("moody", "mkdir $out; echo > $out/f; . "+switchFile)
		top := l.drv("top", "echo "+string(l.out(moody, "out"))+" > $out", l.needs(moody))
		l.realise(top)
		file := l.store.RealPath(l.out(moody, "out")) + "/f"
		l.write(file, "bad\n")
		must(t, os.WriteFile(switchFile, []byte("exit 3"), 0o644))
		l.failsIn(Repair, 100, moody)
		if text, err := os.ReadFile(file); err != nil || string(text) != "bad\n" {
			t.Errorf("the damaged file is now %q, %v", text, err)
		}
		got := l.failsIn(Repair, 100, top)
		if want := "some paths in the output closure of derivation '" + string(top) + "' could not be repaired"; got != want {
			t.Errorf("error %q, want %q", got, want)
		}
		must(t, os.WriteFile(switchFile, nil, 0o644))
		l.repair(top)
		l.wantGood(l.out(moody, "out"))
		l.wantClean()
	})
}

// TestRepairTrustsNoDamagedSources wants nothing to be built of sources that
// are not what was registered.
func TestRepairTrustsNoDamagedSources(t *testing.T) {
	l := newLab(t)
	src, err := l.store.AddText("src", []byte("text"), nil)
	must(t, err)
	d := l.drv("d", "read x < "+string(src)+"; echo $x > $out", l.source(src))
	l.realise(d)
	l.write(l.store.RealPath(src), "bad")
	l.sink.events = nil
	l.repair(d) // the output is good
	l.wantBuilt()
	l.write(l.store.RealPath(l.out(d, "out")), "bad")
	l.failsIn(Repair, 1, d)
	l.wantMessage("found corrupted or missing path '" + string(src) + "' among the sources of '" + string(d) + "'")
	l.wantBuilt()
	l.write(l.store.RealPath(src), "text")
	must(t, os.Chmod(l.store.RealPath(src), 0o444))
	l.repair(d)
	l.wantGood(l.out(d, "out"), src)
	l.wantClean()
}

// TestRepairLarge has paths hashed by a child.
func TestRepairLarge(t *testing.T) {
	l := newLab(t)
	big := l.drv("big", "dd if=/dev/zero of=$out bs=1024 count=2048")
	many := l.drv("many", "mkdir $out; i=0; while [ $i -lt 100 ]; do echo $i > $out/$i; i=$((i+1)); done; echo "+
		string(l.out(big, "out"))+" > $out/dep", l.needs(big))
	l.realise(many)
	l.sink.events = nil
	l.repair(many)
	l.wantBuilt()
	l.write(l.store.RealPath(l.out(big, "out")), "bad")
	l.write(l.store.RealPath(l.out(many, "out"))+"/7", "bad")
	l.repair(big, many)
	l.wantBuilt("repairing outputs of '"+string(big)+"'", "repairing outputs of '"+string(many)+"'")
	l.wantGood(l.out(big, "out"), l.out(many, "out"))
	l.wantClean()
}

// TestRepairPaths finds derivers, and says which paths have none.
func TestRepairPaths(t *testing.T) {
	l := newLab(t)
	d := l.drv("d", "echo $out > $out; echo > $dev", outputs("dev", "out"))
	src, err := l.store.AddText("src", []byte("text"), nil)
	must(t, err)
	l.realise(d)
	out, dev := l.out(d, "out"), l.out(d, "dev")
	l.write(l.store.RealPath(out), "bad")
	l.remove(dev)
	l.store = l.open()
	if err := l.engine().RepairPaths([]storepath.Path{out, dev, out}); err != nil {
		t.Errorf("repairing: %v\n%s", err, l.sink)
	}
	l.wantGood(out, dev)
	l.sink.events = nil
	if err := l.engine().RepairPaths([]storepath.Path{out}); err != nil {
		t.Errorf("repairing what is good: %v", err)
	}
	l.wantBuilt()

	l.write(l.store.RealPath(src), "bad")
	err = l.engine().RepairPaths([]storepath.Path{src})
	var f *Failure
	if !errors.As(err, &f) || f.ExitCode != 1 || !strings.HasPrefix(err.Error(), "cannot repair path '"+string(src)+"': ") {
		t.Errorf("repairing a source: %v", err)
	}
	none := storepath.Path(strings.Replace(string(src), src.HashPart(), strings.Repeat("0", 32), 1))
	if err := l.engine().RepairPaths([]storepath.Path{none}); err == nil || err.Error() != "path '"+string(none)+"' is not valid" {
		t.Errorf("repairing an invalid path: %v", err)
	}

	// what can be repaired is, whatever cannot
	l.write(l.store.RealPath(out), "bad")
	l.store = l.open()
	if err := l.engine().RepairPaths([]storepath.Path{src, out}); !errors.As(err, &f) {
		t.Errorf("repairing a source and an output: %v", err)
	}
	l.wantGood(out)
	l.wantClean()
}

// TestRepairFetches prefers a substitute to a build, and needs one for sources.
func TestRepairFetches(t *testing.T) {
	l := newLab(t)
	src, err := l.store.AddText("src", []byte("text"), nil)
	must(t, err)
	d := l.drv("d", "echo good > $out; echo dev > $dev", outputs("dev", "out"), l.source(src))
	e := l.drv("e", "echo good > $out", l.source(src))
	l.realise(d, e)
	out := l.out(d, "out")
	l.caches(fakeCache{string(out): {Contents: "good\n"}, string(src): {Contents: "text"}})
	l.write(l.store.RealPath(out), "bad")
	l.sink.events = nil
	l.repair(d)
	l.wantBuilt()
	if got := l.asked(); !slices.Equal(got, []string{"fetch d", "info d"}) {
		t.Errorf("asked %q", got)
	}
	l.wantGood(out)

	// what nobody offers is built, of good sources
	l.remove(l.out(e, "out"))
	l.write(l.store.RealPath(src), "bad")
	l.repair(e)
	l.wantBuilt("repairing outputs of '" + string(e) + "'")
	l.wantGood(l.out(e, "out"), src)

	// by name, also what is good
	l.asked()
	l.remove(src)
	l.store = l.open()
	must(t, l.engine().RepairPaths([]storepath.Path{out, src}))
	if got := l.asked(); !slices.Contains(got, "fetch d") || !slices.Contains(got, "fetch src") {
		t.Errorf("asked %q", got)
	}
	l.wantBuilt()
	l.wantGood(out, src)

	// and what cannot be fetched after all is built
	l.caches(fakeCache{string(out): {Fails: "cut off"}})
	l.write(l.store.RealPath(out), "bad")
	l.store = l.open()
	l.opt.Fallback = true
	must(t, l.engine().RepairPaths([]storepath.Path{out}))
	l.wantBuilt("repairing outputs of '" + string(d) + "'")
	l.wantGood(out)
	l.wantClean()
}

// TestRepairBySomebodyElse waits for another's repair, and then has nothing to
// do.
func TestRepairBySomebodyElse(t *testing.T) {
	l := newLab(t)
	d := l.drv("d", "echo good > $out")
	l.realise(d)
	real := l.store.RealPath(l.out(d, "out"))
	l.write(real, "bad")
	unlock := l.lock(l.out(d, "out"))
	asked := 0
	l.opt.Interrupted = func() error {
		if asked++; asked == 20 {
			l.write(real, "good\n")
			unlock()
		}
		return nil
	}
	l.opt.PollInterval = time.Millisecond
	l.sink.events = nil
	l.wantStatuses(l.repair(d), AlreadyValid)
	if asked < 20 {
		t.Errorf("did not wait: %d", asked)
	}
	l.wantBuilt()
	l.wantClean()
}
