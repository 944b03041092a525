#!/bin/sh
# init-budget.sh PROGRAM LIMIT fails if the initialisation of PROGRAM's packages
# takes longer than LIMIT milliseconds (the median of nine runs). It runs in
# every child that gobuild starts, so it is part of the price of each build.

set -eu
program=$1 limit=$2

measure() {
	for run in 1 2 3 4 5 6 7 8 9; do
		GODEBUG=inittrace=1 "$program" --version 2>&1 >/dev/null |
			awk '$1 == "init" { sum += $5 } END { printf "%.3f\n", sum }'
	done | sort -n | sed -n 5p
}

# Other work on the machine shows, too; what is slow stays slow.
for try in 1 2 3; do
	median=$(measure)
	echo "package initialisation: $median ms (at most $limit)"
	awk -v median="$median" -v limit="$limit" 'BEGIN { exit !(median > 0 && median <= limit) }' && exit 0
done
echo 'too slow; GODEBUG=inittrace=1 shows which package' >&2
exit 1
