# Derivations whose output's hash is known beforehand.
lib: with lib;
let
  hello = "printf 'hello\\n' > $out";
  dir = "mkdir $out; printf 'hello\\n' > $out/f; ln -s f $out/l";
  flat = name: algo: hash: run name hello { outputHashMode = "flat"; outputHashAlgo = algo; outputHash = hash; };
  rec' = name: algo: hash: run name dir { outputHashMode = "recursive"; outputHashAlgo = algo; outputHash = hash; };
  sha256hello = "5891b5b522d5df086d0ff0b110fbd9d21bb4fc7163af34d08286a2e846f6be03";
in {
  fixedFlatMd5 = flat "fixed-flat-md5" "md5" "b1946ac92492d2347c6235b4d2611184";
  fixedFlatSha1 = flat "fixed-flat-sha1" "sha1" "f572d396fae9206628714fb2ce00f72e94f2258f";
  fixedFlatSha256 = flat "fixed-flat-sha256" "sha256" sha256hello;
  fixedFlatSha512 = flat "fixed-flat-sha512" "sha512" "e7c22b994c59d9cf2b48e549b1e24666636045930d3da7c1acb299d1c3b7f931f94aae41edda2c2b207a36e10f8bcb8d45223e54878f5b316e7ce3b6bc019629";
  fixedFlatNix32 = flat "fixed-flat-nix32" "sha256" "00xyyr3fi8l6hb839bv3f7yb86yjv7xi1cgh1xnhipym4asvb4aq";
  fixedFlatBase64 = flat "fixed-flat-base64" "sha256" "WJG1tSLV3whtD/CxEPvZ0hu0/HFjrzTQgoai6Eb2vgM=";
  fixedFlatSri = run "fixed-flat-sri" hello { outputHash = "sha256-WJG1tSLV3whtD/CxEPvZ0hu0/HFjrzTQgoai6Eb2vgM="; };
  fixedRecMd5 = rec' "fixed-rec-md5" "md5" "bf406ebf0b5379badba632cec74db8e8";
  fixedRecSha1 = rec' "fixed-rec-sha1" "sha1" "8d9f95bc9d3de9b70d8a34992dccb7a2c77777e0";
  fixedRecSha256 = rec' "fixed-rec-sha256" "sha256" "0487f7114f32ced46ba9293e29dca7904be99f2182302c3214de8dae13e49af2";
  fixedRecSha512 = rec' "fixed-rec-sha512" "sha512" "5bca1263885c7065361bd499e6458425d25a3e9d42ce58b8544908599b81fbda94c91f3ec99d95f9a8415d9ebae7dcd769a8f86a8eb475364680b8b4d5b4f6aa";
  fixedRecSri = run "fixed-rec-sri" dir { outputHashMode = "recursive"; outputHash = "sha256-BIf3EU8yztRrqSk+KdynkEvpnyGCMCwyFN6NrhPkmvI="; };
  fixedRecExec = run "fixed-rec-exec" "echo x > $out; chmod +x $out" { outputHashMode = "recursive"; outputHash = "sha256-V7nsl75ivyOEKjGYIw68/OQoz/wEjp3yFuqBzeCKsio="; };
  fixedFromFixed = run "fixed-from-fixed" "cat $d > $out" {
    d = flat "fixed-inner" "sha256" sha256hello; outputHashAlgo = "sha256"; outputHash = sha256hello;
  };
  # Two derivations with one output path: the second finds it valid.
  fixedSamePath = run "fixed-same-path" "cat $a $b > $out" {
    a = run "same" "${hello}; echo one" { outputHashAlgo = "sha256"; outputHash = sha256hello; };
    b = run "same" "${hello}; echo two" { outputHashAlgo = "sha256"; outputHash = sha256hello; };
  };
  fixedImpureEnv = run "fixed-impure-env" "printf '%s|%s|%s\\n' \"$CONFORMANCE_SET\" \"$CONFORMANCE_UNSET\" \"\${CONFORMANCE_OTHER-none}\" >&2; echo $NIX_OUTPUT_CHECKED >&2; ${hello}" {
    outputHashAlgo = "sha256"; outputHash = sha256hello; impureEnvVars = [ "CONFORMANCE_SET" "CONFORMANCE_UNSET" ];
  };
  impureEnvIgnored = run "impure-env-ignored" "echo \${CONFORMANCE_SET-none} > $out" { impureEnvVars = [ "CONFORMANCE_SET" ]; };
  fixedMismatchFlat = run "fixed-mismatch-flat" "echo other > $out" { outputHashAlgo = "sha256"; outputHash = sha256hello; };
  fixedMismatchSha1 = run "fixed-mismatch-sha1" "echo other > $out" { outputHashAlgo = "sha1"; outputHash = "f572d396fae9206628714fb2ce00f72e94f2258f"; };
  fixedMismatchRec = run "fixed-mismatch-rec" dir { outputHashMode = "recursive"; outputHashAlgo = "sha256"; outputHash = sha256hello; };
  fixedFails = run "fixed-fails" "echo no network today; exit 7" { outputHashAlgo = "sha256"; outputHash = sha256hello; };
  fixedExec = run "fixed-exec" "${hello}; chmod +x $out" { outputHashAlgo = "sha256"; outputHash = sha256hello; };
  fixedDir = run "fixed-dir" "mkdir $out" { outputHashAlgo = "sha256"; outputHash = sha256hello; };
  fixedSymlink = run "fixed-symlink" "ln -s x $out" { outputHashAlgo = "sha256"; outputHash = sha256hello; };
  fixedWithRef = run "fixed-with-ref" "mkdir $out; echo ${src} > $out/f" { outputHashMode = "recursive"; outputHashAlgo = "sha256"; outputHash = sha256hello; };
  fixedWithSelfRef = run "fixed-with-self-ref" "mkdir $out; echo $out > $out/f" { outputHashMode = "recursive"; outputHashAlgo = "sha256"; outputHash = sha256hello; };
}
