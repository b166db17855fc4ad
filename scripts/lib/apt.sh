# SPDX-License-Identifier: GPL-2.0-or-later
#
# Everything that comes from Debian's archive: packages to install, QEMU's
# source, and on Debian 12 a newer meson.
#
# What is not of the machine's own release comes through apt too, but with
# lists, cache and sources under build/apt.  Its sources are the machine's own
# with another suite, so mirror, keyring and proxy are those that already work
# here, and apt checks every signature.  The system's configuration is read,
# never written.

release_id=
codename=

read_release()
{
    [ -r /etc/os-release ] || die "no /etc/os-release: Debian 12 or 13 wanted"
    release_id=$(. /etc/os-release && printf '%s %s' \
                 "${ID:-unknown}" "${VERSION_ID:-?}")
    case $release_id in
    "debian 12") codename=bookworm ;;
    "debian 13") codename=trixie ;;
    *) die "this is $release_id; only Debian 12 and 13 are supported" ;;
    esac
}

# packages_in FILE - its names for this release
packages_in()
{
    sed -n -e 's/[[:space:]]*#.*//' -e '/^$/d' -e "s/^$codename://" \
        -e '/:/!p' "$1"
}

wanted_packages()
{
    packages_in "$top/scripts/lib/packages"
}

missing_packages()
{
    wanted_packages | sort -u > "$build/.wanted"
    # Fails when a name is unknown to dpkg, which is one of the answers.
    # shellcheck disable=SC2046
    dpkg-query -W -f '${Package} ${db:Status-Status}\n' \
        $(cat "$build/.wanted") 2> /dev/null |
        sed -n 's/ installed$//p' | sort -u > "$build/.installed" || :
    comm -23 "$build/.wanted" "$build/.installed"
}

# again COMMAND... - a second and a third time, if it fails: the archive may not
# answer just now, or another apt be at work
again()
{
    for pause in 15 45; do
        "$@" && return 0
        sleep "$pause"
    done
    "$@"
}

install_packages()
{
    missing=$(missing_packages | tr '\n' ' ')
    missing=${missing% }
    [ -n "$missing" ] || return 0
    if [ "$(id -u)" -ne 0 ]; then
        die "not root, and packages are missing; run as root:" \
            "apt-get install --no-install-recommends $missing"
    fi
    say "installing packages: $missing"
    new_log apt-install
    again run_logged "$log" env DEBIAN_FRONTEND=noninteractive \
        apt-get -q update 9>&- ||
        fetch_failed "apt-get update failed"
    # shellcheck disable=SC2086
    again run_logged "$log" env DEBIAN_FRONTEND=noninteractive \
        apt-get -q -y -o DPkg::Lock::Timeout=300 --no-install-recommends \
        install $missing 9>&- ||
        fetch_failed "apt-get install failed"
}

network_is_down()
{
    grep -qiE 'could not (resolve|connect)|temporary failure|unreachable' "$log"
}

# fetch_failed MESSAGE - name the usual reasons instead, if it is one of them
fetch_failed()
{
    if grep -q NO_PUBKEY "$log"; then
        die "apt lacks a key of Debian's archive: upgrade the package" \
            "debian-archive-keyring (log: ${log#"$top"/})"
    fi
    if network_is_down; then
        die "no network: Debian's archive cannot be reached" \
            "(log: ${log#"$top"/})"
    fi
    if grep -q 'No space left' "$log"; then
        die "no space left (log: ${log#"$top"/})"
    fi
    die_log "$log" "$1"
}

# own_sources TYPES SUITE... - the machine's own source of $codename, with
# other types and suites, as one deb822 stanza
own_sources()
{
    types=$1
    shift
    cat /etc/apt/sources.list.d/*.sources 2> /dev/null |
        awk -v types="$types" -v suites="$*" -v own="$codename" \
            -f "$top/scripts/lib/deb822.awk" > "$build/apt/stanza"
    if [ ! -s "$build/apt/stanza" ]; then
        cat /etc/apt/sources.list /etc/apt/sources.list.d/*.list 2> /dev/null |
            awk -v types="$types" -v suites="$*" -v own="$codename" \
                -f "$top/scripts/lib/oneline.awk" > "$build/apt/stanza"
    fi
    cat "$build/apt/stanza"
}

# own_apt COMMAND ARGUMENT... - apt-get or apt-cache on our own lists
own_apt()
{
    command=$1
    shift
    "$command" -q \
        -o Dir::Etc::sourcelist=/dev/null \
        -o Dir::Etc::sourceparts="$build/apt/sources.d" \
        -o Dir::State="$build/apt/state" \
        -o Dir::State::status=/var/lib/dpkg/status \
        -o Dir::Cache="$build/apt/cache" \
        -o APT::Sandbox::User="$(id -un)" \
        -o Acquire::Languages=none \
        -o Acquire::IndexTargets::deb::Contents-deb::DefaultEnabled=false \
        -o Acquire::Retries=5 \
        -o Debug::NoLocking=true \
        "$@"
}

# use_suites TYPES BASE SUITE... - point own_apt there and fetch the lists.
# BASE is the release whose -security belongs to them, or "-".
use_suites()
{
    types=$1
    base=$2
    shift 2
    rm -rf "$build/apt/sources.d"
    mkdir -p "$build/apt/sources.d" "$build/apt/cache/archives/partial" \
        "$build/apt/state/lists/partial"
    own_sources "$types" "$@" > "$build/apt/sources.d/main.sources"
    [ -s "$build/apt/sources.d/main.sources" ] ||
        die "no source of $codename found in /etc/apt to take the mirror from"
    if [ "$base" != - ]; then
        main=$codename
        codename=$main-security
        own_sources "$types" "$base-security" \
            > "$build/apt/sources.d/security.sources"
        codename=$main
    fi
    again run_logged "$log" own_apt apt-get update
}

# qemu_suites - a line for each place to look for this version of QEMU: what
# use_suites wants after TYPES
qemu_suites()
{
    case $qemu in
    10.0) printf '%s\n' "trixie trixie trixie-updates" "- bookworm-backports" ;;
    10.2) printf '%s\n' "- sid" "- forky" ;;
    esac
}

# fetch_qemu DIR - download this version of QEMU as source package into DIR
fetch_qemu()
{
    dir=$1
    new_log fetch
    rm -rf "$dir"
    qemu_suites > "$build/.suites"
    while read -r base suites; do
        # shellcheck disable=SC2086
        if use_suites deb-src "$base" $suites && fetch_newest "$dir"; then
            return 0
        fi
        ! network_is_down || fetch_failed
    done < "$build/.suites"
    # A status of its own: what the archive does not have is no fault of ours.
    (fetch_failed "QEMU $qemu.x could not be fetched from any suite") || exit 77
}

# A mirror may know a version and yet not have one of its files.
fetch_newest()
{
    pattern=$(printf '%s' "$qemu" | sed 's/\./\\./g')
    versions=$(own_apt apt-cache showsrc --only-source qemu 2>> "$log" |
               sed -n 's/^Version: //p' | grep -E "^([0-9]+:)?$pattern\." |
               sort -ruV) || :
    if [ -z "$versions" ]; then
        network_is_down || say "no qemu $qemu.x in $(sed -n 's/^Suites: //p' \
             "$build/apt/sources.d/main.sources")"
        return 1
    fi
    for version in $versions; do
        say "fetching QEMU's source, Debian's $version"
        rm -rf "$1.new"
        mkdir -p "$1.new"
        if (cd "$1.new" && run_logged "$log" own_apt apt-get source \
            --only-source --download-only "qemu=$version"); then
            mv "$1.new" "$1"
            return 0
        fi
        file=$(sed -n 's/^E: Failed to fetch [^ ]*\/\([^ /]*\) .*/\1/p' \
               "$log" | tail -n 1 | sed -e 's/%2b/+/g' -e 's/%7e/~/g')
        say "the mirror failed on ${file:-a file of $version}"
    done
    return 1
}

# Sets $python: one whose meson is new enough for QEMU.  On Debian 12 that is
# a venv of ours with meson from a newer suite put into it, so that every tool
# started by the build finds it without help from the environment.
find_meson()
{
    python=$system_python
    meson_is_new "$python" && return 0
    python=$build/tools/venv/bin/python3
    [ -x "$python" ] && meson_is_new "$python" && return 0
    say "fetching meson"
    new_log meson
    rm -rf "$build/tools"
    mkdir -p "$build/tools/deb"
    for suite in bookworm-backports trixie; do
        use_suites deb - $suite || continue
        (cd "$build/tools/deb" &&
         run_logged "$log" own_apt apt-get download "meson/$suite") && break
    done
    run_logged "$log" dpkg-deb -x "$build"/tools/deb/meson_*.deb \
        "$build/tools/root" || fetch_failed "meson could not be fetched"
    run_logged "$log" "$system_python" -m venv --without-pip \
        --system-site-packages "$build/tools/venv" ||
        die_log "$log" "no Python venv could be made"
    cp -r "$build"/tools/root/usr/lib/python3/dist-packages/meson* \
        "$build"/tools/venv/lib/python3*/site-packages/
    meson_is_new "$python" || die_log "$log" "the fetched meson does not run"
}

meson_is_new()
{
    "$1" -c 'import sys
from mesonbuild.coredata import version
sys.exit(tuple(int(n) for n in version.split(".")[:2]) < (1, 5))' 2> /dev/null
}
