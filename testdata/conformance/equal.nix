# Outputs that have files in common, for stores whose equal files are linked.
args: with import ./lib.nix args; {
  first = run "first" ''
    mkdir -p $out/sub; cd $out; echo same > a; echo same > sub/b; echo same > run; chmod 755 run
    : > empty; : > sub/empty; ln -s a l; ln -s a sub/l; echo only here > one
    head -c 3000000 /dev/zero > big; cp big sub/big2; ln a hard; ln one sub/hard
  '' { };
  second = run "second" "mkdir $out; cd $out; echo same > c; head -c 3000000 /dev/zero > big; ln -s a m; : > none" { };
  single = run "single" "echo same > $out" { };
  link = run "link" "ln -s a $out" { };
  several = run "several" "mkdir $out; echo same > $out/x; echo same > $dev; chmod 755 $dev" { outputs = [ "out" "dev" ]; };
  fixed = run "fixed" "echo same > $out" {
    outputHashMode = "recursive"; outputHash = "sha256-nfQuSohOxIbAranXrODobQFjHEMqRuW7ymPJBPZsSq8=";
  };
  refers = run "refers" "mkdir $out; echo ${src} > $out/1; echo ${src} > $out/2; echo $out > $out/self" { };
}
