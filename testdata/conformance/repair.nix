# Derivations whose outputs are damaged, or built again and compared.
args:
let
  lib = import ./lib.nix args;
  inherit (lib) run counter;
  text = "sha256-LPJNul+wow4m6DsqxbninhsWHlwfp0JecwQzYpOLmCQ="; # of "hello"
in rec {
  inherit (lib) dep depMulti;
  # Outputs that refer to themselves, to each other and to an input.
  two = run "two" ''
    mkdir $out $dev
    echo me: $out > $out/self; echo me: $dev > $dev/self; echo $out > $dev/other; ln -s $out/self $dev/link
    echo ${dep} > $out/dep; printf '#!/bin/sh\n' > $out/run; chmod 755 $out/run; echo a log
  '' { outputs = [ "out" "dev" ]; };
  chain = run "chain" "mkdir $a $b $c; echo $b $c $a > $a/f; echo $c $b > $b/f; ln -s $c $b/$(basename $c); echo $c > $c/f" { outputs = [ "c" "a" "b" ]; };
  big = run "big" "head -c 3000001 /dev/zero > $out" { };
  top = run "top" "echo ${two} ${two.dev} ${big} > $out" { };
  fickle = run "fickle" "cat /proc/sys/kernel/random/uuid > $out" { };
  fickleBoth = run "fickle-both" "cat /proc/sys/kernel/random/uuid > $a; cat /proc/sys/kernel/random/uuid > $b" { outputs = [ "a" "b" ]; };
  fixed = run "fixed" "cat ${counter}/text > $out" { outputHash = text; };
}
