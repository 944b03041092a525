package buildhook

import (
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"gobuild/internal/protocol"
)

// endWhen ends the lab's build when a machine has written to the file that is
// returned.
func (l *lab) endWhen() (mark string) {
	l.Helper()
	mark = filepath.Join(l.TempDir(), "mark")
	if err := exec.Command("mkfifo", mark).Run(); err != nil {
		l.Fatal(err)
	}
	l.options.Ender = &Ender{}
	go func() {
		_, _ = os.ReadFile(mark)
		time.Sleep(moment / 5) // the machine's end is noticed first
		l.options.Ender.End()
	}()
	return mark
}

// TestMachinesAreNotBlamedForSignals: a signal for the whole group ends what
// leads to a machine before the hook knows of it.
func TestMachinesAreNotBlamedForSignals(t *testing.T) {
	for what, machine := range map[string]func(l *lab, mark string) string{
		"connecting": func(l *lab, mark string) string { return l.script("echo >" + mark) },
		"building": func(l *lab, mark string) string {
			return l.playing(encoded(0), "head -c 300 >/dev/null; echo >"+mark)
		},
	} {
		t.Run(what, func(t *testing.T) {
			l := newLab(t)
			l.add(machine(l, l.endWhen()))
			l.add(l.script("exit"))
			p, _ := l.derivation("x", "")
			err := l.run(try(p, 0), encoded([]string{}, []string{"out"}))
			l.wantStatus(err, StatusFailed, "interrupted")
			if names, _ := filepath.Glob(l.options.LoadDir + "/*.down*"); len(names) > 0 {
				t.Errorf("the machine is blamed: %v", names)
			}
			if slices.ContainsFunc(l.messages, func(m string) bool { return m[0] == '1' }) {
				t.Errorf("warnings: %q", l.messages)
			}
		})
	}
}

// TestUnusableMachines: nobody waits for what time does not put right.
func TestUnusableMachines(t *testing.T) {
	for uri, want := range map[string]string{
		"http://h":                             "'ssh://HOST' is one that works",
		"ssh://-oProxyCommand=x":               "invalid SSH host name",
		"ssh://h:99999":                        "invalid port '99999'",
		"ssh://h?remote-program=":              "is empty",
		"ssh://h?transport=no-such-tool":       "executable file not found",
		"ssh://h?transport=/no/such/tool":      "no such file",
		"ssh://h?transport=/etc/passwd":        "permission denied",
		"ssh://h?base64-ssh-public-host-key=!": "not valid base64",
	} {
		t.Run(uri, func(t *testing.T) {
			l := newLab(t)
			m := l.add(uri)
			p, _ := l.derivation("x", "")
			if err := l.run(try(p, 0), try(p, 0)); err != nil {
				t.Fatal(err)
			}
			l.wantReplies("# decline\n# decline\n")
			l.wantMessage("1 cannot build on '"+uri+"': ", want, "leaving it alone for 4s")
			l.wantMessage("1 Failed to find a machine for remote build!", "\nnot on '"+uri+"': it is left alone until", want)

			m.URI = "ssh://127.0.0.1:1" // there was something better to do
			if err := l.run(try(p, 0)); err != nil {
				t.Fatal(err)
			}
			l.wantReplies("# postpone\n")
		})
	}
}

// TestMachinesThatHang: a time limit holds too if the machine forgets it.
func TestMachinesThatHang(t *testing.T) {
	l := newLab(t)
	l.options.Build.Timeout, l.options.Overtime = 50*time.Millisecond, 100*time.Millisecond
	hanging := *l.add(l.playing(encoded(0), "exec sleep 1000"))
	other := l.add(l.playing(encoded(0, int(protocol.PermanentFailure), "the reason", 0, 0, 0, 0, 0), "exec cat >/dev/null"))
	p, _ := l.derivation("x", "")
	err := l.run(try(p, 0), encoded([]string{}, []string{"out"}))
	l.wantStatus(err, StatusRejected, "' on '"+other.URI+"' failed: the reason")
	l.wantMessage("1 lost '"+hanging.URI+"': building '"+string(p)+"': there was no answer for 200ms", "leaving it alone for 4s")
}

// TestWaitingForAnother: an engine that does not ask again is spared the loss
// of a machine while all others are busy.
func TestWaitingForAnother(t *testing.T) {
	l := newLab(t)
	dying := *l.add(l.playing(encoded(0), "head -c 300 >/dev/null; exit 9"))
	busy := l.add(l.playing(encoded(0, int(protocol.PermanentFailure), "the reason", 0, 0, 0, 0, 0), "exec cat >/dev/null"))
	p, _ := l.derivation("x", "")
	others := newPool(&Options{Machines: l.machines[1:], LoadDir: l.options.LoadDir, Now: time.Now}, false)
	f, err := others.choose(&request{platform: system})
	if err != nil || f.seat == nil {
		t.Fatal(err)
	}
	l.options.Wait = true
	l.options.Sleep = func(time.Duration) { f.seat.lock.Close() }
	err = l.run(try(p, 0), encoded([]string{}, []string{"out"}))
	l.wantStatus(err, StatusRejected, "' on '"+busy.URI+"' failed: the reason")
	l.wantMessage("1 lost '" + dying.URI + "'")
	l.wantMessage("3 waiting for a machine to build '" + string(p) + "'")

	l.machines = l.machines[:1]
	l.options.BackOff = BackOff{First: time.Millisecond, Patience: 3}
	l.options.Sleep = func(time.Duration) { time.Sleep(50 * time.Millisecond) }
	l.machines[0].URI = l.playing(encoded(0), "head -c 300 >/dev/null; exit 9")
	err = l.run(try(p, 0), encoded([]string{}, []string{"out"}))
	l.wantStatus(err, StatusRetry, "was lost, and no other is free")
	if d := l.down(&l.machines[0]); d.Failures != 3 {
		t.Errorf("%+v", d)
	}
}
