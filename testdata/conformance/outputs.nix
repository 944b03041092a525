# What a builder may leave behind as its outputs.
lib: with lib; {
  simple = run "simple" "echo hello > $out" { };
  emptyFile = run "empty-file" ": > $out" { };
  emptyDir = run "empty-dir" "mkdir $out" { };
  execTop = run "exec-top" "echo '#!/bin/sh' > $out; chmod 755 $out" { };
  symlinkTop = run "symlink-top" "ln -s ${src} $out" { };
  symlinkDangling = run "symlink-dangling" "ln -s nowhere/at/all $out" { };
  multi = run "multi" "echo o > $out; mkdir $dev; echo d > $dev/d; echo c > $doc" { outputs = [ "out" "dev" "doc" ]; };
  multiNoOut = run "multi-no-out" "echo l > $lib; echo b > $bin" { outputs = [ "lib" "bin" ]; };
  tree = run "tree" ''
    mkdir -p $out/bin $out/lib/empty $out/share/a/b
    printf '#!/bin/sh\necho hi\n' > $out/bin/hi; chmod +x $out/bin/hi
    ln -s ../bin/hi $out/lib/rel; ln -s /absolute $out/lib/abs; ln -s "" $out/lib/none 2>/dev/null || true
    echo one > $out/share/a/one; ln $out/share/a/one $out/share/a/b/hard
    ln -s one $out/share/a/sym; ln $out/share/a/sym $out/share/a/hardsym 2>/dev/null || true
  '' { };
  modes = run "modes" ''
    mkdir $out; cd $out; touch a b c d e f g
    chmod 000 a; chmod 0100 b; chmod 0011 c; chmod 0666 d; chmod 0777 e; chmod 0444 f; chmod 0555 g
    mkdir d0 d1 d2 d3; touch d2/x; chmod 0 d0; chmod 1777 d1; chmod 0500 d2; chmod 0300 d3
    ln -s a l
  '' { };
  setuidRefused = run "setuid-refused" ''
    mkdir $out; cd $out; touch a b c
    chmod 4755 a && echo set-uid worked > said || echo set-uid refused > said
    chmod 2755 b && echo set-gid worked >> said || echo set-gid refused >> said
    chmod 1755 c && echo sticky worked >> said || echo sticky refused >> said
  '' { };
  times = run "times" ''
    mkdir $out; cd $out; touch -d @1 one; touch -d @0 zero; touch -d @4000000000 future; touch now
    mkdir dir; touch -d @7 dir; ln -s now link
  '' { };
  deepDirs = run "deep-dirs" ''
    d=$out; i=0; while [ $i -lt 200 ]; do d=$d/d; i=$((i+1)); done; mkdir -p $d; echo deep > $d/file
  '' { };
  manyFiles = run "many-files" ''
    mkdir $out; cd $out; i=0; while [ $i -lt 600 ]; do echo $i > f$i; i=$((i+1)); done
    touch A _ a Z 0 -- .hidden .a aa a.b a-b aB
  '' { };
  oddNames = run "odd-names" ''
    mkdir $out; cd $out
    touch "$(printf '\377\376')" "$(printf 'new\nline')" "$(printf 'tab\there')" 'sp ace' -- '-dash' "quo'te\"" 'back\slash' 'ünïcödé☃' '漢字' '~nix~case~hack~1' 'a:b' '*'
    touch "$(printf '\001ctl')" 'e' 'é' 'E'
    mkdir 'dir with space'; touch 'dir with space/inner'
  '' { };
  longNames = run "long-names" ''
    mkdir $out; cd $out; n=x; i=0; while [ $i -lt 254 ]; do n=''${n}x; i=$((i+1)); done; touch $n; ln -s "$n$n$n$n" link
  '' { };
  binary = run "binary" ''
    i=0; while [ $i -lt 256 ]; do printf "\\$(printf %o $i)"; i=$((i+1)); done > $out
  '' { };
  sizes = run "sizes" ''
    mkdir $out; cd $out; for n in 0 1 7 8 9 15 16 17 4095 4096 4097 65535 65536 65537; do head -c $n /dev/zero > f$n; done
  '' { };
  bigFile = run "big-file" "head -c 12000001 /dev/zero | tr '\\000' 'k' > $out" { };
  sparse = run "sparse" "dd if=/dev/null of=$out bs=1 seek=5000000 2>/dev/null; echo done" { };
  refSelf = run "ref-self" "mkdir $out; echo me: $out > $out/f; ln -s $out/f $out/l" { };
  refSibling = run "ref-sibling" "echo $dev > $out; echo alone > $dev" { outputs = [ "out" "dev" ]; };
  refSiblingChain = run "ref-sibling-chain" "echo $b $c > $a; echo $c > $b; echo end > $c" { outputs = [ "c" "a" "b" ]; };
  refSiblingCycle = run "ref-sibling-cycle" "echo $dev > $out; echo $out > $dev" { outputs = [ "out" "dev" ]; };
  refInputs = run "ref-inputs" "mkdir $out; echo $d > $out/f; ln -s $src $out/l; mkdir $out/$(basename $other)" {
    d = dep; inherit src; other = depMulti.dev; unused = depMulti.doc;
  };
  refNoBoundary = run "ref-no-boundary" "h=\${d##*/}; h=\${h%%-*}; echo \"xyz\${h}abc0123\" > $out" { d = dep; };
  refUpperCase = run "ref-upper-case" "h=\${d##*/}; h=\${h%%-*}; echo $h | tr a-z A-Z > $out" { d = dep; };
  refSplit = run "ref-split" ''
    h=''${d##*/}; h=''${h%%-*}; mkdir $out
    for n in 65520 65535 65536 32760 131060 262140; do { head -c $n /dev/zero | tr '\000' 'a'; printf %s $h; printf tail; } > $out/at$n; done
  '' { d = dep; };
  refBroken = run "ref-broken" "h=\${d##*/}; h=\${h%%-*}; echo \"\${h%????????????????} \${h#????????????????}\" > $out" { d = dep; };
  topWritable = run "top-writable" "echo x > $out; chmod 777 $out" { };
  topWritableDir = run "top-writable-dir" "mkdir $out; chmod 775 $out" { };
  fifo = run "fifo" "mkfifo $out" { };
  fifoInside = run "fifo-inside" "mkdir $out; mkfifo $out/f" { };
  noOutput = run "no-output" "true" { };
  oneOutputMissing = run "one-output-missing" "echo x > $out" { outputs = [ "out" "dev" ]; };
  extraFiles = run "extra-files" "echo x > $out; echo junk > junk; echo t > /tmp/t 2>/dev/null || true" { };
}
