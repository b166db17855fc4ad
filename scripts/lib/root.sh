# SPDX-License-Identifier: GPL-2.0-or-later
#
# A Debian of its own in a folder: made with mmdebstrap from the mirror of this
# machine, and entered in namespaces that end with their shell.
# Sourced after common.sh and apt.sh.

# suite_of RELEASE - prints the name of Debian 12's or 13's suite
suite_of()
{
    case $1 in
    12) echo bookworm ;;
    13) echo trixie ;;
    *) die "no Debian '$1'; there are 12 and 13" ;;
    esac
}

need_mmdebstrap()
{
    [ "$(id -u)" -eq 0 ] || die "only root can make a bare Debian"
    ! command -v mmdebstrap > /dev/null || return 0
    new_log mmdebstrap
    again run_logged "$log" env DEBIAN_FRONTEND=noninteractive apt-get -q -y \
        --no-install-recommends install mmdebstrap ||
        die_log "$log" "mmdebstrap cannot be installed"
}

# make_root ROOT SUITE PACKAGES [SUITE...] - a minimal Debian with the PACKAGES
# (commas between them), updates and security, and more suites as sources
make_root()
{
    root=$1
    suite=$2
    include=$3
    shift 3
    rm -rf --one-file-system "$root"
    mkdir -p "$root" "$build/apt"
    own_sources deb "$suite" "$suite-updates" "$@" > "$root.sources"
    (codename=$codename-security
     own_sources deb "$suite-security") >> "$root.sources"
    # Running inside a chroot in a namespace, nothing needs a device made.
    run_logged "$log" mmdebstrap --variant=minbase --mode=root \
        --include="$include" "$suite" "$root" "$root.sources" ||
        die_log "$log" "no Debian of $suite could be made"
    cp -L /etc/resolv.conf "$root/etc/resolv.conf"
    apt-config dump | grep -E '^Acquire::https?::Proxy' \
        > "$root/etc/apt/apt.conf.d/90proxy" || :
    # Nobody needs it after a power failure.
    echo force-unsafe-io > "$root/etc/dpkg/dpkg.cfg.d/unsafe"
}

# apt_inside ROOT WORD... - apt-get there; lists are fetched if there are none
apt_inside()
{
    root=$1
    shift
    [ -n "$(find "$root/var/lib/apt/lists" -name '*_Packages*' | head -n 1)" ] ||
        again run_logged "$log" inside "$root" "apt-get -q update" ||
        die_log "$log" "the lists of Debian's packages cannot be fetched"
    again run_logged "$log" inside "$root" "DEBIAN_FRONTEND=noninteractive \
        apt-get -q -y --no-install-recommends $*" < /dev/null ||
        die_log "$log" "apt-get $* failed"
}

# inside ROOT COMMAND... - in namespaces of its own: when the shell ends, so does
# every process that it left, and every mount goes with them.  The root is one in
# earnest: a process that was chrooted may make no namespace for users.  $binds has a line
# "FOLDER PLACE" for each folder that is also to be had inside.
binds=
inside()
{
    binds=$binds unshare --mount --pid --fork --kill-child sh -eu -c '
        root=$1
        shift
        mount --bind "$root" "$root"
        mount -t proc proc "$root/proc"
        mount -t sysfs -o ro sysfs "$root/sys"
        mount --rbind /dev "$root/dev"
        mount -t tmpfs tmpfs "$root/dev/shm"
        mount -t tmpfs tmpfs "$root/run"
        printf "%s\n" "$binds" | while read -r folder place; do
            [ -n "$folder" ] || continue
            mkdir -p "$root$place"
            mount --bind "$folder" "$root$place"
        done
        cd "$root"
        pivot_root . mnt
        umount -l /mnt
        exec /usr/bin/env -i HOME=/root TERM=dumb \
            PATH=/usr/sbin:/usr/bin:/sbin:/bin ${http_proxy:+http_proxy=$http_proxy} \
            sh -c "$*"
    ' sh "$@"
}
