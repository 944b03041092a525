package ui

import (
	"bytes"
	"errors"
	"strings"
	"testing"
	"time"

	"gobuild/internal/activity"
	"gobuild/internal/store/storepath"
)

func paths(names ...string) []storepath.Path {
	out := make([]storepath.Path, len(names))
	for i, n := range names {
		out[i] = storepath.Path("/s/" + strings.Repeat(n[:1], 32) + "-" + n[1:])
	}
	return out
}

func TestPlan(t *testing.T) {
	zero, one := strings.Repeat("0", 32), strings.Repeat("1", 32)
	for _, c := range []struct {
		m    Missing
		want string
	}{
		{Missing{}, ""},
		{Missing{Build: paths("0b.drv")}, "this derivation will be built:\n  /s/" + zero + "-b.drv"},
		{Missing{Build: paths("0b.drv", "1a.drv")}, "these 2 derivations will be built:\n  /s/" + zero + "-b.drv\n  /s/" + one + "-a.drv"},
		{Missing{Fetch: paths("1a"), Download: 1 << 19, Unpacked: 3 << 20},
			"this path will be fetched (0.50 MiB download, 3.00 MiB unpacked):\n  /s/" + one + "-a"},
		{Missing{Fetch: paths("0b", "1a", "0a")}, "these 3 paths will be fetched (0.00 MiB download, 0.00 MiB unpacked):\n" +
			"  /s/" + zero + "-a\n  /s/" + one + "-a\n  /s/" + zero + "-b"},
		{Missing{Unknown: paths("0a")}, "don't know how to build these paths:\n  /s/" + zero + "-a"},
		{Missing{Unknown: paths("0a"), ReadOnly: true, Build: paths("1x.drv")}, "this derivation will be built:\n  /s/" + one +
			"-x.drv\ndon't know how to build these paths (may be caused by read-only store access):\n  /s/" + zero + "-a"},
	} {
		if got := c.m.String(); got != c.want {
			t.Errorf("%+v:\n%s\nwant\n%s", c.m, got, c.want)
		}
	}
}

// TestRecordedErrors rebuilds the errors of recordings from their texts.
func TestRecordedErrors(t *testing.T) {
	const drv = "/tmp/gbproto/store/ix8wk0wch2dmyx6nhfd3vzaagd49s9g0-fod.drv"
	var out bytes.Buffer
	l := New(Options{Out: &out, Format: raw, Verbosity: activity.Info})
	l.Failure(errors.New("hash mismatch in fixed-output derivation '" + drv + "':\n" +
		"  specified: sha256-AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=\n" +
		"     got:    sha256-VD34n+yFscKA5b57xqM+MSA1A81u2zCEMS3k21qbQ2w="))
	if fod := recordings(t, "nix226-fod.stderr")["nix226-fod.stderr"]; !strings.HasSuffix(fod, out.String()) {
		t.Errorf("got %s\nwant %s", out.String(), fod)
	}
	out.Reset()
	tail := recordings(t, "nix226-faillog-Q.stderr")["nix226-faillog-Q.stderr"]
	l.Failure(recorded{tail})
	tail = strings.Replace(tail, "         nix log", "         gobuild log", 1)
	if !strings.HasSuffix(tail, out.String()) {
		t.Errorf("got %s\nwant %s", out.String(), tail)
	}
}

// recorded is the failure shown in a recording.
type recorded struct{ text string }

func (r recorded) Error() string {
	_, after, _ := strings.Cut(r.text, "error: ")
	msg, _, _ := strings.Cut(after, ";")
	return msg
}

func (r recorded) LogTail() (lines []string, logOf string) {
	for line := range strings.Lines(r.text) {
		if text, ok := strings.CutPrefix(line, "       > "); ok {
			lines = append(lines, strings.TrimSuffix(text, "\n"))
		}
	}
	return lines, "/tmp/gbproto/store/h70w3dcp2qd5w9irnjapmdc1d7xh88hj-faillog.drv"
}

func TestFailureReport(t *testing.T) {
	for _, c := range []struct {
		lines []string
		log   string
		want  string
	}{
		{nil, "", "m"},
		{[]string{"a"}, "", "m;\nlast 1 log lines:\n> a"},
		{nil, "D", "m\nFor full logs, run:\n  gobuild log D"},
	} {
		if got := failureReport("m", c.lines, c.log); got != c.want {
			t.Errorf("%v %q: %q", c.lines, c.log, got)
		}
	}
	if got := failureText(palette{}, "error: x"); got != "error: x" {
		t.Errorf("%q", got)
	}
}

func TestDuration(t *testing.T) {
	for d, want := range map[time.Duration]string{
		0: "0.0s", 999 * time.Millisecond: "0.9s", 12700 * time.Millisecond: "12s", 185 * time.Second: "3m05s", 7620 * time.Second: "2h07m",
	} {
		if got := duration(d); got != want {
			t.Errorf("%d: %s, want %s", d, got, want)
		}
	}
}

func TestNames(t *testing.T) {
	for in, want := range map[string][2]string{
		drvA: {"alpha-1.2", "alpha"},
		"/nix/store/00000000000000000000000000000000-a-b-c1.0-2.drv": {"a-b-c1.0-2", "a-b-c1.0"},
		"":          {".", "."},
		"weird-2-x": {"weird-2-x", "weird"},
	} {
		if o := objectName(in); o != want[0] || withoutVersion(o) != want[1] {
			t.Errorf("%s: %s, %s", in, o, withoutVersion(o))
		}
	}
}
