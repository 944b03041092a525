// Command bench measures gobuild, real Nix and what the machine itself needs for the same work, in turn and in one run.
//
// All stores lie in memory. Numbers do not carry from one machine to another: the ratios are what counts.
package main

import (
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"time"
)

// A bench is one run of this program.
type bench struct {
	dir     string
	busybox string
	shell   string // busybox under the name "sh"
	nix     string // nix-store, empty if real Nix is not measured
	gobuild string
	quick   bool
	reps    int
	cache   *binaryCache // of the latest row that had one
}

func (b *bench) path(name string) string { return filepath.Join(b.dir, name) }

func main() {
	if len(os.Args) > 2 && os.Args[1] == measureArg {
		fail(measureMain(os.Args[2:]))
		return
	}
	var b bench
	jsonFile := flag.String("json", "", "write the results to `FILE`, too")
	rows := flag.String("rows", "", "measure only rows whose name matches `REGEXP`")
	list := flag.Bool("list", false, "print the names of the rows")
	noNix := flag.Bool("no-nix", false, "do not measure real Nix")
	base := flag.String("dir", "", "make the stores below `DIR`; by default in memory: on a new tmpfs for root, below /dev/shm for others")
	flag.BoolVar(&b.quick, "quick", false, "smaller graphs and files, no repetitions")
	flag.IntVar(&b.reps, "reps", 5, "repeat short measurements `N` times and take the median")
	flag.StringVar(&b.gobuild, "gobuild", "", "measure this `PROGRAM`; by default ./gobuild, or one built for the occasion")
	flag.Parse()
	wanted, err := regexp.Compile(*rows)
	fail(err)
	if *list {
		for _, r := range allRows(&b) {
			fmt.Println(r.name)
		}
		return
	}
	if *base == "" && os.Getuid() == 0 && os.Getenv(innerVar) == "" {
		os.Exit(inNewMountNamespace())
	}
	fail(b.setUp(*base, *noNix))
	results, err := b.measureRows(wanted)
	err = firstError(err, removeWorkDir(b.dir))
	if *jsonFile != "" {
		err = firstError(err, writeJSON(*jsonFile, results))
	}
	printTable(os.Stdout, results)
	fail(err)
}

func fail(err error) {
	if err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

func firstError(a, b error) error {
	if a != nil {
		return a
	}
	return b
}

// setUp makes the working directory and finds the programs.
func (b *bench) setUp(base string, noNix bool) error {
	var err error
	if b.busybox, err = exec.LookPath("busybox"); err != nil {
		return fmt.Errorf("a static busybox is needed as the builders' shell: %w", err)
	}
	if b.busybox, err = filepath.EvalSymlinks(b.busybox); err != nil {
		return err
	}
	if !noNix {
		if b.nix, err = exec.LookPath("nix-store"); err != nil {
			fmt.Fprintln(os.Stderr, "bench: real Nix is not installed and not measured")
		}
	}
	if b.dir, err = workDir(base); err != nil {
		return err
	}
	if err := allowLongCommandLines(); err != nil {
		return err
	}
	b.shell = b.path("bin/sh")
	if err := os.Mkdir(filepath.Dir(b.shell), 0o755); err != nil {
		return err
	}
	if err := os.Symlink(b.busybox, b.shell); err != nil {
		return err
	}
	if err := b.findGobuild(); err != nil {
		return err
	}
	fmt.Printf("%d processors, %s, stores in %s (%s), medians of up to %d\n", runtime.NumCPU(), runtime.GOARCH, b.dir, fileSystem(b.dir), b.reps)
	return b.writeConfs()
}

func (b *bench) findGobuild() error {
	if b.gobuild == "" {
		if _, err := os.Stat("gobuild"); err == nil {
			b.gobuild = "gobuild"
		}
	}
	if b.gobuild != "" {
		var err error
		b.gobuild, err = filepath.Abs(b.gobuild)
		return err
	}
	b.gobuild = b.path("bin/gobuild")
	return command("go", "build", "-o", b.gobuild, "./cmd/gobuild")
}

// measureRows goes on after a failed row: half a table is better than none.
func (b *bench) measureRows(wanted *regexp.Regexp) ([]result, error) {
	var results []result
	var failed error
	for _, r := range allRows(b) {
		if !wanted.MatchString(r.name) {
			continue
		}
		begin := time.Now()
		res := result{Name: r.name, Unit: r.unit, Goal: r.goal, GoalRSS: r.goalRSS, Most: r.most, Recorded: r.recorded}
		err := r.measure(b, &res)
		if err != nil {
			res.Error = err.Error()
			failed = firstError(failed, fmt.Errorf("%s: %w", r.name, err))
		}
		res.finish()
		results = append(results, res)
		fmt.Fprintf(os.Stderr, "%-60s %.1f s\n", r.name, time.Since(begin).Seconds())
	}
	return results, failed
}

func writeJSON(file string, results []result) error {
	text, err := json.MarshalIndent(results, "", "  ")
	if err != nil {
		return err
	}
	return os.WriteFile(file, append(text, '\n'), 0o644)
}
