#!/bin/sh
# init-budget.sh PROGRAM LIMIT fails if the initialisation of PROGRAM's packages
# takes longer than LIMIT milliseconds (the median of nine runs). It runs in
# every child that gobuild starts, so it is part of the price of each build.

set -eu
program=$1 limit=$2

for run in 1 2 3 4 5 6 7 8 9; do
	GODEBUG=inittrace=1 "$program" --version 2>&1 >/dev/null |
		awk '$1 == "init" { sum += $5 } END { printf "%.3f\n", sum }'
done | sort -n | awk -v limit="$limit" '
	NR == 5 { median = $1 }
	END {
		printf "package initialisation: %.3f ms (at most %s)\n", median, limit
		if (NR != 9 || median <= 0) { print "the times cannot be read"; exit 1 }
		if (median > limit) { print "too slow: GODEBUG=inittrace=1 shows which package"; exit 1 }
	}'
