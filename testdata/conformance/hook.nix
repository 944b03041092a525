# What build hooks are asked about: with inputs and several outputs, with
# demands on the machine, failing, and one that ends when the lab does.
args@{ ... }:
let lib = import ./lib.nix args; in with lib;
rec {
  several = run "several" "echo to the log; echo $dep > $out; echo $out > $dev" { inherit dep src; outputs = [ "out" "dev" ]; };
  demanding = run "demanding" "cat $several > $out" { inherit several; requiredSystemFeatures = [ "kvm" "big-parallel" "benchmark" ]; };
  failing = run "failing" "echo about to fail; exit 3" { };
  slow = run "slow" "echo started >> ${counter}/log; while [ -e ${counter}/log ]; do sleep 0.1; done; echo > $out" { };
}
