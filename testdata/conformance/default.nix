# Every derivation of the conformance suite, by the name its test bears.
args:
let lib = import ./lib.nix args;
in import ./outputs.nix lib // import ./fixed.nix lib // import ./inputs.nix lib
// import ./checks.nix lib // import ./failures.nix lib // import ./logs.nix lib
