# What every file here shares: a builder that is a shell script, and a few sources.
#
# shell is a static busybox under the name "sh": in the sandbox it is bound at
# /bin/sh, without a sandbox its place is told by the harness. Its applets need
# no PATH.
{ shell ? "/bin/sh", counter ? "/counter" }:
rec {
  inherit shell counter;
  system = "x86_64-linux";
  run = name: script: attrs:
    derivation ({ inherit name system; builder = shell; args = [ "-e" "-c" script ]; } // attrs);
  # With structured attributes the outputs' paths are in a file only.
  attrsOut = o: "${o}=$(sed -n \"s/.*\\['${o}'\\]='\\([^']*\\)'.*/\\1/p\" .attrs.sh); ";
  src = builtins.toFile "source.txt" "a source\n";
  srcRef = builtins.toFile "source-with-ref.txt" "refers to ${src}\n";
  dep = run "dep" "mkdir $out; echo from dep > $out/file; echo ${src} > $out/link-to-src" { };
  depMulti = run "dep-multi" "echo out > $out; echo dev $out > $dev; mkdir $doc; echo doc > $doc/readme" {
    outputs = [ "out" "dev" "doc" ];
  };
}
