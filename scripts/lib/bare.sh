#!/bin/sh
# SPDX-License-Identifier: GPL-2.0-or-later
#
# Tries the project on a machine that has nothing: makes a minimal Debian with
# git and ca-certificates under build/bare, clones the last commit into it and
# runs the README's commands there.
#
# usage: scripts/lib/bare.sh [--keep] [--full] [--user] 12|13 [COMMAND...]
#
#   --keep   leave the Debian where it is
#   --full   with all that the project could stumble over installed before:
#            scripts/lib/packages and packages-more
#   --user   as an ordinary user, with scripts/lib/packages installed before

set -eu

progname=bare
top=$(CDPATH= cd "$(dirname "$0")/../.." && pwd)

. "$top/scripts/lib/common.sh"
. "$top/scripts/lib/apt.sh"
. "$top/scripts/lib/root.sh"

usage="usage: scripts/lib/bare.sh [--keep] [--full] [--user] 12|13 [COMMAND...]"
keep=no
full=
user=
while :; do
    case ${1:-} in
    --keep) keep=yes ;;
    --full) full=-full ;;
    --user) user=-user ;;
    *) break ;;
    esac
    shift
done
case ${1:-} in
12|13) ;;
*) die "$usage" ;;
esac
release=$1
shift
[ $# -gt 0 ] || set -- scripts/demo scripts/check

kind=$release$full$user
progname="bare $kind"
root=$build/bare/$kind
need_mmdebstrap
read_release
suite=$(suite_of "$release")

# install_before - what the machine is to have before the project comes
install_before()
{
    [ -n "$full$user" ] || return 0
    say "installing what the machine has"
    names=$(codename=$suite
            packages_in "$top/scripts/lib/packages"
            [ -z "$full" ] || packages_in "$top/scripts/lib/packages-more")
    # Nothing of it is to be started here.
    printf '#!/bin/sh\nexit 101\n' > "$root/usr/sbin/policy-rc.d"
    chmod +x "$root/usr/sbin/policy-rc.d"
    # shellcheck disable=SC2086
    apt_inside "$root" install $names
}

home=/root
as=
# make_user - who runs the commands, if not root
make_user()
{
    [ -n "$user" ] || return 0
    home=/srv/somebody
    as="runuser -u somebody --"
    inside "$root" "useradd --create-home --home-dir $home somebody"
}

# timed WHAT COMMAND - its output on the terminal and in the log
timed()
{
    what=$1
    begin=$(date +%s)
    rm -f "$log.status"
    {
        printf '%s\n' "$2" > "$root/srv/command"
        if inside "$root" "$as env HOME=$home sh -eu /srv/command" 2>&1; then
            echo 0 > "$log.status"
        else
            echo 1 > "$log.status"
        fi
    } < /dev/null | tee -a "$log" | sed -u "s/^/$kind| /"
    status=$(cat "$log.status" 2> /dev/null || echo 1)
    rm -f "$log.status"
    took=$(($(date +%s) - begin))
    if [ "$status" -ne 0 ]; then
        die "$what failed after $took s (log: ${log#"$top"/})"
    fi
    say "$what: $took s"
}

new_log "bare-$kind"
say "making a minimal Debian $release"
make_root "$root" "$suite" git,ca-certificates
install_before
make_user
# shellcheck disable=SC2046
git -C "$top" bundle create -q "$root/srv/project.bundle" HEAD \
    $(git -C "$top" symbolic-ref -q HEAD)
timed "git clone" "cd $home && git clone -q /srv/project.bundle project"
for command in "$@"; do
    timed "$command" "cd $home/project && $command"
done
[ "$keep" = yes ] || rm -rf --one-file-system "$root"
