#!/bin/sh
# stage-go.sh DIR collects what builds gobuild, from the current directory:
# DIR/gobuild-source (neither tests nor anything built, so that only a change of
# the program rebuilds it) and DIR/go-modules, the needed modules laid out like a
# module proxy.

set -eu
dir=$1
rm -rf "$dir/gobuild-source" "$dir/go-modules"
mkdir -p "$dir/gobuild-source" "$dir/go-modules"

find Makefile go.mod go.sum scripts cmd internal -name testdata -prune -o \
	-type f ! -name '*_test.go' ! -path internal/sandbox/initelf/init \
	! -path internal/netprogram/program/gobuild-net -print >"$dir/files"
tar cf - -T "$dir/files" | tar xf - -C "$dir/gobuild-source"

# shellcheck disable=SC2016 # a template, not a variable
go list -buildvcs=false -deps -f '{{with .Module}}{{if .Version}}{{.Path}}@{{.Version}}{{end}}{{end}}' ./cmd/gobuild ./cmd/gobuild-net >"$dir/modules"
sort -u -o "$dir/modules" "$dir/modules"
xargs go mod download <"$dir/modules"

cache=$(go env GOMODCACHE)/cache/download
while IFS=@ read -r path version; do
	# A module proxy writes the capital letter X as !x.
	escaped=$(printf '%s' "$path" | sed 's/[A-Z]/!\l&/g')
	mkdir -p "$dir/go-modules/$escaped/@v"
	for kind in info mod zip; do
		cp "$cache/$escaped/@v/$version.$kind" "$dir/go-modules/$escaped/@v/"
	done
done <"$dir/modules"
