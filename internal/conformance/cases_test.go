package conformance_test

import (
	"path/filepath"

	"gobuild/internal/conformance/nixtest"
)

// where says in which modes a case runs.
type where int

const (
	everywhere  where = iota
	sandboxOnly       // looks at the sandbox, or would harm the machine outside of one
	plainOnly         // process 1 of a sandbox cannot be killed by its own signals
)

// A testCase is one call of both engines.
type testCase struct {
	name      string // also the attribute to build, unless targets are given
	exit      int    // real Nix's exit status: keeps the case from testing something else than its author thought
	where     where
	users     bool     // run it with build users, too
	unordered bool     // the order of lines on standard error is not promised
	targets   []string // attributes, "attr!output" or "attr!*"
	args      []string
	env       []string
	allow     map[nixtest.Kind]string // accepted differences, each with its reason

	gobuildExit int      // gobuild's exit status where Exit is allowed to differ
	stderrHas   []string // what gobuild's standard error must contain where Stderr is allowed to differ
}

// Reasons that several cases share.
const (
	execGarbage  = "Nix 2.8 writes a serialised error to the log when the builder cannot be executed; newer releases write the text"
	jsonMessage  = "the text comes from the JSON parser in use"
	ownGoal      = "gobuild knows its own goals and does not poll their locks"
	fixedRefs    = "Nix 2.8 does not look for references in fixed outputs; newer releases refuse them"
	abortsAll    = "a derivation for another system ends the whole run of Nix, keep-going or not; with gobuild only that goal fails"
	holdsLog     = "outside of a sandbox Nix waits for whoever holds the log; gobuild's build ends with its builder"
	eofIsNoDeath = "Nix kills a builder that closes its output; gobuild waits for its end"
)

func allow(kv ...string) map[nixtest.Kind]string {
	m := map[nixtest.Kind]string{}
	for i := 0; i < len(kv); i += 2 {
		m[nixtest.Kind(kv[i])] = kv[i+1]
	}
	return m
}

// signing makes both engines sign what they build, with two keys.
var signing = []string{"--option", "secret-key-files",
	filepath.Join(nixtest.Tree(), "testdata/golden/keys/example-1.sec") + " " + filepath.Join(nixtest.Tree(), "testdata/golden/keys/other-2.sec")}

func noExec(why string) map[nixtest.Kind]string {
	return allow(string(nixtest.Stderr), why, string(nixtest.Logs), why)
}

var cases = []testCase{
	// outputs.nix
	{name: "simple", users: true},
	{name: "emptyFile"},
	{name: "emptyDir"},
	{name: "execTop"},
	{name: "symlinkTop", users: true},
	{name: "symlinkDangling"},
	{name: "multi", users: true},
	{name: "multiNoOut"},
	{name: "tree", users: true},
	{name: "modes", users: true},
	{name: "setuidRefused", users: true},
	{name: "times"},
	{name: "deepDirs"},
	{name: "manyFiles"},
	{name: "oddNames"},
	{name: "longNames"},
	{name: "binary"},
	{name: "sizes"},
	{name: "bigFile"},
	{name: "sparse"},
	{name: "refSelf"},
	{name: "refSibling", users: true},
	{name: "refSiblingChain"},
	{name: "refSiblingCycle", exit: 1},
	{name: "refInputs"},
	{name: "refNoBoundary"},
	{name: "refUpperCase"},
	{name: "refSplit"},
	{name: "refBroken"},
	{name: "topWritable", exit: 1, users: true},
	{name: "topWritableDir", exit: 1},
	{name: "fifo", exit: 1},
	{name: "fifoInside", exit: 1},
	{name: "noOutput", exit: 1, users: true},
	{name: "oneOutputMissing", exit: 1},
	{name: "extraFiles", where: sandboxOnly},

	// fixed.nix
	{name: "fixedFlatMd5"},
	{name: "fixedFlatSha1"},
	{name: "fixedFlatSha256", users: true},
	{name: "fixedFlatSha512"},
	{name: "fixedFlatNix32"},
	{name: "fixedFlatBase64"},
	{name: "fixedFlatSri"},
	{name: "fixedRecMd5"},
	{name: "fixedRecSha1"},
	{name: "fixedRecSha256", users: true},
	{name: "fixedRecSha512"},
	{name: "fixedRecSri"},
	{name: "fixedRecExec"},
	{name: "fixedFromFixed"},
	{name: "fixedSamePath", allow: allow(string(nixtest.Stderr), ownGoal)},
	{name: "fixedImpureEnv", env: []string{"CONFORMANCE_SET=the value", "CONFORMANCE_OTHER=unseen"}},
	{name: "impureEnvIgnored", env: []string{"CONFORMANCE_SET=the value"}},
	{name: "fixedMismatchFlat", exit: 102},
	{name: "fixedMismatchSha1", exit: 102},
	{name: "fixedMismatchRec", exit: 102, users: true},
	{name: "fixedFails", exit: 1},
	{name: "fixedExec", exit: 1},
	{name: "fixedDir", exit: 1},
	{name: "fixedSymlink", exit: 1},
	{name: "fixedWithRef", exit: 102, allow: allow(string(nixtest.Stderr), fixedRefs, string(nixtest.Paths), fixedRefs, string(nixtest.Trees), fixedRefs),
		stderrHas: []string{"fixed-output derivations must not reference store paths: '", "references 1 distinct paths, e.g. '"}},
	{name: "fixedWithSelfRef", exit: 102, allow: allow(string(nixtest.Stderr), fixedRefs, string(nixtest.Paths), fixedRefs, string(nixtest.Trees), fixedRefs),
		stderrHas: []string{"fixed-output derivations must not reference store paths: '", "references 1 distinct paths, e.g. '"}},

	// inputs.nix
	{name: "sources"},
	{name: "sourceTree", users: true},
	{name: "usesDep", users: true},
	{name: "usesOutputs"},
	{name: "usesFixed"},
	{name: "chain"},
	{name: "diamond"},
	{name: "drvAsInput"},
	{name: "drvAllOutputs"},
	{name: "builderFromStore"},
	{name: "environment", where: sandboxOnly, users: true},
	{name: "environmentPlain"},
	{name: "environmentWeird"},
	{name: "longValue"},
	{name: "manyArgs"},
	{name: "weirdArgs"},
	{name: "noArgs", exit: 1},
	{name: "argvZero"},
	{name: "stdin"},
	{name: "world", where: sandboxOnly, users: true},
	{name: "fixedWorld", where: sandboxOnly},
	{name: "unameLinux32"},
	{name: "release"},
	{name: "linux26", targets: []string{"release", "release32"}, args: []string{"--option", "impersonate-linux-26", "true"}},
	{name: "storeInSandbox", where: sandboxOnly},
	{name: "writesInput", where: sandboxOnly, users: true},
	{name: "passAsFile", users: true},
	{name: "placeholders", users: true},
	{name: "placeholdersFixed"},
	{name: "placeholdersStructured"},
	{name: "exportGraph", users: true},
	{name: "exportGraphDrv"},
	{name: "structured", users: true},
	{name: "structuredGraph"},
	{name: "exportGraphOdd", exit: 100},
	{name: "exportGraphBadName", exit: 1},
	{name: "exportGraphNonStore", exit: 100},

	// checks.nix
	{name: "allowedReferences"},
	{name: "allowedReferencesFails", exit: 1},
	{name: "allowedReferencesEmpty", exit: 1},
	{name: "allowedReferencesSelf", exit: 1},
	{name: "allowedReferencesSibling"},
	{name: "allowedRequisites"},
	{name: "allowedRequisitesFails", exit: 1},
	{name: "allowedRequisitesSelf"},
	{name: "disallowedReferences"},
	{name: "disallowedReferencesFails", exit: 1},
	{name: "disallowedReferencesSelf", exit: 1},
	{name: "disallowedRequisites"},
	{name: "disallowedRequisitesFails", exit: 1},
	{name: "illegalSpecifier", exit: 1},
	{name: "illegalSpecifierLater", exit: 1},
	{name: "outputChecksPass"},
	{name: "outputChecksReferences", exit: 1},
	{name: "outputChecksRequisites", exit: 1},
	{name: "outputChecksDisallowed", exit: 1},
	{name: "outputChecksMaxSize", exit: 1},
	{name: "outputChecksMaxClosure", exit: 1},
	{name: "structuredTopLevelChecks", allow: allow(string(nixtest.Stderr), "gobuild warns of checks that have no effect"),
		stderrHas: []string{"warning: ", "allowedReferences"}},
	{name: "preferLocal"},
	{name: "hasFeature"},
	{name: "lacksFeature", exit: 1},
	{name: "wrongSystem", exit: 1},
	{name: "wrongSystemDep", exit: 1, gobuildExit: 1, allow: allow(string(nixtest.Stderr), abortsAll),
		stderrHas: []string{"error: a 'foo-bar' with features {} is required to build '", "error: 1 dependencies of derivation '"}},
	{name: "noChroot", exit: 1, where: sandboxOnly},
	{name: "noChrootPlain", targets: []string{"noChroot"}, where: plainOnly},
	{name: "badBuiltin", exit: 100, allow: allow(string(nixtest.Logs), "Nix writes terminal colours to this log")},

	// failures.nix
	{name: "exit1", exit: 100, users: true},
	{name: "exit3", exit: 100},
	{name: "exit100", exit: 100},
	{name: "exit189", exit: 100},
	{name: "exit255", exit: 100},
	{name: "exitWithOutput", exit: 100},
	{name: "signalKill", exit: 100, where: plainOnly},
	{name: "signalTerm", exit: 100, where: plainOnly},
	{name: "signalSegv", exit: 100, where: plainOnly},
	{name: "signalInt", exit: 100, where: plainOnly},
	{name: "signalsOfProcess1", targets: []string{"signalKill"}, exit: 1, where: sandboxOnly},
	{name: "childKilled", exit: 100},
	{name: "builderNotFound", exit: 100, allow: noExec(execGarbage),
		stderrHas: []string{"error: executing '/nonexistent': No such file or directory\n", "failed with exit code 1\n"}},
	{name: "builderNotExecutable", exit: 100, allow: noExec(execGarbage),
		stderrHas: []string{"error: executing '", "-source.txt': Permission denied\n", "failed with exit code 1\n"}},
	{name: "builderIsDirectory", exit: 100, allow: noExec(execGarbage),
		stderrHas: []string{"error: executing '", "-tree': Permission denied\n", "failed with exit code 1\n"}},
	{name: "builderNoInterpreter", exit: 100, allow: noExec(execGarbage),
		stderrHas: []string{"error: executing '", "-script': No such file or directory\n", "failed with exit code 1\n"}},
	{name: "dependencyFails", exit: 100},
	{name: "dependencyFailsDeep", exit: 100},
	{name: "twoDependenciesFail", exit: 100},
	{name: "twoDependenciesFailKeepGoing", unordered: true, targets: []string{"twoDependenciesFail"}, exit: 100, args: []string{"-k"}},
	{name: "mismatchBelow", exit: 102},
	{name: "severalFail", targets: []string{"failA", "succeeds", "failB"}, exit: 100,
		allow:     allow(string(nixtest.Stderr), "Nix names the targets that it never tried among the failed ones"),
		stderrHas: []string{"fail-a.drv' failed with exit code 1\n"}},
	{name: "severalFailKeepGoing", unordered: true, targets: []string{"failA", "succeeds", "failB"}, exit: 100, args: []string{"-k"}},
	{name: "failAndMismatchKeepGoing", unordered: true, targets: []string{"failA", "fixedMismatchFlat"}, exit: 102, args: []string{"-k"}},
	{name: "keepGoingWithinGraph", unordered: true, targets: []string{"dependencyFails", "chain", "mismatchBelow"}, exit: 102, args: []string{"-k"}},
	{name: "wrongSystemKeepGoing", targets: []string{"wrongSystemDep", "chain", "tree"}, exit: 1, gobuildExit: 1, args: []string{"-k"},
		allow:     allow(string(nixtest.Stderr), abortsAll, string(nixtest.Paths), abortsAll, string(nixtest.Trees), abortsAll, string(nixtest.Logs), abortsAll),
		stderrHas: []string{"error: a 'foo-bar' with features {} is required to build '", "-chain3.drv'...\n", "-tree.drv'...\n"}},
	{name: "succeeds"},
	{name: "failA", exit: 100},
	{name: "failB", exit: 100},
	{name: "timeout", targets: []string{"sleeps"}, exit: 101, args: []string{"--option", "timeout", "1"}},
	{name: "silence", targets: []string{"silent"}, exit: 101, args: []string{"--option", "max-silent-time", "1"}},
	{name: "closesOutput", exit: 100, gobuildExit: 0, allow: allow(string(nixtest.Exit), eofIsNoDeath, string(nixtest.Stdout), eofIsNoDeath,
		string(nixtest.Stderr), eofIsNoDeath, string(nixtest.Paths), eofIsNoDeath, string(nixtest.Trees), eofIsNoDeath)},
	{name: "background", users: true},
	{name: "backgroundHolds", allow: allow(string(nixtest.Stderr), holdsLog, string(nixtest.Logs), holdsLog)},
	{name: "readsNoFile", where: sandboxOnly},

	// logs.nix
	{name: "logStreams", users: true},
	{name: "logEmpty"},
	{name: "logNoNewline"},
	{name: "logCarriageReturn"},
	{name: "logLong"},
	{name: "logLongLine", allow: allow(string(nixtest.Stderr), "gobuild shows very long lines in pieces")},
	{name: "logBinary", allow: allow(string(nixtest.Stderr), "gobuild keeps control characters from the terminal and leaves tabs alone")},
	{name: "logPhases"},
	{name: "logMessages"},
	{name: "logBadJson", allow: allow(string(nixtest.Stderr), jsonMessage), stderrHas: []string{"bad JSON log message", "\n@nix {not json\n@nix\n @nix {}\n"}},
	{name: "logFails", exit: 100},
	{name: "logTooLong", exit: 1, args: []string{"--option", "max-build-log-size", "50000"},
		allow: allow(string(nixtest.Stderr), "how much passes before the builder is stopped is a matter of timing", string(nixtest.Logs), "the same")},
	{name: "logUncompressed", targets: []string{"logLong"}, args: []string{"--option", "compress-build-log", "false"}},
	{name: "logNotKept", targets: []string{"logStreams"}, args: []string{"--option", "keep-build-log", "false"}},

	// ways to call
	{name: "severalTargets", unordered: true, targets: []string{"simple", "tree", "multi", "simple"}},
	{name: "twoJobs", targets: []string{"simple", "tree", "chain", "diamond"}, args: []string{"-j", "2"},
		allow: allow(string(nixtest.Stderr), "two builders write in any order")},
	{name: "oneOutput", targets: []string{"multi!dev"}},
	{name: "twoOutputs", targets: []string{"multi!doc,out"}},
	{name: "unknownOutput", targets: []string{"multi!nope"}, exit: 1},
	{name: "signed", targets: []string{"multi", "refSelf", "fixedRecSha256"}, args: signing},
	{name: "signedMismatch", targets: []string{"fixedMismatchRec"}, exit: 102, args: signing},
	{name: "dryRun", unordered: true, targets: []string{"diamond", "structuredGraph"}, args: []string{"--dry-run"}},
	{name: "dryRunNothing", targets: []string{"/source.txt"}, args: []string{"--dry-run"}},
	{name: "missingDerivation", targets: []string{"/00000000000000000000000000000000-missing.drv"}, exit: 1},
	{name: "missingPath", targets: []string{"/00000000000000000000000000000000-missing"}, exit: 1,
		allow:     allow(string(nixtest.Stderr), "Nix 2.8 says only that the path could not be built"),
		stderrHas: []string{"-missing' is required, but there is no substituter that can build it\n"}},
	{name: "noJobs", targets: []string{"simple"}, args: []string{"-j", "0"}, exit: 1,
		allow:     allow(string(nixtest.Stderr), "Nix adds the address of its manual"),
		stderrHas: []string{"error: unable to start any build; either increase '--max-jobs' or enable remote builds\n"}},
}
