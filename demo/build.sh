# Builds one package of the table `packages`; runs inside the sandbox.
#
# From the derivation's environment: name, src (the tarball as shipped), way,
# flags, inputs (store paths), out. An input's libraries are linked with a run
# path, so an output names what it needs and nothing else has to be set up.
# The derivation sets the variables that nothing here sets.
# shellcheck shell=sh disable=SC2154

set -eu
export CFLAGS=-O2 CPPFLAGS='' LDFLAGS=''
export PKG_CONFIG=false # what /usr/lib/pkgconfig knows is none of our business
for input in $inputs; do
	CPPFLAGS="$CPPFLAGS -I$input/include"
	LDFLAGS="$LDFLAGS -L$input/lib -Wl,-rpath,$input/lib"
done
jobs=${NIX_BUILD_CORES:-1}
test "$jobs" -gt 0 || jobs=$(nproc)

after_install() {
	case $pname in
	bzip2) # its makefile installs the static library only
		make -f Makefile-libbz2_so
		cp -P libbz2.so.* "$out/lib"
		ln -s libbz2.so.1.0 "$out/lib/libbz2.so"
		;;
	ncurses) # answer to every name by which programs ask for it
		for lib in ncurses curses termcap tinfo tinfow; do
			ln -s libncursesw.so "$out/lib/lib$lib.so"
		done
		ln -s . "$out/include/ncursesw"
		;;
	esac
}

tar xf "$src"
cd -- */
eval "set -- $flags"
case $way in
autoconf)
	./configure --prefix="$out" --disable-static --disable-nls \
		--disable-dependency-tracking "$@"
	make -j"$jobs"
	make install
	;;
configure)
	./configure --prefix="$out" "$@"
	make -j"$jobs"
	make install
	;;
make)
	make -j"$jobs" "$@"
	make install "$@"
	;;
esac
after_install
