package nixtest

import (
	"fmt"
	"os/exec"
	"regexp"
	"strings"
	"testing"
)

// A Kind says what a difference is about.
type Kind string

const (
	Exit      Kind = "exit status"
	Stdout    Kind = "standard output"
	Stderr    Kind = "standard error"
	Paths     Kind = "valid paths"
	Outputs   Kind = "derivation outputs"
	Logs      Kind = "logs"
	Trees     Kind = "files"
	Leftovers Kind = "leftovers"
)

// A Difference is one thing in which gobuild is not like Nix.
type Difference struct {
	Kind Kind
	Text string
}

// Plainly is a result whose texts do not tell where the store lies on disk.
func Plainly(s *Store, r Result) Result {
	return Result{Exit: r.Exit, Stdout: normalise(s, r.Stdout), Stderr: normalise(s, r.Stderr)}
}

// CompareResults compares what two runs said.
func CompareResults(nix, gobuild Result) []Difference {
	var d []Difference
	if nix.Exit != gobuild.Exit {
		d = append(d, Difference{Exit, fmt.Sprintf("nix %d, gobuild %d", nix.Exit, gobuild.Exit)})
	}
	d = appendText(d, Stdout, "", nix.Stdout, gobuild.Stdout)
	return appendText(d, Stderr, "", nix.Stderr, gobuild.Stderr)
}

// CompareSnapshots compares what two runs left behind.
func CompareSnapshots(nix, gobuild *Snapshot) []Difference {
	var d []Difference
	for _, part := range []struct {
		kind         Kind
		nix, gobuild map[string]string
	}{
		{Paths, nix.Paths, gobuild.Paths},
		{Outputs, nix.Outputs, gobuild.Outputs},
		{Logs, nix.Logs, gobuild.Logs},
		{Trees, nix.Trees, gobuild.Trees},
	} {
		for _, key := range sortedKeys(part.nix, part.gobuild) {
			a, inNix := part.nix[key]
			b, inGobuild := part.gobuild[key]
			switch {
			case !inNix:
				d = append(d, Difference{part.kind, fmt.Sprintf("%s: only with gobuild: %s", key, cut(b))})
			case !inGobuild:
				d = append(d, Difference{part.kind, fmt.Sprintf("%s: only with nix: %s", key, cut(a))})
			default:
				d = appendText(d, part.kind, key+": ", a, b)
			}
		}
	}
	if extra := append(missingFrom(nix.Leftovers, gobuild.Leftovers), gobuild.TempFiles...); len(extra) > 0 {
		d = append(d, Difference{Leftovers, "gobuild left " + strings.Join(extra, ", ")})
	}
	return d
}

// missingFrom are the elements of b that a lacks. Nix moves the outputs of a failed sandboxed build into the store; gobuild need not.
func missingFrom(a, b []string) []string {
	var extra []string
	have := "\n" + strings.Join(a, "\n") + "\n"
	for _, e := range b {
		if !strings.Contains(have, "\n"+e+"\n") || strings.HasSuffix(e, ".chroot") {
			extra = append(extra, e)
		}
	}
	return extra
}

func appendText(d []Difference, kind Kind, what, nix, gobuild string) []Difference {
	if nix == gobuild {
		return d
	}
	return append(d, Difference{kind, what + firstDifference(nix, gobuild)})
}

// firstDifference shows two texts from the first line on in which they differ.
func firstDifference(nix, gobuild string) string {
	a, b := strings.SplitAfter(nix, "\n"), strings.SplitAfter(gobuild, "\n")
	n := 0
	for n < len(a) && n < len(b) && a[n] == b[n] {
		n++
	}
	return fmt.Sprintf("from line %d on\n    nix:     %s\n    gobuild: %s", n+1, cut(strings.Join(a[n:], "")), cut(strings.Join(b[n:], "")))
}

func cut(s string) string {
	if len(s) > 600 {
		return fmt.Sprintf("%q… (%d bytes)", s[:600], len(s))
	}
	return fmt.Sprintf("%q", s)
}

// normalise removes what a message says about places on disk and about the caller's missing GC root, the lines that gobuild
// adds of its own, which are a failed build's last output and the summary at the end, and the older spelling of "all outputs".
func normalise(s *Store, text string) string {
	text = regexp.MustCompile(`(?m)^warning: you did not specify '--add-root'.*\n`).ReplaceAllString(text, "")
	text = regexp.MustCompile(`(?m)^\[[^\]\n]*\d\.\ds\]\n`).ReplaceAllString(text, "")
	text = regexp.MustCompile(`;\n       last \d+ log lines:\n(       > .*\n)*`).ReplaceAllString(text, "\n")
	text = regexp.MustCompile(`(?m)^       For full logs, run:\n         gobuild log .*\n`).ReplaceAllString(text, "")
	text = strings.ReplaceAll(text, ".drv!*' from .drv file", ".drv^*' from .drv file")
	text = strings.ReplaceAll(text, s.Dir(), s.LogicalDir())
	chroot := regexp.MustCompile(regexp.QuoteMeta(s.LogicalDir()) + `/[^/' ]+\.drv\.chroot(/root)?(` + regexp.QuoteMeta(s.LogicalDir()) + `)`)
	return chroot.ReplaceAllString(text, "$2")
}

// Verify lets real Nix check a store's database against its files; it reports what Nix complains about.
func Verify(t testing.TB, tools Tools, s *Store) {
	t.Helper()
	cmd := exec.Command(tools.NixStore, append(s.storeArgs(), "--verify", "--check-contents")...)
	cmd.Env = s.env(nil)
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Errorf("nix-store --verify --check-contents: %v\n%s", err, out)
		return
	}
	for line := range strings.Lines(string(out)) {
		if !strings.HasPrefix(line, "reading the Nix store") && !strings.HasPrefix(line, "checking ") {
			t.Errorf("nix-store --verify --check-contents: %s", line)
		}
	}
}
