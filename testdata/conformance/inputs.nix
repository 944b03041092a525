# What a builder is given: sources, inputs, environment, arguments, files.
lib: with lib; {
  sources = run "sources" "cat ${src} ${srcRef} > $out; echo ${srcRef} >> $out" { };
  sourceTree = run "source-tree" "cp -r ${./tree} $out; ls -R ${./tree} > list; cat list" { };
  usesDep = run "uses-dep" "cat $d/file > $out; readlink -f $d/link-to-src >> $out" { d = dep; };
  usesOutputs = run "uses-outputs" "cat $a $b $c/readme > $out" { a = depMulti; b = depMulti.dev; c = depMulti.doc; };
  usesFixed = run "uses-fixed" "cat $d > $out" {
    d = run "f" "printf 'hello\\n' > $out" { outputHashAlgo = "sha256"; outputHash = "5891b5b522d5df086d0ff0b110fbd9d21bb4fc7163af34d08286a2e846f6be03"; };
  };
  chain = run "chain3" "cat $d > $out; echo 3 >> $out" {
    d = run "chain2" "cat $d > $out; echo 2 >> $out" { d = run "chain1" "echo 1 > $out" { }; };
  };
  diamond = run "diamond" "cat $l $r > $out; echo $l >> $out" {
    l = run "left" "cat $b > $out" { b = dep + "/file"; };
    r = run "right" "cat $b > $out; echo $b >> $out" { b = dep + "/file"; };
  };
  drvAsInput = run "drv-as-input" "head -c 6 $drv > $out; echo $drv >> $out" { drv = builtins.unsafeDiscardOutputDependency dep.drvPath; };
  drvAllOutputs = run "drv-all-outputs" "head -c 6 $drv > $out" { drv = depMulti.drvPath; };
  builderFromStore = derivation {
    name = "builder-from-store"; inherit system; args = [ "an argument" ];
    builder = (run "tool" "mkdir $out; printf '#!${shell}\\necho tool $0 \"$1\" > $out\\n' > $out/tool; chmod +x $out/tool" { }) + "/tool";
  };
  environment = run "environment" "env | sort > $out" { alpha = "1"; Zeta = "z"; PATH = "/own"; NIX_BUILD_CORES = "mine"; TERM = "overridden"; HOME = "/elsewhere"; TMPDIR = "/lost"; };
  environmentPlain = run "environment-plain" "echo \"$PATH|$HOME|$NIX_STORE|$NIX_LOG_FD|$TERM|$name|$system|$builder|\${outputs-unset}|$out\" > $out; [ $PWD = $TMPDIR ] && [ $TMP = $TEMP ] && [ $TEMPDIR = $NIX_BUILD_TOP ] && echo same >> $out" { };
  environmentWeird = run "environment-weird" "tr '\\000' '\\n' < /proc/$$/environ | sort | grep -v -e BUILD -e TMP -e TEMP -e PWD > $out; printf '%s' \"$multi\" >> $out" {
    multi = "line one\nline two\n\ttab\rcr\n"; empty = ""; quotes = "'\"`$(echo no)\\"; "naïve" = "ñandú ☃ 漢字";
    "with space" = "v"; "k=eq" = "x"; "1digit" = "y"; t = true; f = false; n = null; i = 42; neg = -7; fl = 1.5; list = [ "a" "b c" "" [ "d" ] ]; ctl = builtins.fromJSON "\"\\u0001\\u007f\"";
  };
  longValue = run "long-value" "echo \${#big} > $out" { big = builtins.concatStringsSep "" (builtins.genList (n: "0123456789") 12000); };
  manyArgs = derivation {
    name = "many-args"; inherit system; builder = shell;
    args = [ "-c" "echo $0 $# > $out; for a; do echo \"<$a>\"; done >> $out" "zero" ] ++ builtins.genList (n: "arg${toString n}") 2000;
  };
  weirdArgs = derivation {
    name = "weird-args"; inherit system; builder = shell;
    args = [ "-c" "for a; do printf '<%s>\\n' \"$a\"; done > $out" "" "" " " "a\nb" "\"'\\$x`" "ünï☃" "-e" "\t\r" ];
  };
  noArgs = derivation { name = "no-args"; inherit system; builder = shell; args = [ ]; };
  argvZero = run "argv-zero" "tr '\\0' '\\n' < /proc/$$/cmdline | head -n 3 > $out; echo \"$0\" >> $out" { };
  stdin = run "stdin" "cat > $out; readlink /proc/self/fd/0 >> $out; for f in /proc/$$/fd/*; do echo \${f##*/}; done >> $out" { };
  world = run "world" ''
    { id -u; id -g; id -G; umask; pwd; ulimit -c; ulimit -n >/dev/null; hostname; ls -a / ; ls -a /etc /build /dev; cat /etc/passwd /etc/group /etc/hosts
      ls -ld /tmp | cut -c1-10; grep -c . /proc/net/dev; cut -d: -f1 /proc/net/dev | tail -n +3 | sort; echo $$; cat /proc/$$/personality 2>/dev/null || true
      grep -e NoNewPrivs -e Seccomp: -e CapEff -e SigBlk /proc/$$/status; uname -n; cat /proc/sys/kernel/domainname; ls -l /dev/fd /dev/stdin | sed 's/.*-> //' ; } > $out 2>&1
  '' { };
  fixedWorld = run "fixed-world" "ls -1 -a / /etc | grep -v ssl; cat /etc/nsswitch.conf; id -u; pwd; printf 'hello\\n' > $out" {
    outputHashAlgo = "sha256"; outputHash = "5891b5b522d5df086d0ff0b110fbd9d21bb4fc7163af34d08286a2e846f6be03";
  };
  unameLinux32 = run "uname-32" "uname -m > $out" { system = "i686-linux"; };
  release = run "release" "uname -r > $out; uname -m >> $out" { };
  release32 = run "release-32" "uname -r > $out; uname -m >> $out" { system = "i686-linux"; };
  storeInSandbox = run "store-in-sandbox" "ls /nix/store > list; grep -v -e $(basename $out) list > $out; ls -ld $NIX_STORE | cut -c1-10 >> $out" { d = dep; inherit srcRef; };
  writesInput = run "writes-input" "(echo bad > $d/file) 2>/dev/null && echo wrote > $out || echo refused > $out; (echo bad > ${src}) 2>/dev/null && echo wrote >> $out || echo refused >> $out; (: > $d/new) 2>/dev/null && echo wrote >> $out || echo refused >> $out" { d = dep; };
  passAsFile = run "pass-as-file" "cat $bigPath > $out; echo \${big-unset} \${absentPath-unset} $passAsFile >> $out; basename $bigPath >> $out; stat -c %a $bigPath >> $out" {
    passAsFile = [ "big" "absent" ]; big = "the big text\nline2 \"q\" $x\n";
  };
  placeholders = run "placeholders" "cat $bigPath > $out; echo $var ${placeholder "dev"} x${placeholder "out"}y ${placeholder "nope"} >> $out; echo dev > $dev" {
    outputs = [ "out" "dev" ]; passAsFile = [ "big" ]; big = "in a file: ${placeholder "out"} ${placeholder "dev"}\n"; var = "${placeholder "out"}/lib:${placeholder "dev"}";
  };
  placeholdersFixed = derivation {
    name = "placeholders-fixed"; inherit system; builder = shell; outputHashAlgo = "sha256"; outputHashMode = "flat";
    outputHash = "5891b5b522d5df086d0ff0b110fbd9d21bb4fc7163af34d08286a2e846f6be03"; args = [ "-c" "echo hello > ${placeholder "out"}" ];
  };
  placeholdersStructured = derivation {
    name = "placeholders-structured"; inherit system; builder = shell; __structuredAttrs = true; outputs = [ "out" "dev" ];
    args = [ "-e" "-c" "cat .attrs.json .attrs.sh > ${placeholder "out"}; echo > ${placeholder "dev"}" ];
    flags = [ "--prefix=${placeholder "out"}" "--dev=${placeholder "dev"}" ]; set = { a = placeholder "dev"; };
  };
  exportGraph = run "export-graph" "cat graph g2 > $out" { exportReferencesGraph = [ "graph" (run "user" "echo $d > $out" { d = dep; }) "g2" srcRef ]; };
  exportGraphDrv = run "export-graph-drv" "cat graph > $out" { exportReferencesGraph = [ "graph" dep.drvPath ]; };
  structured = derivation {
    name = "structured"; inherit system; builder = shell; __structuredAttrs = true; outputs = [ "out" "dev" ];
    args = [ "-e" "-c" (attrsOut "out" + attrsOut "dev" + "cat .attrs.json .attrs.sh > $out; basename $NIX_ATTRS_JSON_FILE >> $out; basename $NIX_ATTRS_SH_FILE >> $out; echo \${str-unset} \${name-unset} \${__json-unset} >> $out; echo dev > $dev") ];
    str = "a 'quoted' \"str\" \\ \n end"; int = 7; negInt = -3; big = 4294967296; float = 1.5; intFloat = 2.0; t = true; f = false; n = null;
    list = [ "a" "b c" 1 true ]; emptyList = [ ]; nested = { a = 1; b = [ 1 [ 2 ] ]; }; flat = { x = "1"; "y z" = "it's"; }; emptySet = { }; "bad-name" = "nope"; "_ok1" = "yes"; uni = "é☃"; d = dep;
  };
  structuredGraph = derivation {
    name = "structured-graph"; inherit system; builder = shell; __structuredAttrs = true;
    args = [ "-e" "-c" (attrsOut "out" + "sed 's/,\"valid\":true//g' .attrs.json > $out") ]; # newer releases say that a path is valid
    exportReferencesGraph = { graph = [ depMulti ]; g2 = srcRef; };
  };
  exportGraphOdd = run "export-graph-odd" "echo x > $out" { exportReferencesGraph = "graph"; };
  exportGraphBadName = run "export-graph-bad-name" "echo x > $out" { exportReferencesGraph = "a/b ${src}"; };
  exportGraphNonStore = run "export-graph-non-store" "echo x > $out" { exportReferencesGraph = "a /etc"; };
}
