# Graphs for runs in which both engines work in one store, or in which a run is
# interrupted. Every builder writes one line to the file "log" in the directory
# counter when it starts, so that a derivation built twice shows.
args@{ layers ? 4, width ? 5, salt ? "", work ? "", ... }:
let
  lib = import ./lib.nix (builtins.removeAttrs args [ "layers" "width" "salt" "work" ]);
  node = layer: n: lib.run "node-${toString layer}-${toString n}${salt}"
    "echo $name >> ${lib.counter}/log; ${work} for d in $deps; do cat $d; echo $d; done > $out; echo $name >> $out"
    { deps = if layer == 0 then [ ] else map (i: at (layer - 1) (n + i - (n + i) / width * width)) [ 0 1 ]; };
  table = builtins.genList (layer: builtins.genList (node layer) width) layers;
  at = layer: n: builtins.elemAt (builtins.elemAt table layer) n;
  names = builtins.genList (n: { name = "top${toString n}"; value = at (layers - 1) n; }) width;
in builtins.listToAttrs names
