#!/bin/sh
# SPDX-License-Identifier: GPL-2.0-or-later
#
# Tries the project on a machine that has nothing: makes a minimal Debian with
# git and ca-certificates under build/bare, clones the last commit into it and
# runs the README's commands there.
#
# usage: scripts/lib/bare.sh [--keep] 12|13 [COMMAND...]

set -eu

progname=bare
top=$(CDPATH= cd "$(dirname "$0")/../.." && pwd)

. "$top/scripts/lib/common.sh"
. "$top/scripts/lib/apt.sh"

keep=no
if [ "${1:-}" = --keep ]; then
    keep=yes
    shift
fi
case ${1:-} in
12) suite=bookworm ;;
13) suite=trixie ;;
*) die "usage: scripts/lib/bare.sh [--keep] 12|13 [COMMAND...]" ;;
esac
release=$1
shift
[ $# -gt 0 ] || set -- scripts/demo scripts/check

progname="bare $release"
root=$build/bare/$release
[ "$(id -u)" -eq 0 ] || die "only root can make a bare Debian"
read_release
if ! command -v mmdebstrap > /dev/null; then
    new_log mmdebstrap
    run_logged "$log" env DEBIAN_FRONTEND=noninteractive apt-get -q -y \
        --no-install-recommends install mmdebstrap ||
        die_log "$log" "mmdebstrap cannot be installed"
fi

# Sources of the machine's own mirror, also inside.
make_root()
{
    rm -rf --one-file-system "$root"
    mkdir -p "$root" "$build/apt"
    own_sources deb "$suite" "$suite-updates" > "$root.sources"
    (codename=$codename-security
     own_sources deb "$suite-security") >> "$root.sources"
    # Running inside a chroot in a namespace, nothing needs a device made.
    run_logged "$log" mmdebstrap --variant=minbase --mode=root \
        --include=git,ca-certificates "$suite" "$root" "$root.sources" ||
        die_log "$log" "no Debian $release could be made"
    cp -L /etc/resolv.conf "$root/etc/resolv.conf"
    apt-config dump | grep -E '^Acquire::https?::Proxy' \
        > "$root/etc/apt/apt.conf.d/90proxy" || :
    # shellcheck disable=SC2046
    git -C "$top" bundle create -q "$root/root/project.bundle" HEAD \
        $(git -C "$top" symbolic-ref -q HEAD)
}

# In namespaces of its own: when the shell ends, so does every process that it
# left, and every mount goes with them.
inside()
{
    unshare --mount --pid --fork --kill-child sh -eu -c '
        root=$1
        shift
        mount -t proc proc "$root/proc"
        mount -t sysfs -o ro sysfs "$root/sys"
        mount --rbind /dev "$root/dev"
        mount -t tmpfs tmpfs "$root/dev/shm"
        mount -t tmpfs tmpfs "$root/run"
        exec chroot "$root" /usr/bin/env -i HOME=/root TERM=dumb \
            PATH=/usr/sbin:/usr/bin:/sbin:/bin ${http_proxy:+http_proxy=$http_proxy} \
            sh -c "$*"
    ' sh "$root" "$@"
}

# timed WHAT COMMAND - its output on the terminal and in the log
timed()
{
    what=$1
    begin=$(date +%s)
    rm -f "$log.status"
    {
        if inside "$2" 2>&1; then
            echo 0 > "$log.status"
        else
            echo 1 > "$log.status"
        fi
    } < /dev/null | tee -a "$log" | sed -u "s/^/$release| /"
    status=$(cat "$log.status" 2> /dev/null || echo 1)
    rm -f "$log.status"
    took=$(($(date +%s) - begin))
    if [ "$status" -ne 0 ]; then
        die "$what failed after $took s (log: ${log#"$top"/})"
    fi
    say "$what: $took s"
}

new_log "bare-$release"
say "making a minimal Debian $release"
make_root
timed "git clone" "cd /root && git clone -q project.bundle project"
for command in "$@"; do
    timed "$command" "cd /root/project && $command"
done
[ "$keep" = yes ] || rm -rf --one-file-system "$root"
