#!/bin/sh
# fuzz.sh TIME runs every fuzz target of the project for TIME each.

set -eu

grep -rl --include='*_test.go' '^func Fuzz' cmd internal | xargs -n 1 dirname | sort -u |
	while read -r dir; do
		for target in $(sed -n 's/^func \(Fuzz[A-Za-z0-9_]*\)(.*/\1/p' "$dir"/*_test.go); do
			echo "$dir $target"
			${GO:-go} test -run '^$' -fuzz "^$target\$" -fuzztime "$1" "./$dir" </dev/null
		done
	done
