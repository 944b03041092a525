# Derivations whose builders are part of the engine: packages to link, archives in the directory files, a server at url.
{ shell ? "/bin/sh", counter ? "/counter", files, url }:
let
  lib = import ./lib.nix { inherit shell counter; };
  pkg = name: script: lib.run name "mkdir $out; cd $out; ${script}" { };
  one = pkg "one" ''
    mkdir -p bin share/doc/one lib nix-support info only/deep
    echo a >bin/one; echo x >bin/both; ln -s nowhere bin/dangling; echo h >.hidden; echo l >log; echo i >info/dir
    echo p >nix-support/propagated-build-inputs; echo s >share/s; ln -s share share2; echo m >manifest.nix; echo f >only/deep/f
    echo p >lib/perllocal.pod; echo '{}' >manifest.json'';
  two = pkg "two" ''
    mkdir -p bin lib/x share/doc/two share2 nix-support log info
    echo b >bin/two; echo y >bin/both; echo z >lib/x/z; echo 2 >share2/two; echo i >info/dir; echo l >log/inside
    echo ${three} ${four} >nix-support/propagated-user-env-packages'';
  three = pkg "three" "mkdir -p bin lib/x; echo c >bin/three; echo w >lib/x/w; echo y >bin/both";
  four = pkg "four" "mkdir -p bin nix-support; echo d >bin/four; echo other >bin/three; echo ${three} >nix-support/propagated-user-env-packages";
  flat = lib.run "flat" "echo file >$out" { };
  binFile = pkg "bin-file" "echo >bin";
  binDirs = pkg "bin-dirs" "mkdir -p bin/one bin/both";
  env = name: derivations: derivation {
    inherit name derivations; system = "builtin"; builder = "builtin:buildenv"; manifest = one;
  };
  channel = file: derivation {
    name = "channel"; system = "builtin"; builder = "builtin:unpack-channel"; channelName = "mine"; src = files + "/${file}";
  };
  fetch = name: hash: attrs: derivation ({
    inherit name; system = "builtin"; builder = "builtin:fetchurl"; url = "${url}/hello";
    outputHashMode = "flat"; outputHashAlgo = "sha256"; outputHash = hash;
  } // attrs);
  hello = "5891b5b522d5df086d0ff0b110fbd9d21bb4fc7163af34d08286a2e846f6be03";
in {
  envMerge = env "env-merge" [ "true" "5" "1" one "true" "4" "1" two ];
  envOther = env "env-other" [ "true" "4" "1" one "true" "5" "1" two ];
  envInactive = env "env-inactive" [ "true" "5" "1" one "false" "5" "1" three ];
  envOutputs = env "env-outputs" [ "true" "5" "2" three flat "yes" "6" "1" four ];
  envTwice = env "env-twice" [ "true" "5" "1" one "true" "6" "1" one ];
  envFlat = env "env-flat" [ "true" "5" "1" three "true" "5" "1" flat ];
  envEmpty = env "env-empty" [ ];
  envNegative = env "env-negative" [ "true" "5" "1" one "true" "-5" "1" three ];
  envConflict = env "env-conflict" [ "true" "5" "1" three "true" "5" "1" two ];
  envFileFirst = env "env-file-first" [ "true" "1" "1" binFile "true" "2" "1" one ];
  envFileLast = env "env-file-last" [ "true" "1" "1" one "true" "2" "1" binFile ];
  envFileLater = env "env-file-later" [ "true" "1" "1" one "true" "2" "1" two "true" "3" "1" binFile ];
  envDirs = env "env-dirs" [ "true" "1" "1" one "true" "2" "1" binDirs ];
  envMissing = derivation { name = "env-missing"; system = "builtin"; builder = "builtin:buildenv"; };
  channelTar = channel "plain.tar";
  channelGzip = channel "packed.tar.gz";
  channelXz = channel "packed.tar.xz";
  channelBzip2 = channel "packed.tar.bz2";
  channelZstd = channel "packed.tar.zst";
  channelTwo = channel "two.tar";
  channelOut = channel "out.tar";
  channelLink = channel "link.tar";
  channelGarbage = channel "garbage";
  channelMissing = derivation { name = "channel-missing"; system = "builtin"; builder = "builtin:unpack-channel"; channelName = "x"; };
  fetchFile = fetch "fetch-file" hello { };
  fetchFileUrl = fetch "fetch-file-url" hello { url = "file://${toString files}/hello"; };
  fetchExecutable = fetch "fetch-executable" "65436039d3f93ca19a8dbf1c60b15739ed58f53f14b8d372acc1b351533010fa" { outputHashMode = "recursive"; executable = "1"; };
  fetchUnpack = fetch "fetch-unpack" "76359b89d48f715ddf0e4661bf1784af0b37fc0cf68ffc13ad50e30b49f8fd33" { outputHashMode = "recursive"; unpack = "1"; url = "${url}/tree.nar"; };
  fetchUnpackXz = fetch "fetch-unpack-xz" "76359b89d48f715ddf0e4661bf1784af0b37fc0cf68ffc13ad50e30b49f8fd33" { outputHashMode = "recursive"; unpack = "1"; url = "${url}/tree.nar.xz"; };
  fetchUnpackNot = fetch "fetch-unpack-not" hello { outputHashMode = "recursive"; unpack = "1"; };
  fetchWrong = fetch "fetch-wrong" "0000000000000000000000000000000000000000000000000000000000000000" { };
  fetchNone = fetch "fetch-none" hello { url = "${url}/none"; };
  fetchMirror = fetch "fetch-mirror" hello { url = "${url}/none"; };
  fetchRedirect = fetch "fetch-redirect" hello { url = "${url}/redirect"; };
}
