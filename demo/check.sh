# Runs what the demo built, inside the sandbox, and writes down what it said.
# The report names no store path, so it keeps nothing alive and any program can
# be deleted while the report stays.
# The derivation sets the variables that nothing here sets.
# shellcheck shell=sh disable=SC2154

set -eu
PATH=$(for input in $inputs; do printf '%s/bin:' "$input"; done)$PATH
export LC_ALL=C TERMINFO="$ncurses/share/terminfo"

mawk 'BEGIN { while (++n <= 1000) print n, "The quick brown fox jumps over the lazy dog" }' >fox

expect() {
	what=$1 want=$2
	shift 2
	got=$("$@")
	case $got in
	*"$want"*) echo "$what: $want" ;;
	*) echo "$what: want '$want', got '$got'" >&2 && exit 1 ;;
	esac
}

# there_and_back PROGRAM: compresses, decompresses and compares.
there_and_back() {
	"$1" -c <fox >packed
	"$1" -dc <packed | cmp - fox
	echo "$1: $(wc -c <fox) bytes to $(wc -c <packed) and back"
}

# host_libraries lists what the programs and libraries take from the machine,
# the C library left out: a build that found a stray /usr/include shows here.
host_libraries() {
	for input in $inputs; do
		for object in "$input"/bin/* "$input"/lib/*.so; do
			test ! -f "$object" || ldd "$object" 2>/dev/null || true
		done
	done | grep '=> /' | grep -v -e "=> $NIX_STORE/" \
		-e '^[[:blank:]]*lib\(c\|m\|dl\|rt\|util\|resolv\|pthread\)\.so' | sort -u
}

# shellcheck disable=SC2016 # the program is awk's, not the shell's
{
	for program in bzip2 xz lz4 zstd; do
		there_and_back "$program"
	done
	for filter in gzip bzip2 xz lz4 zstd; do
		bsdtar -c -f "fox.$filter" "--$filter" fox
		expect "bsdtar and file" "$filter" file -i -m "$file/share/misc/magic.mgc" "fox.$filter"
		expect "bsdtar --$filter" fox bsdtar -t -f "fox.$filter"
	done
	expect 'grep -P' '7 The quick' grep -oP '^7 \w+ quick(?= brown)' fox
	expect pcre2grep 'lazy dog' pcre2grep -o '(?<=^7 The quick brown fox jumps over the )l.zy.*' fox
	expect lua '2^10 = 1024.0' lua -e 'print("2^10 = " .. 2^10)'
	expect mawk 'brown quick' mawk 'NR == 1 { print $4, $3 }' fox
	expect dash '42' dash -c 'echo $((6 * 7))'
	expect tree '"name":"fox"' tree -J
	expect infocmp xterm-256color infocmp -1 xterm-256color
	expect less 'less' less --version
	expect nano 'GNU nano' nano --version
	expect tmux tmux tmux -V
	expect optipng 'libpng' optipng -version
	printf 'store fox red\nfetch fox\n' >commands
	expect gdbmtool red gdbmtool --norc --file=commands fox.db
	expect gobuild gobuild gobuild --version
	test -z "$(host_libraries)" || { host_libraries >&2 && exit 1; }
	echo 'libraries: all from the store, but for the C library'
} >"$out"
cat "$out"
