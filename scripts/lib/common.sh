# SPDX-License-Identifier: GPL-2.0-or-later
#
# What scripts/setup, scripts/hooks and scripts/export-series share: where
# things lie, how to speak, how to fail.  Sourced with $top set to the root of
# the checkout.

# Patches are applied in the order of their names.
export LC_ALL=C

# Set inside git's own hooks, and then wrong for every tree but that one.
unset GIT_DIR GIT_WORK_TREE GIT_INDEX_FILE GIT_PREFIX

patches=$top/patches

# use_qemu VERSION - which QEMU: the first two numbers of its version.  All
# that belongs to one but 10.0 lies in a folder of its own, beside it.
use_qemu()
{
    qemu=$1
    case $qemu in
    10.0) build=$top/build up=../.. ;;
    10.2) build=$top/build/$qemu up=../../.. ;;
    *) die "no QEMU '$qemu'; there are 10.0 and 10.2" ;;
    esac
    logs=$build/log
    qsrc=$build/qemu-src
    qsrc_name=${qsrc#"$top"/}
    stamp=$qsrc/.git/memory-isolation-stamp
    own_patches=$patches
    for_version=
    [ "$qemu" != 10.0 ] || return 0
    own_patches=$patches/$qemu
    for_version=" --qemu $qemu"
}

# An absolute path: shims of Python version managers shadow the system's.
system_python=/usr/bin/python3

say()
{
    printf '%s: %s\n' "$progname" "$*" >&2
}

die()
{
    say "error: $*"
    exit 1
}

# die_log LOG MESSAGE - fail with the end of a log, the message last
die_log()
{
    log=$1
    shift
    tail -n 12 "$log" | sed 's/^/    /' >&2
    die "$* (log: ${log#"$top"/})"
}

# run_logged LOG COMMAND... - all output into the log; the command's status
run_logged()
{
    log=$1
    shift
    printf '+ %s\n' "$*" >> "$log"
    "$@" >> "$log" 2>&1
}

# new_log NAME - sets $log to an empty log file
new_log()
{
    mkdir -p "$logs"
    log=$logs/$1.log
    : > "$log"
}

# Only one process may change what is under build/.  The descriptor is closed
# for commands that may leave a daemon behind, which would hold the lock.
take_lock()
{
    mkdir -p "$build"
    exec 9> "$build/.lock"
    if ! flock -n 9; then
        say "waiting for another run to end"
        flock 9
    fi
}

# need_space GIB
need_space()
{
    free=$(df -Pk "$build" | awk 'NR == 2 { print int($4 / 1048576) }')
    [ "$free" -ge "$1" ] ||
        die "$free GiB free under build/, $1 GiB are needed"
}

use_qemu 10.0

# Git in QEMU's tree: the same result whatever the user has configured.
qgit()
{
    GIT_CONFIG_GLOBAL=/dev/null GIT_CONFIG_NOSYSTEM=1 \
        git -C "$qsrc" -c gc.auto=0 -c core.abbrev=12 -c core.autocrlf=false \
            -c user.name='Memory Isolation' \
            -c user.email='isolation@example.org' "$@"
}
