#!/bin/sh
# need.sh COMMAND=PACKAGE... makes sure that commands (or files, given with
# their whole path) are there. What is missing is installed with apt-get when
# root runs this; anybody else is told which packages to install.

set -eu

missing=
for need; do
	command -v "${need%%=*}" >/dev/null 2>&1 || test -e "${need%%=*}" || missing="$missing ${need#*=}"
done
test -n "$missing" || exit 0

# shellcheck disable=SC2086 # a list of names
packages=$(printf '%s\n' $missing | sort -u | tr '\n' ' ')
install="apt-get install -y --no-install-recommends ${packages% }"
if test "$(id -u)" != 0 || ! command -v apt-get >/dev/null; then
	echo "Something is missing. On Debian, run as root:" >&2
	echo "  $install" >&2
	exit 1
fi
echo "installing ${packages% }"
export DEBIAN_FRONTEND=noninteractive
apt-get -qq update
# shellcheck disable=SC2086
$install >/dev/null
