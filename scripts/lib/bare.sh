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
. "$top/scripts/lib/root.sh"

keep=no
if [ "${1:-}" = --keep ]; then
    keep=yes
    shift
fi
case ${1:-} in
12|13) ;;
*) die "usage: scripts/lib/bare.sh [--keep] 12|13 [COMMAND...]" ;;
esac
release=$1
shift
[ $# -gt 0 ] || set -- scripts/demo scripts/check

progname="bare $release"
root=$build/bare/$release
need_mmdebstrap
read_release

# timed WHAT COMMAND - its output on the terminal and in the log
timed()
{
    what=$1
    begin=$(date +%s)
    rm -f "$log.status"
    {
        if inside "$root" "$2" 2>&1; then
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
make_root "$root" "$(suite_of "$release")" git,ca-certificates
# shellcheck disable=SC2046
git -C "$top" bundle create -q "$root/root/project.bundle" HEAD \
    $(git -C "$top" symbolic-ref -q HEAD)
timed "git clone" "cd /root && git clone -q project.bundle project"
for command in "$@"; do
    timed "$command" "cd /root/project && $command"
done
[ "$keep" = yes ] || rm -rf --one-file-system "$root"
