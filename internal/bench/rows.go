package main

import "fmt"

// A row is a line of the table: one kind of work.
type row struct {
	name     string
	unit     string
	goal     float64
	goalRSS  int64
	most     float64 // the row's number itself should not be larger, or 0
	recorded string
	measure  func(b *bench, r *result) error
}

const mib = 1024 // KiB

// allRows are the rows that exist at this stage; quick ones are smaller, so their goals say less.
func allRows(b *bench) []row {
	rows := []row{{
		name: "realise a valid output", unit: "ms", goal: 8, goalRSS: 15 * mib, recorded: "25 ms, 25 MiB",
		measure: (*bench).noop,
	}}
	for _, n := range b.sizes([]int{100, 400, 1000, 10000}, []int{50, 100}) {
		r := row{name: fmt.Sprintf("%d trivial builds", n), unit: "ms/drv", measure: trivial(n, false)}
		switch n {
		case 100:
			r.goal, r.recorded = 10, "8.2 ms"
		case 400:
			r.recorded = "15.6 ms"
		case 1000:
			r.goal, r.recorded = 25, "21 ms"
		}
		rows = append(rows, r)
	}
	for _, n := range b.sizes([]int{100, 400, 1000}, []int{50, 100}) {
		r := row{name: fmt.Sprintf("%d trivial builds, sandbox", n), unit: "ms/drv", measure: trivial(n, true)}
		switch n {
		case 100:
			r.goal, r.recorded = 8, "21 ms"
		case 1000:
			r.goal, r.recorded = 12, "34 ms"
		}
		rows = append(rows, r)
	}
	rows = append(rows,
		row{name: "chain of 60", unit: "ms/drv", goal: 4, recorded: "4.7 ms", measure: chain(60, false)},
		row{name: "chain of 60, sandbox", unit: "ms/drv", goal: 7, recorded: "24.6 ms", measure: chain(60, true)},
	)
	for _, n := range b.sizes([]int{20000, 50000}, []int{2000}) {
		rows = append(rows, graphRows(n)...)
	}
	rows = append(rows, substitutionRows(b)...)
	return append(rows,
		row{name: "finalise a big file of random bytes", unit: "MiB/s", goal: 1.8, recorded: "526 MiB/s", measure: bigFile(b.size(512), b.size(512), randomBytes)},
		row{name: "finalise a big file of base-32 text", unit: "MiB/s", goal: 90, recorded: "9.7 MiB/s", measure: bigFile(b.size(512), b.size(32), base32Text)},
		row{name: "finalise 50,000 small files", unit: "files/s", goal: 4, recorded: "22,700/s", measure: smallFiles(b.size(50000))},
		row{name: "20 MB of log, bz2", unit: "MB/s", goal: 4, recorded: "2.9 MB/s", measure: logOutput(b.size(20), true)},
		row{name: "20 MB of log, uncompressed", unit: "MB/s", goal: 20, recorded: "20 MB/s", measure: logOutput(b.size(20), false)},
	)
}

// substitutionRows have goals for caches that are directories; what is recorded is, too.
func substitutionRows(b *bench) []row {
	var small, big []row
	for _, c := range []struct {
		method                   string
		goal                     float64 // of the large path
		recorded, recordedOfFile string
	}{
		{"none", 2, "574 paths/s", "459 MiB/s"}, {"xz", 1.3, "488 paths/s", "32 MiB/s"}, {"zstd", 2, "383 paths/s", "228 MiB/s"},
	} {
		for _, transport := range []string{byFile, byHTTP} {
			n, size := b.size(200), b.size(256)
			s := row{name: fmt.Sprintf("substitute %d paths of 16 KiB, %s, %s", n, transport, c.method), unit: "paths/s", measure: smallSubstitutes(n, transport, c.method)}
			l := row{name: fmt.Sprintf("substitute %d MiB, %s, %s", size, transport, c.method), unit: "MiB/s", measure: bigSubstitute(size, transport, c.method)}
			if transport == byFile {
				s.goal, s.recorded = 8, c.recorded
				l.goal, l.recorded = c.goal, c.recordedOfFile
			}
			small, big = append(small, s), append(big, l)
		}
	}
	return append(small, big...)
}

func graphRows(n int) []row {
	plan := row{name: fmt.Sprintf("plan %d derivations, nothing valid", n), unit: "s", measure: plan(n)}
	fails := row{name: fmt.Sprintf("realise %d, first leaf fails", n), unit: "s", measure: firstLeafFails(n)}
	valid := row{name: fmt.Sprintf("realise %d valid derivations", n), unit: "s", measure: allValid(n)}
	switch n {
	case 20000:
		plan.goal, plan.goalRSS, plan.recorded = 13, 50*mib, "3.9 s, 76 MiB"
		fails.goal, fails.goalRSS, fails.recorded = 100, 80*mib, "49 s, 222 MiB"
		valid.goal, valid.recorded = 150, "39 s, 184 MiB"
	case 50000:
		for _, r := range []*row{&plan, &fails, &valid} {
			r.goalRSS, r.most, r.recorded = 150*mib, 0.8, "minutes (goal 0.8 s)"
		}
	}
	return []row{plan, fails, valid}
}

func (b *bench) sizes(full, quick []int) []int {
	if b.quick {
		return quick
	}
	return full
}

// size makes things ten times smaller in a quick run.
func (b *bench) size(n int) int {
	if b.quick {
		return max(2, n/10)
	}
	return n
}
