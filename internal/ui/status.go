package ui

import (
	"fmt"
	"path"
	"strings"
	"time"

	"gobuild/internal/activity"
	"gobuild/internal/store/storepath"
)

// label finds what to call an activity: a label for the status line and a
// name for its log lines.
func (b *board) label(t activity.Type, what string, fields []any) (label, name string) {
	plain := objectName(text(fields, 0))
	object := b.c.bold + plain + b.c.reset
	switch t {
	case activity.Build:
		label = "building " + object
		if machine := text(fields, 1); machine != "" {
			label += " on " + machine
		}
		return label, withoutVersion(plain)
	case activity.Substitute:
		return "fetching " + object + " from " + text(fields, 1), ""
	case activity.PostBuildHook:
		return "post-build " + object, withoutVersion(plain)
	case activity.QueryPathInfo:
		return "querying " + object + " on " + text(fields, 1), ""
	}
	return what, ""
}

// objectName is the name in a store path, without ".drv".
func objectName(p string) string {
	base := path.Base(p)
	if len(base) > storepath.HashLen+1 && base[storepath.HashLen] == '-' {
		base = base[storepath.HashLen+1:]
	}
	return strings.TrimSuffix(base, storepath.DrvSuffix)
}

// withoutVersion cuts a name before the first dash that no letter follows.
func withoutVersion(name string) string {
	for i := 0; i+1 < len(name); i++ {
		if c := name[i+1] | 0x20; name[i] == '-' && (c < 'a' || c > 'z') {
			return name[:i]
		}
	}
	return name
}

// status is the content of the status line, for any width.
func (b *board) status() string {
	var parts []string
	add := func(s string) {
		if s != "" {
			parts = append(parts, s)
		}
	}
	add(b.part(activity.Builds, 1, "built"))
	add(b.copied())
	if b.sum(activity.FileTransfer).done > 0 { // else all that is expected comes from this machine
		add(b.part(activity.FileTransfer, 1<<20, "MiB DL"))
	}
	add(b.part(activity.OptimiseStore, 1, "paths optimised"))
	add(b.part(activity.VerifyPaths, 1, "paths verified"))
	line := ""
	if len(parts) > 0 {
		line = "[" + strings.Join(parts, ", ") + "]"
	}
	if k := b.current(); k != nil {
		line += " " + b.describe(k)
	}
	return strings.TrimPrefix(line, " ")
}

// slow is how long something may take before the time is worth a word.
const slow = 5 * time.Second

func (b *board) describe(k *task) string {
	s := k.label
	if k.phase != "" {
		s += " (" + k.phase + ")"
	}
	if age := b.now().Sub(k.started); age >= slow {
		s += " " + duration(age.Truncate(time.Second))
	}
	if b.lines && k.lastLine != "" {
		s += ": " + strings.TrimSpace(k.lastLine)
	}
	return s
}

func (b *board) copied() string {
	paths := b.part(activity.CopyPaths, 1, "copied")
	size := b.part(activity.CopyPath, 1<<20, "MiB")
	switch {
	case size == "":
		return paths
	case paths == "":
		paths = "0 copied"
	}
	return paths + " (" + size + ")"
}

// part is one group of numbers: running/done/expected, or fewer where they say
// nothing new. Numbers are shown in the given unit.
func (b *board) part(t activity.Type, unit uint64, what string) string {
	n := b.sum(t)
	if n.running == 0 && n.done == 0 && n.expected == 0 && n.failed == 0 {
		return ""
	}
	c := b.c
	var words []string
	if n.running > 0 {
		words = append(words, c.busy+inUnit(n.running, unit)+c.reset)
	}
	if n.done > 0 || n.running > 0 {
		words = append(words, c.good+inUnit(n.done, unit)+c.reset)
	} else {
		words = append(words, inUnit(n.done, unit))
	}
	if n.expected != n.done && n.expected > 0 {
		words = append(words, inUnit(n.expected, unit))
	}
	s := strings.Join(words, "/") + " " + what
	if n.failed > 0 {
		s += fmt.Sprintf(" (%s%s failed%s)", c.failure, inUnit(n.failed, unit), c.reset)
	}
	return s
}

func inUnit(n, unit uint64) string {
	if unit == 1 {
		return fmt.Sprint(n)
	}
	return fmt.Sprintf("%.1f", float64(n)/float64(unit))
}

// summary is the last word on a run; "" if nothing happened.
func (b *board) summary(elapsed time.Duration) string {
	c, builds, paths := b.c, b.sum(activity.Builds), b.sum(activity.CopyPaths)
	var parts []string
	if builds.done > 0 {
		parts = append(parts, fmt.Sprintf("%s%d built%s", c.good, builds.done, c.reset))
	}
	if n := builds.failed + paths.failed; n > 0 {
		parts = append(parts, fmt.Sprintf("%s%d failed%s", c.failure, n, c.reset))
	}
	if paths.done > 0 {
		s := fmt.Sprintf("%d fetched", paths.done)
		if size := b.sum(activity.CopyPath).done; size >= 1<<20/10 {
			s += fmt.Sprintf(" (%s MiB)", inUnit(size, 1<<20))
		}
		parts = append(parts, s)
	}
	if len(parts) == 0 {
		return ""
	}
	return "[" + strings.Join(append(parts, duration(elapsed)), ", ") + "]"
}
