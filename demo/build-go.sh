# Builds gobuild with the Go toolchain mounted at /opt/go; runs inside the
# sandbox. Its modules come from a store path laid out like a module proxy, so
# go checks them against go.sum as always and never needs a network.
# The derivation sets the variables that nothing here sets.
# shellcheck shell=sh disable=SC2154

set -eu
export GOROOT=/opt/go GOTOOLCHAIN=local GOENV=off GOTELEMETRY=off
export GOPATH="$TMPDIR/path" GOCACHE="$TMPDIR/cache" GOFLAGS=-mod=readonly
export GOPROXY="file://$modules" GOSUMDB=off CGO_ENABLED=1
export PATH="$GOROOT/bin:$PATH"

cp -R "$src" source
chmod -R u+w source
cd source
make static
mkdir -p "$out/bin"
cp gobuild "$out/bin"
