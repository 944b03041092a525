#!/bin/sh
# fetch.sh DIR PACKAGE... downloads the upstream tarballs of Debian source
# packages into DIR, each once. It asks the mirrors that this machine's apt
# asks, checked by the same keys, but keeps its own list of sources, indices
# and cache, so it needs no rights and leaves the machine's apt alone.

set -eu

# private_apt DIR writes a configuration that lives in DIR alone. The machine's
# transport settings (proxies, time-outs, certificates) are carried over; its
# hooks, which would tidy up or announce what we do, are not.
private_apt() {
	mkdir -p "$1/lists/partial" "$1/cache/archives/partial" "$1/sources.list.d"
	rm -f "$1"/sources.list.d/*
	for file in /etc/apt/sources.list /etc/apt/sources.list.d/*.list; do
		if test -r "$file"; then cat "$file" && echo; fi
	done | sed -n 's/^[[:blank:]]*deb\(-src\)\{0,1\}[[:blank:]]\{1,\}/deb-src /p' |
		grep -v '[[:blank:]]cdrom:' | sort -u >"$1/sources.list" || true
	for file in /etc/apt/sources.list.d/*.sources; do
		test -r "$file" || continue
		sed 's/^[Tt]ypes:.*/Types: deb-src/' "$file" >"$1/sources.list.d/${file##*/}"
	done
	{
		apt-config dump | grep '^Acquire::' |
			grep -v -E '^Acquire::(IndexTargets|CompressionTypes|Languages|Changelogs)' || true
		cat <<-CONF
			Dir::State "$1";
			Dir::State::lists "$1/lists";
			Dir::Cache "$1/cache";
			Dir::Etc::sourcelist "$1/sources.list";
			Dir::Etc::sourceparts "$1/sources.list.d";
			Dir::Etc::parts "/dev/null";
			Dir::Etc::main "/dev/null";
			APT::Sandbox::User "root";
		CONF
	} >"$1/apt.conf"
	printf '%s\n' "$1/apt.conf"
}

dir=$1
shift
mkdir -p "$dir"
dir=$(cd "$dir" && pwd -P)

missing=
for package; do
	ls "$dir/$package"_*.orig.tar.* >/dev/null 2>&1 || missing="$missing $package"
done
test -n "$missing" || exit 0

APT_CONFIG=$(private_apt "$dir/.apt")
export APT_CONFIG
# One unreachable third-party source makes apt complain, yet does no harm:
# what counts is whether the packages are found.
apt-get -qq update >"$dir/.apt/log" 2>&1 || true

# A download that was cut off must not look like a tarball the next time.
mkdir -p "$dir/.incoming"
cd "$dir/.incoming"
# shellcheck disable=SC2086 # a list of package names
if ! apt-get -qq --tar-only --only-source source $missing >>"$dir/.apt/log" 2>&1; then
	cat "$dir/.apt/log" >&2
	echo "fetch.sh: cannot download the sources of$missing" >&2
	exit 1
fi
for package in $missing; do
	for tarball in "$package"_*.orig.tar.*; do
		# '~' may stand in a Debian version, but not in a store name.
		mv "$tarball" "$dir/$(printf '%s' "$tarball" | tr '~' '-')"
	done
done
rmdir "$dir/.incoming"
