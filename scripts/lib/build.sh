# SPDX-License-Identifier: GPL-2.0-or-later
#
# Configuring and building: one tree a variant, all from build/qemu-src.

jobs=$(nproc)

# arm_devices - the device list of an Arm QEMU besides, for this version or for
# any; an exported series has none
arm_devices()
{
    for list in "isolation-$qemu" isolation; do
        if [ -f "$qsrc/configs/devices/arm-softmmu/$list.mak" ]; then
            printf '%s' "$list"
            return 0
        fi
    done
}

# A backtrace has its lines with -g1, for a quarter of what -g costs.
configure_arguments()
{
    devices=$(arm_devices)
    machines=x86_64-softmmu${devices:+,arm-softmmu}
    if [ "$variant" = s390x ]; then
        devices=
        machines=s390x-softmmu
    fi
    cat <<END
--python=$python
--target-list=$machines
--without-default-features
--enable-system
--enable-tcg
--enable-kvm
--enable-tools
--enable-vhost-user
--enable-vhost-net
--enable-vhost-kernel
--enable-vhost-vdpa
--enable-vhost-crypto
--enable-vhost-user-blk-server
--enable-libvduse
--enable-vduse-blk-export
--enable-slirp
--enable-linux-io-uring
--enable-fdt=system
--enable-attr
--enable-seccomp
--enable-pixman
--enable-trace-backends=log
--disable-debug-info
--extra-cflags=-g1
--disable-install-blobs
--disable-download
--with-pkgversion=memory-isolation
END
    [ -z "$devices" ] || printf '%s\n' --with-devices-arm="$devices"
    [ "$qemu" = 10.0 ] || printf '%s\n' --enable-gio --enable-passt
    case $variant in
    asan) printf '%s\n' --enable-asan --enable-ubsan ;;
    clang) printf '%s\n' --cc=clang ;;
    # Sixty times; what only an optimizing compiler warns of, it does at the end.
    export) printf '%s\n' -Doptimization=0 ;;
    esac
}

# configure_qemu - only when its arguments are not those of the last time
configure_qemu()
{
    mkdir -p "$out"
    configure_arguments > "$out/.arguments.new"
    if [ -f "$out/build.ninja" ] &&
       cmp -s "$out/.arguments.new" "$out/.arguments"; then
        return 0
    fi
    need_space 3
    find_meson
    configure_arguments > "$out/.arguments.new"
    say "configuring ${out#"$top"/}"
    new_log "configure-$name"
    rm -f "$out/.arguments"
    # shellcheck disable=SC2046
    (cd "$out" && run_logged "$log" "$qsrc/configure" \
        $(cat .arguments.new)) ||
        die_log "$log" "configure failed"
    mv "$out/.arguments.new" "$out/.arguments"
}

# targets - what to build: scripts/lib/targets, and our own tests as soon as
# QEMU's build knows them
targets()
{
    if [ "$variant" = s390x ]; then
        echo qemu-system-s390x
        return 0
    fi
    sed -n -e 's/[[:space:]]*#.*//' -e '/^$/d' -e '/^?/!p' \
        "$top/scripts/lib/targets"
    {
        sed -n 's/^?//p' "$top/scripts/lib/targets"
        sed -n -e 's/\.c$//; t known' -e d -e ':known' \
            -e '/^tests\/unit\/\|^tests\/qtest\//p' "$build/.overlay"
    } | while IFS= read -r target; do
        if grep -q "^build $target:" "$out/build.ninja"; then
            printf '%s\n' "$target"
        fi
    done
}

# ninja_logged DIR LOG TARGET... - with a sign of life on the terminal
ninja_logged()
{
    dir=$1
    log=$2
    shift 2
    rm -f "$log.status"
    {
        if ninja -C "$dir" -j "$jobs" "$@" 2>&1; then
            echo 0 > "$log.status"
        else
            echo 1 > "$log.status"
        fi
    } | tee "$log" | show_progress "${dir#"$top"/}"
    status=$(cat "$log.status" 2> /dev/null || echo 1)
    rm -f "$log.status"
    return "$status"
}

# Terminal: one line that counts.  Elsewhere: a line each tenth.
show_progress()
{
    tenth=-1
    started=
    while IFS= read -r line; do
        case $line in
        \[*/*\]*) ;;
        *) continue ;;
        esac
        line=${line#\[}
        line=${line%%\]*}
        step=${line%/*}
        steps=${line#*/}
        case $step$steps in
        *[!0-9]*) continue ;;
        esac
        # Eight are run each time, whatever has changed.
        [ "$steps" -gt 8 ] || continue
        started=yes
        if [ -t 2 ]; then
            printf '\r%s: building %s: %s of %s ' \
                "$progname" "$1" "$step" "$steps" >&2
        elif [ $((step * 10 / steps)) -ne "$tenth" ]; then
            tenth=$((step * 10 / steps))
            say "building $1: $step of $steps"
        fi
    done
    if [ -n "$started" ] && [ -t 2 ]; then
        echo >&2
    fi
}

build_qemu()
{
    mkdir -p "$logs"
    ninja_logged "$out" "$logs/build-$name.log" build.ninja ||
        build_failed "configuring again failed"
    # shellcheck disable=SC2046
    ninja_logged "$out" "$logs/build-$name.log" $(targets) ||
        build_failed "the build failed"
}

build_failed()
{
    log=$logs/build-$name.log
    grep -E -A 8 'FAILED:|error:|ERROR:|undefined reference' "$log" |
        head -n 25 | sed 's/^/    /' >&2
    die "$1 (log: ${log#"$top"/})"
}

# QEMU started from its build tree looks for firmware here.
link_firmware()
{
    share=$out/qemu-bundle/usr/local/share/qemu
    mkdir -p "$share"
    for file in /usr/share/seabios/*.bin /usr/share/qemu/* \
        /usr/lib/ipxe/qemu/*.rom; do
        [ -e "$file" ] || continue
        # A link to a file that a newer package no longer has is made anew.
        [ -e "$share/${file##*/}" ] || ln -sf "$file" "$share/"
    done
}

# build_extra - what the top-level meson.build describes
build_extra()
{
    extra=$build/extra
    [ -f "$top/meson.build" ] || return 0
    if [ ! -f "$extra/build.ninja" ]; then
        say "configuring build/extra"
        new_log configure-extra
        run_logged "$log" "$out/pyvenv/bin/meson" setup "$extra" "$top" ||
            die_log "$log" "configuring build/extra failed"
    fi
    name=extra
    ninja_logged "$extra" "$logs/build-extra.log" ||
        build_failed "the build of build/extra failed"
}
