package goal

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"gobuild/internal/store/storepath"
)

// deadPID is the number of a process that has gone.
func deadPID(t *testing.T) int {
	t.Helper()
	cmd := exec.Command("true")
	must(t, cmd.Run())
	return cmd.Process.Pid
}

// ways are the two ways to replace a path: in one step, and where the file
// system cannot do that.
var ways = []struct {
	name     string
	exchange func(string, string) error
}{
	{"exchange", nil},
	{"renames", func(string, string) error { return unix.EINVAL }},
}

func TestReplaceValid(t *testing.T) {
	for _, way := range ways {
		for _, large := range []bool{false, true} {
			for _, there := range []bool{true, false} {
				t.Run(fmt.Sprintf("%s, large: %v, there: %v", way.name, large, there), func(t *testing.T) {
					l := newLab(t)
					e := l.engine()
					e.repairs.exchange = way.exchange
					p, err := l.store.AddText("text", []byte("old"), nil)
					must(t, err)
					real := l.store.RealPath(p)
					fresh := l.dir + "/fresh"
					must(t, os.WriteFile(fresh, []byte("new"), 0o444))
					switch {
					case !there:
						l.remove(p)
					case large:
						l.remove(p)
						must(t, os.Mkdir(real, 0o755))
						for i := range smallNodes + 1 {
							must(t, os.WriteFile(fmt.Sprintf("%s/%d", real, i), nil, 0o444))
						}
						must(t, os.Chmod(real, 0o555))
					}
					held, heldErr := os.Open(real)
					must(t, e.replaceValid(p, fresh))
					if got := l.read(p); got != "new" {
						t.Errorf("there is %q", got)
					}
					if heldErr == nil {
						if _, err := held.Stat(); err != nil {
							t.Errorf("the old tree cannot be used any more: %v", err)
						}
						held.Close()
					}
					must(t, e.w.Run()) // waits for the child that deletes
					l.wantClean()
				})
			}
		}
	}
}

// TestReplaceFails wants the old tree in its place when the new one cannot be
// had.
func TestReplaceFails(t *testing.T) {
	for _, way := range ways {
		l := newLab(t)
		e := l.engine()
		e.repairs.exchange = way.exchange
		p, err := l.store.AddText("text", []byte("old"), nil)
		must(t, err)
		if err := e.replaceValid(p, l.dir+"/none"); err == nil || !strings.HasPrefix(err.Error(), "replacing '"+string(p)+"': ") {
			t.Errorf("%s: replaced by nothing: %v", way.name, err)
		}
		if got := l.read(p); got != "old" {
			t.Errorf("%s: there is %q", way.name, got)
		}
		l.wantClean()
	}

	// the new tree vanishes between the two renames
	l := newLab(t)
	e := l.engine()
	p, err := l.store.AddText("text", []byte("old"), nil)
	must(t, err)
	fresh := l.dir + "/fresh"
	must(t, os.WriteFile(fresh, []byte("new"), 0o444))
	e.repairs.exchange = func(_, fresh string) error { return errors.Join(os.Remove(fresh), unix.EINVAL) }
	if err := e.replaceValid(p, fresh); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("replaced by what is not there: %v", err)
	}
	if got := l.read(p); got != "old" {
		t.Errorf("there is %q after half a replacement", got)
	}
	l.wantClean()
}

// TestTidyRepairs goes through the states in which a killed engine can leave a
// path that it replaces.
func TestTidyRepairs(t *testing.T) {
	pid := deadPID(t)
	for _, c := range []struct {
		name       string
		there      string // at the path; "" is nothing
		beside     map[string]string
		want, left string
	}{
		{"nothing", "good", nil, "good", ""},
		{"before the exchange", "old", map[string]string{"new-%d-1": "new"}, "old", ""},
		{"after the exchange", "new", map[string]string{"new-%d-1": "old"}, "new", ""},
		{"between the renames", "", map[string]string{"new-%d-1": "new", "old-%d-2": "old"}, "old", ""},
		{"after the renames", "new", map[string]string{"old-%d-2": "old"}, "new", ""},
		{"at work", "old", map[string]string{"new-1-1": "new"}, "old", "new-1-1"},
		{"something else", "old", map[string]string{"old-%d": "x"}, "old", fmt.Sprintf("old-%d", pid)},
		{"while finalising", "old", map[string]string{"finalise": "half"}, "old", ""},
		{"called so", "old", map[string]string{"finalise-x": "path"}, "old", "finalise-x"},
	} {
		l := newLab(t)
		p, err := l.store.AddText("text", []byte(c.there), nil)
		must(t, err)
		real := l.store.RealPath(p)
		if c.there == "" {
			l.remove(p)
		}
		for suffix, text := range c.beside {
			name := real + "." + suffix
			if strings.HasPrefix(suffix, "finalise") {
				name = strings.TrimSuffix(real, "text") + suffix + "-123"
			}
			if strings.Contains(suffix, "%") {
				name = fmt.Sprintf(name, pid)
			}
			must(t, os.WriteFile(name, []byte(text), 0o444))
		}
		l.engine().tidyRepairs()
		if got := l.read(p); got != c.want {
			t.Errorf("%s: there is %q, want %q", c.name, got, c.want)
		}
		found, _ := filepath.Glob(strings.TrimSuffix(real, "text") + "?*")
		left := ""
		for _, name := range found {
			name = strings.TrimPrefix(strings.TrimPrefix(name, real), ".")
			name = strings.TrimPrefix(name, strings.TrimSuffix(real, "text"))
			left += strings.TrimSuffix(name, "-123")
		}
		if left != c.left {
			t.Errorf("%s: left %q, want %q", c.name, left, c.left)
		}
	}
}

// TestTidyRepairsLeavesLockedPathsAlone wants nothing to be touched of a path
// that somebody works on.
func TestTidyRepairsLeavesLockedPathsAlone(t *testing.T) {
	l := newLab(t)
	p, err := l.store.AddText("text", []byte("x"), nil)
	must(t, err)
	name := fmt.Sprintf("%s.new-%d-1", l.store.RealPath(p), deadPID(t))
	must(t, os.WriteFile(name, nil, 0o444))
	unlock := l.lock(p)
	l.engine().tidyRepairs()
	if _, err := os.Lstat(name); err != nil {
		t.Errorf("the tree is gone: %v", err)
	}
	unlock()
	l.engine().tidyRepairs()
	if _, err := os.Lstat(name); err == nil {
		t.Error("the tree is still there")
	}
}

// TestTidyRepairsLeavesPathsAlone wants paths to stay whose names look like
// those of what an unfinished repair leaves: valid ones, and one being made.
func TestTidyRepairsLeavesPathsAlone(t *testing.T) {
	l := newLab(t)
	for _, what := range []string{"new", "old"} {
		name := fmt.Sprintf("text.%s-%d-1", what, deadPID(t))
		p, err := l.store.AddText(name, []byte("x"), nil)
		must(t, err)
		l.engine().tidyRepairs()
		if got := l.read(p); got != "x" {
			t.Errorf("at '%s' there is %q", p, got)
		}
		made := l.path(name)
		must(t, os.WriteFile(l.store.RealPath(made), nil, 0o444))
		unlock := l.lock(made)
		l.engine().tidyRepairs()
		if _, err := os.Lstat(l.store.RealPath(made)); err != nil {
			t.Errorf("what was being made is gone: %v", err)
		}
		unlock()
	}
}

// TestRepairAfterKill repairs a store in which a killed repair has left its
// trees.
func TestRepairAfterKill(t *testing.T) {
	for _, way := range ways {
		l := newLab(t)
		d := l.drv("d", "echo good > $out")
		l.realise(d)
		p := l.out(d, "out")
		real := l.store.RealPath(p)
		must(t, os.Rename(real, fmt.Sprintf("%s.old-%d-2", real, deadPID(t))))
		must(t, os.WriteFile(fmt.Sprintf("%s.new-%d-1", real, deadPID(t)), []byte("half"), 0o444))
		l.store = l.open()
		e := l.engine()
		e.repairs.exchange = way.exchange
		if _, err := e.Realise([]Target{{Path: d, Mode: Repair}}); err != nil {
			t.Fatalf("%s: %v\n%s", way.name, err, l.sink)
		}
		l.wantGood(p)
		l.wantClean()
	}
}

// lock takes a path's lock; the result gives it back.
func (l *lab) lock(p storepath.Path) func() {
	l.Helper()
	f, err := os.OpenFile(l.store.RealPath(p)+".lock", os.O_CREATE|os.O_RDWR, 0o600)
	if err == nil {
		err = unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB)
	}
	if err != nil {
		l.Fatal(err)
	}
	return func() { f.Close() }
}
