#!/bin/sh
# init-budget.sh PROGRAM LIMIT fails if the initialisation of PROGRAM's packages
# takes longer than LIMIT milliseconds. It runs in every child that gobuild
# starts, so it is part of the price of each build.

set -eu
program=$1 limit=$2

# The fastest of many runs: whatever else the machine does only adds to them.
fastest=$(for run in $(seq 27); do
	GODEBUG=inittrace=1 "$program" --version 2>&1 >/dev/null |
		awk '$1 == "init" { sum += $5 } END { printf "%.3f\n", sum }'
done | sort -n | head -n 1)

echo "package initialisation: $fastest ms (at most $limit)"
if awk -v ms="$fastest" -v limit="$limit" 'BEGIN { exit !(ms > 0 && ms <= limit) }'; then
	exit 0
fi
echo 'too slow; GODEBUG=inittrace=1 shows which package' >&2
exit 1
