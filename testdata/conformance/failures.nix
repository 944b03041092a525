# Builders that fail, and builders that behave oddly.
lib: with lib;
let fail = name: code: run name "echo ${name} fails >&2; exit ${toString code}" { };
in {
  exit1 = fail "exit-1" 1;
  exit3 = fail "exit-3" 3;
  exit100 = fail "exit-100" 100;
  exit189 = fail "exit-189" 189;
  exit255 = fail "exit-255" 255;
  exitWithOutput = run "exit-with-output" "echo produced > $out; exit 4" { };
  signalKill = run "signal-kill" "kill -9 $$" { };
  signalTerm = run "signal-term" "kill -15 $$" { };
  signalSegv = run "signal-segv" "kill -11 $$" { };
  signalInt = run "signal-int" "kill -2 $$; sleep 1" { };
  childKilled = run "child-killed" "sh -c 'kill -9 $$'; echo unreachable" { };
  builderNotFound = derivation { name = "builder-not-found"; inherit system; builder = "/nonexistent"; };
  builderNotExecutable = derivation { name = "builder-not-executable"; inherit system; builder = src; };
  builderIsDirectory = derivation { name = "builder-is-directory"; inherit system; builder = "${./tree}"; };
  builderNoInterpreter = derivation {
    name = "builder-no-interpreter"; inherit system;
    builder = run "script" "printf '#!/no/such/interpreter\\n' > $out; chmod +x $out" { };
  };
  dependencyFails = run "dependency-fails" "cat $d > $out" { d = fail "dependency" 1; };
  dependencyFailsDeep = run "top" "cat $d > $out" { d = run "middle" "cat $d > $out" { d = fail "bottom" 5; }; };
  twoDependenciesFail = run "two-dependencies-fail" "cat $a $b $c > $out" { a = fail "fails-a" 1; b = fail "fails-b" 2; c = dep; };
  failA = run "fail-a" "echo a; exit 1" { };
  failB = run "fail-b" "echo b; exit 2" { };
  succeeds = run "succeeds" "echo fine > $out" { };
  mismatchBelow = run "mismatch-below" "cat $d > $out" {
    d = run "mismatched" "echo x > $out" { outputHashAlgo = "sha256"; outputHash = "5891b5b522d5df086d0ff0b110fbd9d21bb4fc7163af34d08286a2e846f6be03"; };
  };
  sleeps = run "sleeps" "echo started; sleep 30; echo x > $out" { };
  silent = run "silent" "echo once; sleep 30; echo x > $out" { };
  closesOutput = run "closes-output" "exec >&- 2>&-; sleep 0.3; echo survived > $out" { };
  background = run "background" "(sleep 600 >/dev/null 2>&1 </dev/null &); echo x > $out" { };
  backgroundHolds = run "background-holds" "(sleep 1; echo late) & echo x > $out" { };
  readsNoFile = run "reads-no-file" "cat /etc/shadow > $out 2>/dev/null || echo no shadow > $out" { };
}
