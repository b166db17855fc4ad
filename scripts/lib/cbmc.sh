#!/bin/sh
# SPDX-License-Identifier: GPL-2.0-or-later
#
# Unpacks the model checker CBMC and the libraries that it needs, all from
# Debian 13, under build/tools/cbmc, if it is not there yet.  Nothing is
# installed: on Debian 12 the program needs a newer C library than the
# machine's, so it is started through the loader that came along.
#
# Prints the command that starts it, a word a line.

set -eu

progname=cbmc
top=$(CDPATH= cd "$(dirname "$0")/../.." && pwd)

. "$top/scripts/lib/common.sh"
. "$top/scripts/lib/apt.sh"

root=$build/tools/cbmc
lib=lib/x86_64-linux-gnu

# CBMC preprocesses with the machine's own gcc.
fetch_cbmc()
{
    say "fetching CBMC"
    new_log cbmc
    rm -rf "$root.new"
    mkdir -p "$root.new/deb"
    use_suites deb - trixie || fetch_failed "the lists could not be fetched"
    (cd "$root.new/deb" &&
     run_logged "$log" own_apt apt-get download \
         cbmc/trixie minisat/trixie libc6/trixie libstdc++6/trixie \
         libgcc-s1/trixie zlib1g/trixie) ||
        fetch_failed "CBMC could not be fetched"
    for package in "$root.new"/deb/*.deb; do
        run_logged "$log" dpkg-deb -x "$package" "$root.new" ||
            die_log "$log" "$package cannot be unpacked"
    done
    rm -rf "$root.new/deb" "$root"
    mv "$root.new" "$root"
}

if ! [ -x "$root/usr/bin/cbmc" ]; then
    read_release
    take_lock
    # Somebody else may have fetched it meanwhile.
    [ -x "$root/usr/bin/cbmc" ] || fetch_cbmc
fi

printf '%s\n' "$root/usr/$lib/ld-linux-x86-64.so.2" --library-path \
    "$root/usr/$lib:$root/usr/lib" "$root/usr/bin/cbmc"
