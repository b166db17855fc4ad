#!/bin/sh
# SPDX-License-Identifier: GPL-2.0-or-later
#
# The packages of scripts/deb with the libvirt of that Debian, in a bare one.
#
# usage: scripts/lib/libvirt_try.sh [--keep] 12|13 [CASE...]
#
# With --keep the bare Debian stays, and is used again the next time.

set -eu

progname=libvirt-try
top=$(CDPATH= cd "$(dirname "$0")/../.." && pwd)

. "$top/scripts/lib/common.sh"
. "$top/scripts/lib/apt.sh"
. "$top/scripts/lib/root.sh"

keep=no
if [ "${1:-}" = --keep ]; then
    keep=yes
    shift
fi
case ${1:-} in
12) programs= ;;
13) programs="passt virtiofsd" ;;
*) die "usage: scripts/lib/libvirt_try.sh [--keep] 12|13 [CASE...]" ;;
esac
release=$1
shift
root=$build/deb/libvirt-$release
built=$build/deb/$release

make_host()
{
    say "making a Debian $release with libvirt"
    make_root "$root" "$(suite_of "$release")" ca-certificates,python3
    printf '#!/bin/sh\nexit 101\n' > "$root/usr/sbin/policy-rc.d"
    chmod +x "$root/usr/sbin/policy-rc.d"
    apt_inside "$root" install libvirt-daemon-system libvirt-daemon-driver-qemu \
        libvirt-clients qemu-utils qemu-system-common dpdk-dev procps \
        iproute2 $programs
    touch "$root/.made"
}

read_release
need_mmdebstrap
new_log "libvirt-$release"
main=$(find "$built" -name 'qemu-system-x86-isolation_*.deb' 2> /dev/null) || :
if [ -z "$main" ]; then
    echo "no packages in ${built#"$top"/}: scripts/deb --release $release"
    exit 77
fi
[ -f "$root/.made" ] || make_host
mkdir -p "$root/debs"
cp "$main" "$root/debs/"
apt_inside "$root" install --reinstall /debs/*.deb
rm -r "$root/debs"
"$system_python" "$top/tests/libvirt/make_disk.py" "$root/srv/disk.img"

status=0
binds="$top $top"
# The shell is there to wait for what loses its parent.
inside "$root" "python3 -B $top/tests/libvirt/cases.py $* & wait \$!" ||
    status=$?
cp "$root/srv/log" "$logs/libvirt-$release.said" 2> /dev/null || :
[ "$keep" = yes ] || rm -rf --one-file-system "$root" "$root".*
exit "$status"
