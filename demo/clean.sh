#!/bin/sh
# clean.sh removes ./demo-store; its store is read-only, hence the chmod.
# With --keep-sources the downloads stay for the next run.

set -eu
work=${DEMO_DIR:-$(pwd -P)/demo-store}
test -d "$work" || exit 0
for entry in "$work"/* "$work"/.[!.]*; do
	test -e "$entry" || continue
	test "${1-}" != --keep-sources || test "${entry##*/}" != sources || continue
	chmod -R u+w "$entry"
	rm -rf "$entry"
done
rmdir "$work" 2>/dev/null || true
