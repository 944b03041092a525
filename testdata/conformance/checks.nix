# Limits on what an output may refer to, how large it may be, and where it may be built.
lib: with lib;
let
  top = run "user-of-dep" "echo $d > $out" { d = dep; };
  structured = name: script: attrs: run name (attrsOut "out" + script) ({ __structuredAttrs = true; } // attrs);
in {
  allowedReferences = run "allowed-references" "echo ${src} $out > $out" { allowedReferences = [ src "out" ]; };
  allowedReferencesFails = run "allowed-references-fails" "echo ${src} ${srcRef} > $out" { allowedReferences = [ srcRef ]; };
  allowedReferencesEmpty = run "allowed-references-empty" "echo ${src} > $out" { allowedReferences = [ ]; };
  allowedReferencesSelf = run "allowed-references-self" "echo $out > $out" { allowedReferences = [ ]; };
  allowedReferencesSibling = run "allowed-references-sibling" "echo $dev > $out; echo x > $dev" { outputs = [ "out" "dev" ]; allowedReferences = [ "dev" ]; };
  allowedRequisites = run "allowed-requisites" "echo $t $out > $out" { t = top; allowedRequisites = [ top dep src ]; };
  allowedRequisitesFails = run "allowed-requisites-fails" "echo $t > $out" { t = top; allowedRequisites = [ top dep ]; };
  allowedRequisitesSelf = run "allowed-requisites-self" "echo $out > $out" { allowedRequisites = [ ]; };
  disallowedReferences = run "disallowed-references" "echo $t > $out" { t = top; disallowedReferences = [ dep src ]; };
  disallowedReferencesFails = run "disallowed-references-fails" "echo $t $d > $out" { t = top; d = dep; disallowedReferences = [ dep ]; };
  disallowedReferencesSelf = run "disallowed-references-self" "echo $out > $out" { disallowedReferences = [ "out" ]; };
  disallowedRequisites = run "disallowed-requisites" "echo $t > $out" { t = top; disallowedRequisites = [ srcRef ]; };
  disallowedRequisitesFails = run "disallowed-requisites-fails" "echo $t > $out" { t = top; disallowedRequisites = [ src ]; };
  illegalSpecifier = run "illegal-specifier" "echo x > $out" { allowedReferences = [ "bogus" ]; };
  illegalSpecifierLater = run "illegal-specifier-later" "echo x > $out; echo x > $dev" { outputs = [ "out" "dev" ]; disallowedRequisites = [ "out" "/not/a/store/path" ]; };
  outputChecksPass = structured "output-checks-pass" "echo ${src} > $out" {
    outputChecks.out = { maxSize = 1000; maxClosureSize = 5000; allowedReferences = [ src ]; allowedRequisites = [ src "out" ]; disallowedReferences = [ srcRef ]; disallowedRequisites = [ srcRef ]; };
  };
  outputChecksReferences = structured "output-checks-references" "echo ${src} > $out" { outputChecks.out.allowedReferences = [ "out" ]; };
  outputChecksRequisites = structured "output-checks-requisites" "echo $out > $out" { outputChecks.out.allowedRequisites = [ ]; };
  outputChecksDisallowed = structured "output-checks-disallowed" "echo ${srcRef} > $out" { outputChecks.out.disallowedRequisites = [ src ]; };
  outputChecksMaxSize = structured "output-checks-max-size" "head -c 2000 /dev/zero > $out" { outputChecks.out.maxSize = 1000; };
  outputChecksMaxClosure = structured "output-checks-max-closure" "echo ${srcRef} > $out" { outputChecks.out.maxClosureSize = 300; };
  structuredTopLevelChecks = structured "structured-top-level-checks" "echo ${src} > $out" { allowedReferences = [ ]; };
  preferLocal = run "prefer-local" "echo x > $out" { preferLocalBuild = true; allowSubstitutes = false; };
  hasFeature = run "has-feature" "echo x > $out" { requiredSystemFeatures = [ "big-parallel" ]; };
  lacksFeature = run "lacks-feature" "echo x > $out" { requiredSystemFeatures = [ "big-parallel" "nope" ]; };
  wrongSystem = run "wrong-system" "echo x > $out" { system = "foo-bar"; };
  noChroot = run "no-chroot" "echo x > $out" { __noChroot = true; };
  badBuiltin = derivation { name = "bad-builtin"; system = "builtin"; builder = "builtin:nope"; };
  wrongSystemDep = run "wrong-system-dep" "cat $d > $out" { d = run "wrong-system-below" "echo x > $out" { system = "foo-bar"; }; };
}
