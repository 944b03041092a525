package main

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strconv"
	"time"

	"github.com/rogpeppe/go-internal/testscript"
)

// cmdHarass runs a program again and again, each time from the store as it is
// now, and stops it at a random moment. Nothing may run on after that, and a
// second run must succeed:
//
//	harass ROUNDS program [args...]
func cmdHarass(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 2 {
		ts.Fatalf("usage: harass ROUNDS program [args...]")
	}
	rounds, err := strconv.Atoi(args[0])
	ts.Check(err)
	ts.Check(ts.Exec("cp", "-a", "var", "store", ".tmp"))
	begin := time.Now()
	ts.Check(ts.Exec(args[1], args[2:]...))
	whole := time.Since(begin)
	seed := uint64(begin.UnixNano())
	ts.Logf("seed %d, undisturbed %v", seed, whole)
	random := rand.New(rand.NewPCG(seed, 0))
	signals := []string{"INT", "INT", "INT", "TERM", "KILL"}
	for i := range rounds {
		ts.Check(ts.Exec("sh", "-c", "chmod -R u+w store; rm -rf var store; cp -a .tmp/var .tmp/store ."))
		harassOnce(ts, signals[i%len(signals)], time.Duration(random.Int64N(int64(whole))), args[1:])
	}
}

func harassOnce(ts *testscript.TestScript, signal string, after time.Duration, args []string) {
	got := exitStatus(ts.Exec("signal", append([]string{signal, fmt.Sprint("after=", after)}, args...)...))
	// The default action ends a program whose handler is not in place yet.
	if !slices.Contains([]int{0, 1, 128 + 2, 128 + 15, 128 + 9}, got) {
		ts.Fatalf("%s after %v: exit status %d", signal, after, got)
	}
	if signal == "KILL" {
		expectNone(ts, traces)
	} else {
		expectNone(ts, leftovers)
		cmdVerify(ts, false, nil)
	}
	if err := ts.Exec(args[0], args[1:]...); err != nil {
		ts.Fatalf("%s after %v: the second run: %v", signal, after, err)
	}
	cmdVerify(ts, false, nil)
}
