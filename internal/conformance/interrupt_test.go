package conformance_test

import (
	"bytes"
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"gobuild/internal/conformance/nixtest"
)

// TestInterrupted stops gobuild at a random moment, by a polite and by a deadly signal, and expects that nothing of it stays
// behind and that a second run brings the work to an end.
func TestInterrupted(t *testing.T) {
	for _, mode := range sharedModes {
		for _, sig := range []syscall.Signal{syscall.SIGINT, syscall.SIGTERM, syscall.SIGKILL} {
			t.Run(fmt.Sprintf("%v/%v", mode, sig), func(t *testing.T) {
				interrupt(t, mode, sig)
			})
		}
	}
}

func interrupt(t *testing.T, mode nixtest.Mode, sig syscall.Signal) {
	const rounds = 6
	lab := nixtest.NewLab(t, mode)
	gobuild := nixtest.Gobuild(t)
	// The marker finds a builder among the machine's processes: it is part of its command line.
	marker := "marker" + filepath.Base(lab.Dir)
	tmpl := lab.Instantiate(t, expression("graph.nix"), map[string]string{
		"layers": "4", "width": "5", "work": `": ` + marker + `; sleep 0.05; mkdir -p junk/x; ( : ` + marker + `; sleep 0.02 ) &"`,
	})
	request := nixtest.Request{Targets: slices.Sorted(maps.Values(tmpl.Drvs)), Args: []string{"-j", "2"}}

	store := tmpl.NewStore(t)
	clearLog(t, lab)
	begin := time.Now()
	if r := gobuild.Run(t, store, request); r.Exit != 0 {
		t.Fatalf("an undisturbed run ended with %d:\n%s", r.Exit, r.Stderr)
	}
	whole := time.Since(begin)

	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	moments := rand.New(rand.NewPCG(seed, 0))
	for range rounds {
		store = tmpl.NewStore(t)
		clearLog(t, lab)
		moment := time.Duration(moments.Int64N(int64(whole)))
		stopAt(t, gobuild, store, request, sig, moment)
		expectNothingLeft(t, store, marker, sig)
		r := gobuild.Run(t, store, request)
		if r.Exit != 0 {
			t.Errorf("stopped after %v; the second run ended with %d:\n%s", moment, r.Exit, r.Stderr)
		}
		snapshot := nixtest.Take(t, store)
		if len(snapshot.Leftovers) > 0 {
			t.Errorf("stopped after %v; left in the store: %v", moment, snapshot.Leftovers)
		}
		nixtest.Verify(t, lab.Tools, store)
		if t.Failed() {
			return
		}
	}
}

// stopAt starts a run and sends it a signal after a while. A run that was faster has nothing to be checked.
func stopAt(t *testing.T, engine nixtest.Engine, store *nixtest.Store, request nixtest.Request, sig syscall.Signal, moment time.Duration) {
	t.Helper()
	run := engine.Start(t, store, request)
	timer := time.NewTimer(moment)
	<-timer.C
	if err := run.Signal(sig); err != nil {
		t.Logf("after %v the run had ended: %v", moment, err)
	}
	r := run.Wait(t)
	switch {
	case r.Exit == 0 || sig == syscall.SIGKILL:
	case r.Exit != 1 || !strings.Contains(r.Stderr, "interrupted by the user"):
		// A signal before the handler is in place kills like any other program's.
		if r.Exit != -1 || strings.Contains(r.Stderr, "building '") {
			t.Errorf("%v after %v: exit status %d, want 1 and a message:\n%s", sig, moment, r.Exit, r.Stderr)
		}
	}
}

// expectNothingLeft looks for processes, mounts and locks of a run that has ended. The kernel may need a moment to end what the
// run killed, and more if it was killed itself.
func expectNothingLeft(t *testing.T, store *nixtest.Store, marker string, sig syscall.Signal) {
	t.Helper()
	patience := 200 * time.Millisecond
	if sig == syscall.SIGKILL {
		patience = 2 * time.Second
	}
	deadline := time.Now().Add(patience)
	for {
		left := processes(marker)
		left = append(left, lockedFiles(t, store)...)
		if len(left) == 0 {
			break
		}
		if !time.Now().Before(deadline) {
			t.Errorf("after %v: still there: %s", sig, strings.Join(left, "; "))
			break
		}
		time.Sleep(10 * time.Millisecond)
	}
	if m := mountTable(t, store); len(m) > 0 {
		t.Errorf("after %v: mounts stayed: %q", sig, m)
	}
}

// processes are those whose command line or environment holds the marker.
func processes(marker string) []string {
	var found []string
	dirs, _ := filepath.Glob("/proc/[0-9]*")
	for _, dir := range dirs {
		cmdline, _ := os.ReadFile(filepath.Join(dir, "cmdline"))
		if bytes.Contains(cmdline, []byte(marker)) {
			found = append(found, fmt.Sprintf("process %s %q", filepath.Base(dir), bytes.ReplaceAll(cmdline, []byte{0}, []byte{' '})))
		}
	}
	return found
}

// lockedFiles are the lock files of a store that somebody holds.
func lockedFiles(t *testing.T, store *nixtest.Store) []string {
	t.Helper()
	var held []string
	files, _ := filepath.Glob(filepath.Join(store.Dir(), "*.lock"))
	files = append(files, filepath.Join(store.StateDir(), "db/big-lock"), filepath.Join(store.StateDir(), "gc.lock"))
	for _, file := range files {
		f, err := os.Open(file)
		if err != nil {
			continue
		}
		if err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
			held = append(held, "lock '"+filepath.Base(file)+"'")
		}
		f.Close()
	}
	return held
}

// mountTable is the mounts in a store's directory. Others come and go: there are other tests.
func mountTable(t *testing.T, store *nixtest.Store) []string {
	t.Helper()
	text, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		t.Fatal(err)
	}
	return slices.DeleteFunc(strings.Split(string(text), "\n"), func(line string) bool {
		fields := strings.Fields(line)
		return len(fields) < 5 || !strings.HasPrefix(fields[4], store.Root+"/")
	})
}
