#!/bin/sh
# fuzz.sh TIME runs every fuzz target of the project for TIME each.

set -eu

# fuzz DIR TARGET TIME. Now and then Go calls it a failure that the time was up
# in the middle of a run; a true one names the input that failed.
fuzz() {
	echo "$1 $2"
	if ${GO:-go} test -run '^$' -fuzz "^$2\$" -fuzztime "$3" "./$1" </dev/null >"$log" 2>&1; then
		grep '^fuzz: ' "$log" | tail -n 1
	elif grep -q '^ *context deadline exceeded' "$log" && ! grep -q 'Failing input written' "$log"; then
		echo 'the time was up'
	else
		cat "$log"
		exit 1
	fi
}

log=$(mktemp)
trap 'rm -f "$log"' EXIT
for dir in $(grep -rl --include='*_test.go' '^func Fuzz' cmd internal | xargs -n 1 dirname | sort -u); do
	for target in $(sed -n 's/^func \(Fuzz[A-Za-z0-9_]*\)(.*/\1/p' "$dir"/*_test.go); do
		fuzz "$dir" "$target" "$1"
	done
done
