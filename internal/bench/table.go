package main

import (
	"fmt"
	"io"
	"strings"
	"text/tabwriter"
)

// A result is one row's numbers, in the row's unit. Zero means not measured.
type result struct {
	Name     string
	Unit     string // what is measured; a unit "…/s" is better when larger
	Gobuild  float64
	Nix      float64
	Floor    float64
	RSS      int64 // peak of gobuild, KiB
	NixRSS   int64
	Ratio    float64 // how many times better than Nix gobuild is
	Goal     float64 // the ratio wanted, or 0
	GoalRSS  int64   // KiB wanted at most, or 0
	Most     float64 // what Gobuild should not exceed, or 0
	Recorded string  // what Nix needed on the machine for which the goals were set
	Met      string  // yes, no, or empty if there is nothing to compare
	Note     string
	Error    string
}

// finish compares.
func (r *result) finish() {
	if r.Error != "" || r.Gobuild == 0 {
		return
	}
	met := true
	compared := false
	if r.Nix > 0 {
		r.Ratio = r.Nix / r.Gobuild
		if strings.HasSuffix(r.Unit, "/s") {
			r.Ratio = r.Gobuild / r.Nix
		}
		if r.Goal > 0 {
			compared, met = true, r.Ratio >= r.Goal
		}
	}
	if r.GoalRSS > 0 && r.RSS > 0 {
		compared, met = true, met && r.RSS <= r.GoalRSS
	}
	if r.Most > 0 {
		compared, met = true, met && r.Gobuild <= r.Most
	}
	switch {
	case compared && met:
		r.Met = "yes"
	case compared:
		r.Met = "no"
	}
}

func printTable(w io.Writer, results []result) {
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(t, "row\tunit\tnix\tfloor\tgobuild\tratio\tgoal\tmet\tMiB\tgoal\tnix MiB\tnix recorded\tnote")
	for _, r := range results {
		fmt.Fprintf(t, "%s\t%s\t%s\t%s\t%s\t%s\t%s\t%s\t%s\t%s\t%s\t%s\t%s\n", r.Name, r.Unit, number(r.Nix), number(r.Floor), number(r.Gobuild),
			times(r.Ratio), times(r.Goal), r.Met, mebi(r.RSS), mebi(r.GoalRSS), mebi(r.NixRSS), r.Recorded, note(r))
	}
	t.Flush()
}

func note(r result) string {
	if r.Error != "" {
		line, _, _ := strings.Cut(r.Error, "\n")
		return "FAILED: " + line
	}
	return r.Note
}

func number(v float64) string {
	switch {
	case v == 0:
		return ""
	case v >= 1000:
		return fmt.Sprintf("%.0f", v)
	case v >= 10:
		return fmt.Sprintf("%.1f", v)
	}
	return fmt.Sprintf("%.2f", v)
}

func times(v float64) string {
	if v == 0 {
		return ""
	}
	return fmt.Sprintf("%.1fx", v)
}

func mebi(kib int64) string {
	if kib == 0 {
		return ""
	}
	return fmt.Sprintf("%.1f", float64(kib)/1024)
}
