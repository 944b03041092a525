package ui

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"gobuild/internal/activity"
)

// failed is a report of a failed build.
type failed struct{ lines []string }

func (failed) Error() string                 { return "builder for '/nix/store/x.drv' failed with exit code 3" }
func (f failed) LogTail() ([]string, string) { return f.lines, "/nix/store/x.drv" }

// screen is an output that counts its writes.
type screen struct {
	bytes.Buffer
	writes int
}

func (s *screen) Write(p []byte) (int, error) {
	s.writes++
	return s.Buffer.Write(p)
}

const drvA = "/nix/store/00000000000000000000000000000000-alpha-1.2.drv"

// scenario plays a build of three derivations, one of which fails; step lets
// time pass.
func scenario(l *Logger, step func(time.Duration)) {
	const top, builds, copies, a, b, sub, cp, hook = 1, 2, 3, 4, 5, 6, 7, 8
	l.Message(activity.Info, "these 2 derivations will be built:\n  A\n  B")
	l.Start(top, activity.Error, activity.Realise, "", 0)
	l.Start(builds, activity.Error, activity.Builds, "", top)
	l.Start(copies, activity.Error, activity.CopyPaths, "", top)
	l.Result(builds, activity.Progress, 0, 2, 0, 0)
	l.Result(copies, activity.Progress, 0, 1, 0, 0)
	l.Result(top, activity.SetExpected, int(activity.CopyPath), 3<<20)
	step(60 * time.Millisecond)
	l.Start(sub, activity.Error, activity.Substitute, "", copies, "/nix/store/00000000000000000000000000000000-lib-3", "https://c")
	l.Start(cp, activity.Info, activity.CopyPath, "copying path 'P' from 'https://c'", sub, "P", "https://c", "local")
	l.Result(copies, activity.Progress, 0, 1, 1, 0)
	step(60 * time.Millisecond)
	l.Result(cp, activity.Progress, 3<<19, 3<<20, 0, 0)
	step(60 * time.Millisecond)
	l.Result(cp, activity.Progress, 3<<20, 3<<20, 0, 0)
	l.Stop(cp)
	l.Stop(sub)
	l.Result(copies, activity.Progress, 1, 1, 0, 0)
	step(60 * time.Millisecond)
	l.Start(a, activity.Info, activity.Build, "building '"+drvA+"'", builds, drvA, "", 1, 1)
	l.Start(b, activity.Info, activity.Build, "building 'B'", builds, "/nix/store/00000000000000000000000000000000-beta.drv", "ssh://m", 1, 1)
	l.Result(builds, activity.Progress, 0, 2, 2, 0)
	l.Result(a, activity.SetPhase, "buildPhase")
	l.Result(a, activity.BuildLogLine, "cc\t-c \x1b[31mred\x1b[0m \x1b]0;title\a\x1b[2Jx.c\r")
	step(60 * time.Millisecond)
	l.Result(b, activity.BuildLogLine, "second builder")
	step(10 * time.Millisecond)
	l.Result(b, activity.BuildLogLine, "third line")
	step(7 * time.Second)
	l.Refresh()
	l.Message(activity.Warn, "careful")
	l.Message(activity.Talkative, "hidden")
	l.Stop(a)
	l.Result(builds, activity.Progress, 1, 2, 1, 0)
	l.Start(hook, activity.Info, activity.PostBuildHook, "running post-build-hook '/h'", 0, drvA)
	l.Result(hook, activity.PostBuildLogLine, "hooked")
	l.Stop(hook)
	l.Start(9, activity.Warn, activity.BuildWaiting, "waiting for lock on 'Q'", builds)
	l.Stop(9)
	l.Stop(b)
	l.Result(builds, activity.Progress, 1, 1, 0, 1)
	l.Failure(fmt.Errorf("realising: %w", failed{[]string{"second builder", "third line"}}))
	l.Stop(builds)
	l.Stop(copies)
	l.Stop(top)
	l.Summary(7250 * time.Millisecond)
	l.Close()
}

// play runs the scenario and returns what appears.
func play(o Options) *screen {
	out := new(screen)
	clock := time.Unix(1000, 0)
	o.Out, o.Now = out, func() time.Time { return clock }
	scenario(New(o), func(d time.Duration) { clock = clock.Add(d) })
	return out
}

// readable makes control characters visible, and one line of each drawing.
func readable(s string) string {
	return strings.NewReplacer("\r", "<CR>", "\x1b[K", "<EL>\n", "\x1b", "<ESC>", "\t", "<TAB>").Replace(s)
}

// TestFormats compares with the texts in testdata; GOLDEN=rewrite rewrites
// them.
func TestFormats(t *testing.T) {
	env := func(m map[string]string) func(string) string { return func(k string) string { return m[k] } }
	columns := func() int { return 60 }
	for name, o := range map[string]Options{
		"raw":                   {Format: raw, Verbosity: activity.Info},
		"raw-with-logs":         {Verbosity: activity.Info},
		"raw-systemd":           {Verbosity: activity.Info, Env: env(map[string]string{"IN_SYSTEMD": "1"}), Columns: columns},
		"internal-json":         {Format: internalJSON, Verbosity: activity.Info},
		"bar-file":              {Format: bar, Verbosity: activity.Info},
		"bar-with-logs-file":    {Format: barWithLogs, Verbosity: activity.Info},
		"bar":                   {HideBuildOutput: true, Verbosity: activity.Info, Columns: columns},
		"bar-with-logs":         {Verbosity: activity.Info, Columns: columns},
		"bar-with-logs-mono":    {Verbosity: activity.Talkative, Columns: columns, Env: env(map[string]string{"NO_COLOR": "1"})},
		"dumb":                  {Verbosity: activity.Info, Columns: columns, Env: env(map[string]string{"TERM": "dumb"})},
		"quiet":                 {Verbosity: activity.Warn},
		"raw-with-logs-colours": {Format: rawWithLogs, Verbosity: activity.Info, Columns: columns},
	} {
		got := readable(play(o).String())
		file := filepath.Join("testdata", name+".txt")
		if os.Getenv("GOLDEN") == "rewrite" {
			if err := os.WriteFile(file, []byte(got), 0o666); err != nil {
				t.Fatal(err)
			}
		}
		want, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		if got != string(want) {
			t.Errorf("%s:\n got %s\nwant %s", name, got, want)
		}
	}
}

func TestCheckFormat(t *testing.T) {
	for _, name := range []string{"", "raw", "raw-with-logs", "internal-json", "bar", "bar-with-logs"} {
		if err := CheckFormat(name); err != nil {
			t.Error(err)
		}
	}
	if err := CheckFormat("pretty"); err == nil || err.Error() != "unknown log format 'pretty'" {
		t.Errorf("%v", err)
	}
}

func TestOneWritePerEvent(t *testing.T) {
	for _, o := range []Options{
		{Verbosity: activity.Info}, {Verbosity: activity.Info, Format: internalJSON},
		{Verbosity: activity.Info, Columns: func() int { return 80 }},
	} {
		out := new(screen)
		o.Out = out
		l := New(o)
		for i, event := range []func(){
			func() { l.Message(activity.Error, "one line") },
			func() { l.Start(1, activity.Info, activity.Build, "building", 0, drvA) },
			func() { l.Result(1, activity.BuildLogLine, "line") },
			func() { l.Failure(errors.New("several\nlines\nof text")) },
		} {
			out.writes = 0
			if event(); out.writes > 1 {
				t.Errorf("%s, event %d: %d writes", o.Format, i, out.writes)
			}
		}
	}
}

func TestStatusIsDrawnSeldom(t *testing.T) {
	out := new(screen)
	clock := time.Unix(1000, 0)
	l := New(Options{Out: out, Verbosity: activity.Info, Now: func() time.Time { return clock }, Columns: func() int { return 0 }})
	l.Start(1, activity.Error, activity.Builds, "", 0)
	out.writes = 0
	for i := range 1000 { // ten events each millisecond
		l.Result(1, activity.Progress, i, 1000, 1, 0)
		clock = clock.Add(100 * time.Microsecond)
	}
	if out.writes < 1 || out.writes > 3 {
		t.Errorf("%d drawings in 100 ms", out.writes)
	}
	out.writes = 0
	clock = clock.Add(redraw)
	l.Refresh() // catches up
	l.Refresh()
	clock = clock.Add(redraw)
	l.Refresh() // nothing is new
	if out.writes != 1 {
		t.Errorf("%d drawings by Refresh", out.writes)
	}
	if !strings.Contains(out.String(), "999") {
		t.Error("the last numbers were not shown")
	}
}

func TestNothingToSummarise(t *testing.T) {
	out := new(screen)
	l := New(Options{Out: out, Verbosity: activity.Info})
	l.Start(1, activity.Error, activity.Builds, "", 0)
	l.Result(1, activity.Progress, 0, 3, 0, 0)
	l.Summary(time.Hour)
	if out.Len() != 0 {
		t.Errorf("%q", out.String())
	}
}

// TestDownloads shows how much has been downloaded, but not what is expected
// where nothing is.
func TestDownloads(t *testing.T) {
	out := new(screen)
	clock := time.Unix(1000, 0)
	l := New(Options{Out: out, Verbosity: activity.Info, Now: func() time.Time { return clock }, Columns: func() int { return 0 }})
	shows := func(want string) bool {
		clock = clock.Add(redraw)
		l.Refresh()
		return strings.Contains(out.String(), want)
	}
	l.Start(1, activity.Error, activity.Realise, "", 0)
	l.Result(1, activity.SetExpected, int(activity.FileTransfer), 4<<20)
	l.Start(2, activity.Info, activity.CopyPath, "", 1)
	l.Result(2, activity.Progress, 1<<20, 8<<20, 0, 0)
	if shows("DL") || !shows("/8.0 MiB)") {
		t.Errorf("a local cache is shown as %q", out)
	}
	l.Start(3, activity.Talkative, activity.FileTransfer, "", 2)
	l.Result(3, activity.Progress, 2<<20, 4<<20, 0, 0)
	if !shows("/4.0 MiB DL]") {
		t.Errorf("a download is shown as %q", out)
	}
}

// TestHostileEvents sends what a broken or malicious daemon might.
func TestHostileEvents(t *testing.T) {
	for _, format := range []string{raw, rawWithLogs, internalJSON, bar, barWithLogs} {
		clock := time.Unix(0, 0)
		l := New(Options{Out: new(screen), Format: format, Verbosity: activity.Vomit, Columns: func() int { return 3 },
			Now: func() time.Time { clock = clock.Add(time.Minute); return clock }})
		l.Start(1, -5, activity.CopyPath, "\n\x1b[", 2)
		l.Start(2, 99, activity.CopyPath, "", 1, 5)
		l.Start(2, 99, activity.FileTransfer, "", 2)
		l.Start(3, 0, activity.Build, "", 3)
		l.Result(3, activity.BuildLogLine)
		l.Result(3, activity.BuildLogLine, 5)
		l.Result(3, activity.BuildLogLine, "")
		l.Result(77, activity.BuildLogLine, "no such activity")
		l.Result(3, activity.Progress, "x", -1, uint64(1<<63), uint64(1<<63))
		l.Result(3, activity.SetExpected)
		l.Stop(99)
		l.Stop(3)
		l.Stop(3)
		l.Message(-1, "\n\n")
		l.Failure(errors.New(""))
		l.Summary(-time.Second)
		l.Close()
		l.Refresh()
	}
}

func BenchmarkLogLine(b *testing.B) {
	for name, o := range map[string]Options{
		"raw": {}, "json": {Format: internalJSON}, "bar": {Columns: func() int { return 100 }},
	} {
		o.Out, o.Verbosity = new(discard), activity.Info
		l := New(o)
		l.Start(1, activity.Info, activity.Build, "building", 0, drvA, "", 1, 1)
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				l.Result(1, activity.BuildLogLine, "checking whether the compiler supports this or that... yes")
			}
		})
	}
}

type discard struct{}

func (*discard) Write(p []byte) (int, error) { return len(p), nil }

// TestWarningsOfOthers: programs whose JSON is passed on have said "warning:"
// themselves, in colour.
func TestWarningsOfOthers(t *testing.T) {
	var out bytes.Buffer
	l := New(Options{Out: &out, Format: raw, Verbosity: activity.Warn})
	for _, text := range []string{"careful", "warning: careful", "\x1b[35;1mwarning:\x1b[0m careful"} {
		l.Message(activity.Warn, text)
	}
	if want := strings.Repeat("warning: careful\n", 3); out.String() != want {
		t.Errorf("%q", out.String())
	}
}
