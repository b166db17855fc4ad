# SPDX-License-Identifier: GPL-2.0-or-later
#
# The steps of scripts/deb.  $release and $suite say for which Debian, $root is
# one to build in, $out gets the packages.
#
# What Debian's source package says about building QEMU is read at each run, by
# its own makefile and its own script; packaging/ holds what is ours.

packaging=$top/packaging
# The same place at every run: the compiler's cache knows it again.
inner=/build/qemu-isolation

# set_deb_version - $deb_version is higher after each commit here, after each new
# version of Debian's source, and on Debian 13 than on Debian 12; an uncommitted
# edit makes it higher than its commit has
set_deb_version()
{
    [ "$(git -C "$top" rev-parse --is-shallow-repository)" = false ] ||
        die "this clone is shallow, and versions count commits:" \
            "git fetch --unshallow"
    source_version=$(dpkg-parsechangelog -l "$qsrc/debian/changelog" \
                     -S Version)
    count=$(git -C "$top" rev-list --count HEAD)
    commit=$(git -C "$top" rev-parse --short=12 HEAD)
    # A date that is the commit's gives the same package again.
    date=$(git -C "$top" log -1 --format=%ct)
    if [ -n "$(git -C "$top" status --porcelain)" ] || tree_is_edited; then
        date=$(date +%s)
        count=$count+edit$date
        commit="$commit, edited"
    fi
    deb_version=${source_version#*:}+isolation$count~deb$release
}

# build_needs - the packages that Debian's source package builds QEMU with, but
# for tests and firmware
build_needs()
{
    perl -MDpkg::Control::Info -MDpkg::Deps -e '
        my $source = Dpkg::Control::Info->new($ARGV[0])->get_source();
        my $all = join(", ", grep { defined } map { $source->{$_} }
                       qw(Build-Depends Build-Depends-Arch));
        my $needs = deps_parse($all, build_dep => 1, reduce_arch => 1,
            host_arch => "amd64", reduce_profiles => 1, build_profiles =>
            ["nocheck", "pkg.qemu.use-upstream-vdso"]);
        print join("\n", map { $_->output() } $needs->get_deps()), "\n";
    ' "$qsrc/debian/control" > "$packages.needs" ||
        die "Debian's build dependencies cannot be read"
    absent_here | awk '{ print $1 }' > "$packages.absent"
    grep -vxFf "$packages.absent" "$packages.needs"
}

# absent_here - "package option" for what this release does not have
absent_here()
{
    sed -n "s/^$suite: //p" "$packaging/absent"
}

# make_build_root - a Debian with the compiler and all that is needed, kept for
# the next time as long as the needs are the same
make_build_root()
{
    build_needs | LC_ALL=C sort > "$packages.new"
    if [ -f "$root/.packages" ] && cmp -s "$packages.new" "$root/.packages"
    then
        return 0
    fi
    need_space 6
    say "making a Debian $release to build in"
    new_log "deb-root-$release"
    # Where only the needs failed to come, the rest can stay.
    if [ -f "$root/.packages" ] || [ ! -f "$root/.made" ]; then
        set --
        [ "$release" != 12 ] || set -- bookworm-backports
        make_root "$root" "$suite" build-essential,ccache,lintian,git "$@"
        touch "$root/.made"
    fi
    install_needs
    cp "$packages.new" "$root/.packages"
}

install_needs()
{
    # Of backports only what the release itself has too old.
    printf 'Package: meson\nPin: release n=%s-backports\nPin-Priority: 600\n' \
        "$suite" > "$root/etc/apt/preferences.d/meson"
    mkdir -p "$root/build/needs/debian"
    sed 's/$/,/; s/^/ /' "$packages.new" |
        cat "$packaging/control.needs" - > "$root/build/needs/debian/control"
    apt_inside "$root" build-dep /build/needs
    apt_inside "$root" clean
}

# lay_source - the tree that is built: QEMU, hooks, our files, no link
lay_source()
{
    say "laying the source of $deb_version"
    tree=$root$inner
    rm -rf --one-file-system "$tree"
    mkdir -p "$tree"
    qgit archive HEAD | tar -x -C "$tree"
    overlay_files | tar -c -C "$top" -T - | tar -x -C "$tree"
    mkdir "$tree/debian-qemu"
    mv "$tree/debian" "$tree/debian-qemu/"
}

# write_packaging - debian/ of the tree
write_packaging()
{
    debian=$tree/debian
    mkdir -p "$debian"
    (cd "$packaging" && tar -c .) | tar -x -C "$debian"
    cp "$top/docs/system/devices/vhost-user-memory-isolation"* \
        "$debian/manual/"
    absent_here | awk '{ print $2 }' > "$debian/options-absent"
    maintainer="${DEBFULLNAME:-$(qgit var GIT_AUTHOR_IDENT |
                                 sed 's/ <.*//')}"
    maintainer="$maintainer <${DEBEMAIL:-isolation@example.org}>"
    sed "s/\$/,/; s/^/ /" "$packages.new" > "$packages.control"
    fill control @NEEDS@ "$packages.control"
    sed -i "s|@MAINTAINER@|$maintainer|" "$debian/control"
    write_changelog > "$debian/changelog"
    # The first stanza there is about how that source package was made.
    sed '1,/^$/d' "$tree/debian-qemu/debian/copyright" > "$packages.qemu"
    overlay_files | sed 's/^/ /' > "$packages.files"
    fill copyright @QEMU@ "$packages.qemu" @FILES@ "$packages.files"
}

# fill NAME MARK FILE... - NAME of debian/, with each FILE in place of its MARK
fill()
{
    name=$1
    shift
    grep -v '^#' "$debian/$name.in" > "$debian/$name"
    while [ $# -gt 0 ]; do
        sed -i -e "/^$1\$/{r $2" -e 'd;}' "$debian/$name"
        shift 2
    done
}

write_changelog()
{
    cat <<END
qemu-isolation ($deb_version) $suite; urgency=medium

  * Memory isolation of vhost-user backends, commit $commit.
  * QEMU is that of Debian's source package,
    version $source_version.

 -- $maintainer  $(date -R -u -d "@$date")
END
}

# with_ccache - the compiler's cache of this machine, if it has one
with_ccache()
{
    ! command -v ccache > /dev/null || ccache -k cache_dir
}

build_packages()
{
    say "building, with $jobs job(s)"
    new_log "deb-build-$release"
    cache=$(with_ccache)
    setting="DEB_BUILD_OPTIONS='nocheck terse parallel=$jobs'"
    [ -z "$cache" ] ||
        setting="$setting PATH=/usr/lib/ccache:\$PATH CCACHE_DIR=/ccache
                 CCACHE_NOHASHDIR=1 CCACHE_BASEDIR=/build"
    binds=${cache:+"$cache /ccache"}
    begin=$(date +%s)
    # shellcheck disable=SC2086,SC2089,SC2090
    run_logged "$log" inside "$root" "cd $inner && env" $setting \
        "dpkg-buildpackage -b -us -uc" < /dev/null ||
        die_log "$log" "the packages cannot be built"
    binds=
    say "built in $(($(date +%s) - begin)) s"
}

check_packages()
{
    new_log "deb-lintian-$release"
    run_logged "$log" inside "$root" "cd /build && lintian --allow-root \
        --fail-on error --info --tag-display-limit 0 *.changes" ||
        die_log "$log" "lintian finds errors"
}

keep_packages()
{
    rm -f "$out"/*.deb "$out"/*.buildinfo "$out"/*.changes
    mv "$root"/build/*.deb "$root"/build/*.buildinfo \
        "$root"/build/*.changes "$out/"
    rm -rf --one-file-system "$tree"
    for file in "$out"/*.deb; do
        say "${file#"$top"/}"
    done
}
