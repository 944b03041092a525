package ui

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"gobuild/internal/store/storepath"
)

// failureText is how an error is shown: lines after the first are indented to
// stand under its text.
func failureText(c palette, text string) string {
	text = strings.TrimPrefix(text, "error: ")
	return c.failure + "error:" + c.reset + " " + strings.ReplaceAll(text, "\n", "\n       ")
}

// failureReport adds the last lines of a build's log to the message of its
// failure, and says how to see the rest; logOf is empty if nothing was kept.
func failureReport(text string, lines []string, logOf string) string {
	var b strings.Builder
	b.WriteString(text)
	if len(lines) > 0 {
		fmt.Fprintf(&b, ";\nlast %d log lines:", len(lines))
		for _, line := range lines {
			b.WriteString("\n> ")
			b.WriteString(line)
		}
	}
	if logOf != "" {
		fmt.Fprintf(&b, "\nFor full logs, run:\n  gobuild log %s", logOf)
	}
	return b.String()
}

// Missing is what is not there before a run.
type Missing struct {
	Build    []storepath.Path // derivations, dependencies first
	Fetch    []storepath.Path
	Unknown  []storepath.Path // nobody can provide these
	Download uint64           // bytes, compressed, of Fetch
	Unpacked uint64           // bytes of Fetch in the store
	ReadOnly bool             // the store is only read
}

// String is the plan in Nix's words, without a line feed at its end. It is
// empty if there is nothing to say.
func (m Missing) String() string {
	var b strings.Builder
	switch n := len(m.Build); n {
	case 0:
	case 1:
		list(&b, "this derivation will be built:", m.Build)
	default:
		list(&b, fmt.Sprintf("these %d derivations will be built:", n), m.Build)
	}
	if n := len(m.Fetch); n > 0 {
		what := "this path"
		if n > 1 {
			what = fmt.Sprintf("these %d paths", n)
		}
		list(&b, fmt.Sprintf("%s will be fetched (%s download, %s unpacked):", what, mebibytes(m.Download), mebibytes(m.Unpacked)),
			slices.SortedFunc(slices.Values(m.Fetch), byName))
	}
	if len(m.Unknown) > 0 {
		why := ""
		if m.ReadOnly {
			why = " (may be caused by read-only store access)"
		}
		list(&b, "don't know how to build these paths"+why+":", m.Unknown)
	}
	return strings.TrimSuffix(b.String(), "\n")
}

func list(b *strings.Builder, heading string, paths []storepath.Path) {
	b.WriteString(heading + "\n")
	for _, p := range paths {
		b.WriteString("  " + string(p) + "\n")
	}
}

func mebibytes(n uint64) string { return fmt.Sprintf("%.2f MiB", float64(n)/(1<<20)) }

func byName(a, b storepath.Path) int {
	if c := strings.Compare(a.Name(), b.Name()); c != 0 {
		return c
	}
	return strings.Compare(string(a), string(b))
}

// duration is a time as people say it: "0.4s", "12s", "3m05s", "2h07m".
func duration(d time.Duration) string {
	s := int64(d / time.Second)
	switch {
	case d < 10*time.Second:
		return fmt.Sprintf("%.1fs", d.Truncate(100*time.Millisecond).Seconds())
	case s < 60:
		return fmt.Sprintf("%ds", s)
	case s < 3600:
		return fmt.Sprintf("%dm%02ds", s/60, s%60)
	}
	return fmt.Sprintf("%dh%02dm", s/3600, s/60%60)
}
