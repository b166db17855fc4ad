#!/bin/sh
# SPDX-License-Identifier: GPL-2.0-or-later
#
# Builds the packages for a Debian release and tries them in a bare one: with
# nothing else, beside the distribution's QEMU, over an older version; with the
# demo's VM; and looks for what is left when they are gone.
#
# usage: scripts/lib/deb_try.sh 12|13

set -eu

progname=deb-try
top=$(CDPATH= cd "$(dirname "$0")/../.." && pwd)

. "$top/scripts/lib/common.sh"
. "$top/scripts/lib/apt.sh"
. "$top/scripts/lib/root.sh"

case ${1:-} in
12|13) release=$1 ;;
*) die "usage: scripts/lib/deb_try.sh 12|13" ;;
esac
main=qemu-system-x86-isolation
program=/usr/bin/qemu-system-x86_64-isolation
root=$build/deb/try-$release
built=$build/deb/$release

# holds WHAT COMMAND... - one claim, on one line
holds()
{
    what=$1
    shift
    run_logged "$log" "$@" || die_log "$log" "does not hold: $what"
    say "ok: $what"
}

there()
{
    holds "$1" inside "$root" "$2"
}

# list_root - every file but what apt and dpkg keep of what they did, and caches
list_root()
{
    (cd "$root" && find . -xdev \
        \( -path ./debs -o -path ./proc -o -path ./sys -o -path ./dev -o \
           -path ./run -o -path ./tmp -o -path ./var/cache -o \
           -path ./var/log -o -path ./var/lib/apt -o \
           -path ./var/lib/dpkg \) -prune -o ! -name ld.so.cache -print |
        LC_ALL=C sort)
}

# older_packages - the same, with a version that an earlier commit would have
older_packages()
{
    mkdir "$root/debs/old"
    for deb in "$root"/debs/*.deb; do
        tree=$root/debs/old/tree
        dpkg-deb -R "$deb" "$tree"
        sed -i 's/+isolation[0-9][^~]*~/+isolation1~/g' \
            "$tree/DEBIAN/control"
        run_logged "$log" dpkg-deb -Zgzip -z1 -b "$tree" \
            "$root/debs/old/${deb##*/}" || die_log "$log" "no older package"
        rm -rf "$tree"
    done
}

# wrap_qemu - a folder like QEMU's build that has the installed program: it runs
# in the bare Debian, with the files of this checkout at their place
wrap_qemu()
{
    wrap=$build/deb/wrap-$release
    rm -rf "$wrap"
    mkdir -p "$wrap" "$root$top"
    ln -s "$build/qemu/qemu-img" "$wrap/qemu-img"
    cat > "$wrap/qemu-system-x86_64" <<END
#!/bin/sh
exec unshare --mount sh -eu -c '
    mount --bind "\$1" "\$2\$1"
    mount --rbind /dev "\$2/dev"
    mount -t proc proc "\$2/proc"
    root=\$2
    shift 2
    exec chroot "\$root" $program "\$@"' sh "$top" "$root" "\$@"
END
    chmod +x "$wrap/qemu-system-x86_64"
}

run_demo()
{
    wrap_qemu
    holds "the demo's VM runs from it: a guest reads back what it wrote" \
        env QEMU_BUILD="$wrap" "$system_python" "$top/scripts/lib/demo.py"
    sed -n '/memory-isolation=off/,$p' "$log"
    rm -rf "$wrap"
    rmdir -p "$root$top" 2> /dev/null || :
}

beside_debians()
{
    apt_inside "$root" install qemu-system-x86 /debs/*.deb
    there "Debian's QEMU runs beside it" \
        "qemu-system-x86_64 -version && $program -version"
    there "only one of them has the property" \
        "$program -device vhost-user-blk-pci,help | grep memory-isolation= &&
         ! qemu-system-x86_64 -device vhost-user-blk-pci,help |
             grep memory-isolation="
}

look_at_it()
{
    there "firmware is found without options" \
        "echo quit | $program -display none -monitor stdio -serial none -S"
    there "its modules are its own: SPICE, curl and OpenGL are loaded" \
        "$program -spice help 2>&1 | grep addr &&
         $program -device help | grep virtio-gpu-gl-pci &&
         $program -machine none -display none \
             -blockdev driver=http,node-name=x,url=http://127.0.0.1:1/ 2>&1 |
             grep 'curl driver'"
    there "the man page has its name" \
        "zgrep -q '^qemu.system.x86_64.isolation' \
             /usr/share/man/man1/qemu-system-x86_64-isolation.1.gz"
    there "the documentation is there, as HTML" \
        "grep -q memory-isolation-size /usr/share/doc/$main/html/*.html"
    there "the copyright is there" \
        "grep -q '^Format: https://www.debian.org/doc/packaging-manuals' \
             /usr/share/doc/$main/copyright"
}

read_release
need_mmdebstrap
new_log "deb-try-$release"
"$top/scripts/deb" --release "$release" ${JOBS:+--jobs "$JOBS"}
say "making a bare Debian $release"
make_root "$root" "$(suite_of "$release")" ca-certificates
mkdir -p "$root/debs"
for name in "$main" "$main-modules" "$main-doc"; do
    cp "$built/${name}_"*.deb "$root/debs/"
done
older_packages
# First what they need: some of that is never removed again.
needs=$(for deb in "$root"/debs/*.deb; do dpkg-deb -f "$deb" Depends; done |
        tr '\n' ',' | sed 's/qemu-system-x86-isolation ([^)]*)/libc6/g')
apt_inside "$root" satisfy "'${needs%,}'"
list_root > "$root.before"
inside "$root" "dpkg-query -W" > "$root.packages-before"

apt_inside "$root" install /debs/old/*.deb
rm -rf "$root/debs/old"
there "an older version is there" "$program -version"
apt_inside "$root" install /debs/*.deb
there "apt takes the newer one for newer" \
    "dpkg-query -W -f '\${Version}\n' $main | grep -v isolation1~"
look_at_it
run_demo
apt_inside "$root" purge $main $main-modules $main-doc
inside "$root" "dpkg-query -W" > "$root.packages-after"
holds "no package is left" diff "$root.packages-before" "$root.packages-after"
list_root > "$root.after"
holds "no file is left" diff "$root.before" "$root.after"
beside_debians
rm -rf --one-file-system "$root" "$root".*
