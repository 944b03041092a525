package goal

import (
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"

	"gobuild/internal/store/storepath"
)

// builds is the part of a script that accepts, notes what it is told and makes
// the outputs in the store, as hooks of the original engine may.
const builds = `
IFS= read request || exit 0
echo "$request" >> $LAB/requests
echo "looking for a machine" >&2
echo "# accept" >&2
read inputs
read outputs
echo "inputs $inputs outputs $outputs" >> $LAB/jobs
echo "said by the builder" >&4
for o in $outputs; do echo "made from $inputs" > $o; done
`

// TestTextHook has outputs made by an old hook, and registers them here.
func TestTextHook(t *testing.T) {
	l := newLab(t)
	l.textHook(builds)
	l.opt.MaxJobs = 0
	src, err := l.store.AddText("source", []byte("text"), nil)
	if err != nil {
		t.Fatal(err)
	}
	a := l.drv("a", "", l.source(src))
	b := l.drv("b", "", l.needs(a), env("requiredSystemFeatures", "kvm big"))
	l.realise(b)
	out := l.out(b, "out")
	if got, want := l.noted("requests"), fmt.Sprintf("0 test-system %s \n0 test-system %s kvm,big\n", a, b); got != want {
		t.Errorf("requests\n%s, want\n%s", got, want)
	}
	told := func(output storepath.Path, inputs ...storepath.Path) string {
		slices.Sort(inputs)
		return fmt.Sprintf("inputs %s outputs %s\n", strings.Trim(fmt.Sprint(inputs), "[]"), output)
	}
	want := told(l.out(a, "out"), src, a) + told(out, l.out(a, "out"), src, a, b)
	if got := l.noted("jobs"); got != want {
		t.Errorf("jobs\n%s, want\n%s", got, want)
	}
	info, err := l.store.Info(out)
	if err != nil || !slices.Contains(info.References, src) || !slices.Contains(info.References, l.out(a, "out")) {
		t.Errorf("registered as %+v, %v", info, err)
	}
	if info.Deriver != b || !info.Ultimate {
		t.Errorf("registered as %+v", info)
	}
	if got := l.log(b); got != "said by the builder\n" {
		t.Errorf("log %q", got)
	}
	l.wantEvents("message 0 looking for a machine", "start 105 building '"+string(a)+"'", "result 101 of 105 [said by the builder]")
	l.wantClean()
}

// TestTextHookKept asks one process again after it has declined and postponed.
func TestTextHookKept(t *testing.T) {
	l := newLab(t)
	l.textHook(`
echo $$ >> $LAB/processes
while read willing platform drv features; do
	echo "$willing" >> $LAB/requests
	case $(wc -l < $LAB/requests) in 1) echo "# postpone";; *) echo "# decline";; esac
done
echo over >> $LAB/ends
`)
	l.opt.MaxJobs = 1
	l.realise(l.drv("a", "echo > $out"), l.drv("b", "echo > $out"))
	// a: later; b: here; then about a, perhaps while b is being built
	if got := l.noted("requests"); !strings.HasPrefix(got, "1\n1\n") || countLines(got) < 3 {
		t.Errorf("requests\n%s", got)
	}
	if got := l.noted("ends"); got != "over\n" || countLines(l.noted("processes")) != 1 {
		t.Errorf("hooks\n%s ended\n%s", l.noted("processes"), got)
	}
	l.wantClean()
}

// TestTextHookFails looks at the failures of old hooks.
func TestTextHookFails(t *testing.T) {
	for name, c := range map[string]struct {
		then   string
		status Status
		exit   int
		err    string
		trace  string
	}{
		"status 1":   {"exit 1", MiscFailure, 1, "builder for 'D' failed with exit code 1", "hook-failed D O 256 "},
		"status 100": {"exit 100", PermanentFailure, 100, "builder for 'D' failed with exit code 100", "build-failed D O 1 "},
		"status 101": {"exit 101", MiscFailure, 1, "builder for 'D' failed with exit code 101", "hook-failed D O 25856 "},
		"killed":     {"kill -9 $$", MiscFailure, 1, "builder for 'D' failed due to signal 9 (Killed)", "hook-failed D O 9 "},
		"no output": {"rm $outputs", OutputRejected, 1, "builder for 'D' failed to produce output path for output 'out' at 'O'",
			"build-failed D O 1 "},
		"bad output": {"rm $outputs; mkfifo $outputs", OutputRejected, 1, "", "build-failed D O 1 "},
	} {
		t.Run(name, func(t *testing.T) {
			l := newLab(t)
			l.textHook(builds + c.then + "\n")
			l.opt.BuildTrace, l.opt.CacheFailure = true, true
			d := l.drv("a", "")
			named := strings.NewReplacer("D", string(d), "O", string(l.out(d, "out")))
			results, f := l.fails(d)
			if results[0].Status != c.status || f.ExitCode != c.exit {
				t.Errorf("status %s, exit code %d: %v", results[0].Status, f.ExitCode, f)
			}
			if got := f.Error(); c.err != "" && got != named.Replace(c.err) {
				t.Errorf("error: %s", got)
			}
			l.wantEvents("message 0 @ " + named.Replace(c.trace))
			// Only what the builder did is: not what went wrong with the hook.
			failed, err := l.store.FailureOf(l.out(d, "out"))
			if onRecord := failed != nil; onRecord != (c.status == PermanentFailure) || err != nil {
				t.Errorf("it is on record: %v, %v", failed, err)
			}
			l.wantClean()
		})
	}
}

// TestTextHookWords keeps a derivation from speaking to the hook.
func TestTextHookWords(t *testing.T) {
	l := newLab(t)
	l.textHook("while read line; do echo \"$line\" >> $LAB/requests; echo '# decline'; done\n")
	d := l.drv("a", "echo > $out", env("requiredSystemFeatures", "x,y"))
	results, _ := l.fails(d)
	if results[0].Status != InputRejected || l.noted("requests") != "" {
		t.Errorf("%+v, asked %q", results[0], l.noted("requests"))
	}
	l.wantClean()
}

// TestHeldLocks builds what a parent process has locked for us.
func TestHeldLocks(t *testing.T) {
	l := newLab(t)
	d := l.drv("a", "echo > $out")
	e := l.engine()
	g := e.derivation(d, nil, Normal)
	if err := g.load(); err != nil {
		t.Fatal(err)
	}
	if _, err := g.lockOutputs(); err != nil {
		t.Fatal(err)
	}
	child := l.open()
	child.HoldLocks(l.out(d, "out"))
	inner, err := New(child, l.opt, l.sink)
	if err != nil {
		t.Fatal(err)
	}
	defer inner.Close()
	if _, err := inner.Realise(targets(d)); err != nil {
		t.Error(err)
	}
	if _, err := os.Stat(l.store.RealPath(l.out(d, "out")) + ".lock"); err != nil {
		t.Errorf("the parent's lock: %v", err)
	}
	g.release()
}
