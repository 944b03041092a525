#!/bin/sh
# run.sh builds real software with gobuild, in a store under ./demo-store: see
# docs/demo.md. Nothing outside ./demo-store is written. Run by `make demo`.

set -eu
unset CDPATH
demo=$(cd "$(dirname "$0")" && pwd -P)
work=${DEMO_DIR:-$(pwd -P)/demo-store}
gobuild=${GOBUILD:-$(pwd -P)/gobuild}
store=$work/store
system=$(uname -m)-linux

# The machine's own Nix, if it has one, stays out of it. The database and the
# logs are beside the store, in $work/var.
for name in $(env | sed -n 's/^\(NIX_[A-Z_]*\)=.*/\1/p'); do unset "$name"; done
export NIX_CONF_DIR="$work/etc" NIX_USER_CONF_FILES=/dev/null

say() { printf '\n== %s\n' "$*"; }
die() { printf 'demo: %s\n' "$*" >&2 && exit 1; }
now() { date +%s%3N; }
seconds() { awk -v ms="$1" 'BEGIN { printf "%.2f s", ms / 1000 }'; }
gobuild() { "$gobuild" --store-dir "$store" "$@"; }

# --- What the machine must have -------------------------------------------

check_machine() {
	command -v apt-get >/dev/null || die 'apt-get is needed: the sources are Debian source packages'
	test -x "$gobuild" || die "'$gobuild' is not there; run: make"
	case $work in *[!A-Za-z0-9/._+-]*) die "odd characters in '$work': makefiles cannot bear them" ;; esac
	"$demo/../scripts/need.sh" go=golang-go gcc=gcc /usr/include/stdio.h=libc6-dev make=make \
		tar=tar bzip2=bzip2 xz=xz-utils awk=mawk cmp=diffutils ldd=libc-bin
}

# --- The table `packages` -------------------------------------------------

table() { grep -v -e '^#' -e '^$' "$demo/packages" | sed 's/[[:blank:]]*|[[:blank:]]*/|/g'; }

tarball() {
	set -- "$work/sources/$1"_*.orig.tar.*
	printf '%s\n' "$1"
}

# version TARBALL: zlib_1.2.13.dfsg.orig.tar.bz2 has version 1.2.13.dfsg.
version() {
	tarball_name=${1##*/}
	tarball_name=${tarball_name%.orig.tar.*}
	printf '%s\n' "${tarball_name##*_}"
}

# --- The graph ------------------------------------------------------------
# $work/graph has two files for each derivation: NAME.drv holds the path of the
# derivation, NAME.out that of its output.

drv_of() { for each; do cat "$work/graph/$each.drv"; done; }
out_of() { for each; do cat "$work/graph/$each.out"; done; }

json_string() { printf '%s\n' "$1" | sed 's/\\/\\\\/g; s/"/\\"/g; s/^/"/; s/$/"/'; }

# json_list AFTER WORD... prints "WORD"AFTER, "WORD"AFTER...
json_list() {
	after=$1 comma=
	shift
	for word; do
		printf '%s%s%s' "$comma" "$(json_string "$word")" "$after"
		comma=,
	done
}

# derivation PNAME VERSION SCRIPT SOURCES INPUTS VAR=VALUE... adds a derivation
# that runs SCRIPT. SOURCES are store paths, INPUTS names of earlier ones.
# shellcheck disable=SC2046,SC2086,SC2005 # sources and inputs are lists of words
derivation() {
	pname=$1 version=$2 script=$3 sources=$4 inputs=$5
	shift 5
	{
		printf '{"name":"%s-%s","system":"%s","builder":"/bin/sh",' "$pname" "$version" "$system"
		printf '"args":["-e","%s"],"outputs":{"out":{}},' "$script"
		printf '"inputSrcs":[%s],' "$(json_list '' "$script" $sources)"
		printf '"inputDrvs":{%s},' "$(json_list ':{"dynamicOutputs":{},"outputs":["out"]}' $(drv_of $inputs))"
		printf '"env":{"name":"%s-%s","pname":"%s","version":"%s"' "$pname" "$version" "$pname" "$version"
		printf ',"PATH":"/usr/bin:/bin","SOURCE_DATE_EPOCH":"1","inputs":"%s"' "$(echo $(out_of $inputs))"
		for pair; do
			printf ',"%s":%s' "${pair%%=*}" "$(json_string "${pair#*=}")"
		done
		printf '}}\n'
	} >"$work/graph/$pname.json"
	gobuild derivation add <"$work/graph/$pname.json" >"$work/graph/$pname.drv"
	gobuild query outputs "$(drv_of "$pname")" >"$work/graph/$pname.out"
	names="$names $pname"
}

add_packages() {
	script=$(gobuild add "$demo/build.sh")
	table >"$work/graph/table"
	while IFS='|' read -r pname source way inputs flags; do
		file=$(tarball "$source")
		src=$(gobuild add-fixed sha256 "$file")
		derivation "$pname" "$(version "$file")" "$script" "$src" "$inputs" \
			"src=$src" "way=$way" "flags=$flags"
	done <"$work/graph/table"
}

add_gobuild() {
	"$demo/stage-go.sh" "$work"
	src=$(gobuild add "$work/gobuild-source")
	modules=$(gobuild add "$work/go-modules")
	derivation gobuild "$("$gobuild" --version | awk '{ print $NF; exit }')" "$(gobuild add "$demo/build-go.sh")" \
		"$src $modules" '' "src=$src" "modules=$modules"
}

add_check() {
	derivation check 0 "$(gobuild add "$demo/check.sh")" '' "${names# }" \
		"ncurses=$(out_of ncurses)" "file=$(out_of file)"
}

# --- Building -------------------------------------------------------------

# The toolchain. /bin and the library directories are links into /usr on some
# machines and directories on others; naming what they lead to serves both.
sandbox_paths() {
	paths="/usr /opt/go=$(go env GOROOT) /etc/alternatives?"
	for dir in /bin /lib /lib32 /lib64; do
		test ! -d "$dir" || paths="$paths $dir=$(readlink -f "$dir")"
	done
	printf '%s\n' "$paths"
}

# realise realises the whole graph and counts the build logs that this wrote:
# sets built and elapsed. Root's builds use no build users either: these belong
# to the machine's own store, whose engine ends every process of a user that it
# takes, and would end ours.
# shellcheck disable=SC2046,SC2086 # a list of names
realise() {
	touch "$work/before"
	started=$(now)
	gobuild realise --no-build-output --sandbox --max-jobs "$(nproc)" --cores "$(nproc)" \
		--option sandbox-paths "$(sandbox_paths)" --option build-users-group '' \
		--option substitute false $(drv_of $names) >"$work/realised" ||
		die 'the build failed'
	elapsed=$(($(now) - started))
	built=$(find "$work/var/log" -type f -newer "$work/before" 2>/dev/null | wc -l)
}

# report prints a line for each output: what is registered about it.
# shellcheck disable=SC2046,SC2086 # a list of names
report() {
	gobuild query info $(out_of $names) | awk '
		# /store/HASH-NAME-VERSION: names here have no "-".
		function base(path) { sub(/.*\//, "", path); sub(/^[^-]*-/, "", path); return path }
		function finish() {
			if (name != "") printf "%-11s %-17s %7d K  %s\n", name, version, size / 1024, references
			references = ""
		}
		BEGIN { printf "%-11s %-17s %9s  %s\n", "name", "version", "size", "references" }
		$1 == "path" { finish(); own = version = name = base($2); sub(/-.*/, "", name); sub(/^[^-]*-/, "", version) }
		$1 == "size" { size = $2 }
		$1 == "reference" && base($2) != own { references = references base($2) " " }
		END { finish() }'
}

check_machine
mkdir -p "$work/graph" "$store"

say 'sources: from the machine'\''s Debian mirror, kept in demo-store/sources'
# shellcheck disable=SC2046 # a list of names
"$demo/fetch.sh" "$work/sources" $(table | cut -d'|' -f2)

say 'graph: tarballs and derivations into the store'
started=$(now) names=
add_packages
add_gobuild
add_check
total=$(echo "$names" | wc -w)
echo "$total derivations in $(seconds $(($(now) - started)))"

say "realise: everything, in the sandbox, as $(id -un 2>/dev/null || true)"
realise
echo "built $built of $total in $(seconds "$elapsed")"

say 'realise again: nothing to do'
realise
echo "built $built of $total in $(seconds "$elapsed")"
test "$built" = 0 || die 'a second run must not build anything'
test "$elapsed" -lt 1000 || die 'a second run must take well under a second'

victim=lua
say "delete one output: $(out_of $victim)"
gobuild delete "$(out_of $victim)" >/dev/null
test ! -e "$(out_of $victim)" || die 'the output is still there'
realise
echo "built $built of $total in $(seconds "$elapsed")"
test "$built" = 1 || die 'just the deleted one must be built again'
"$(out_of $victim)/bin/lua" -v

say 'what is in the store'
report

say 'what the programs said'
cat "$(out_of check)"
