# Derivations whose outputs are in a binary cache, some of them damaged there.
args:
let
  lib = import ./lib.nix args;
  inherit (lib) run;
  leaf = run "leaf" "echo leaf > $out" { };
  tree = run "tree" "mkdir -p $out/bin $out/share; echo '#!/bin/sh' > $out/bin/x; chmod 755 $out/bin/x; ln -s ../bin/x $out/share/y; echo ${leaf} > $out/share/leaf; echo $out > $out/share/self" { };
in {
  inherit leaf tree;
  multi = run "multi" "echo out > $out; echo dev $out > $dev" { outputs = [ "out" "dev" ]; };
  # Not in any cache, but what it needs is.
  top = run "top" "cat ${tree}/share/leaf > $out; echo ${tree} >> $out" { };
  never = run "never" "echo never > $out" { allowSubstitutes = false; };
  fixed = run "fixed" "echo fixed > $out" {
    outputHashMode = "flat"; outputHashAlgo = "sha256";
    outputHash = builtins.hashString "sha256" "fixed\n";
  };
  # The cache lacks the reference.
  lacking = run "lacking" "echo ${run "lacked" "echo lacked > $out" { }} > $out" { };
  # The cache has another archive than it says.
  damaged = run "damaged" "echo damaged > $out" { };
  # The cache says that it has the archive.
  gone = run "gone" "echo gone > $out" { };
}
