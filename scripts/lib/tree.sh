# SPDX-License-Identifier: GPL-2.0-or-later
#
# build/qemu-src, or build/VERSION/qemu-src: QEMU as Debian ships it is the base
# commit, then one commit a hook, then links to our own files, which are never
# committed there.
#
# The stamp says what was laid: the base commit, then a line for each hook with
# the patch's hash, its name and its commit.  It tells "nothing changed" from
# "somebody edits a hook in that tree", whose work must not be overwritten.

# overlay_files - our files that belong into QEMU's tree, committed or not
overlay_files()
{
    git -C "$top" ls-files -co --exclude-standard -- configs hw include \
        net qapi tests/unit tests/qtest tests/functional docs > "$build/.listed" ||
        die "git cannot list the files of this checkout"
    sort -u "$build/.listed" | while IFS= read -r file; do
        # Deleted but not yet committed: git still lists it.
        [ ! -f "$top/$file" ] || printf '%s\n' "$file"
    done
}

# hook_files - the names of the hooks for this version.  A file in a folder of
# patches/ named like the version replaces the one of that name, or is one more;
# one without content leaves it out.
hook_files()
{
    for file in "$patches"/[0-9]*.patch "$own_patches"/[0-9]*.patch; do
        [ -f "$file" ] && printf '%s\n' "${file##*/}"
    done | sort -u | while IFS= read -r name; do
        [ ! -s "$(hook_path "$name")" ] || printf '%s\n' "$name"
    done
}

# hook_path NAME - the file of the hook for this version
hook_path()
{
    if [ -f "$own_patches/$1" ]; then
        printf '%s\n' "$own_patches/$1"
    else
        printf '%s\n' "$patches/$1"
    fi
}

unpack_qemu()
{
    if [ -d "$qsrc" ]; then
        return 0
    fi
    need_space 8
    set -- "$build"/download/qemu_"$qemu".*.dsc
    if [ ! -f "$1" ]; then
        rm -rf "$build/download"
        fetch_qemu "$build/download"
        set -- "$build"/download/qemu_"$qemu".*.dsc
        [ -f "$1" ] || die_log "$log" "apt left no qemu_$qemu.*.dsc"
    fi
    say "unpacking ${1##*/}"
    new_log unpack
    rm -rf "$qsrc.new"
    # No check: apt has checked the hashes against the signed lists.
    if ! run_logged "$log" dpkg-source --no-check --no-copy -x \
         "$1" "$qsrc.new"; then
        rm -rf "$qsrc.new"
        die_log "$log" "${1##*/} cannot be unpacked"
    fi
    rm -rf "$qsrc.new/.pc"
    commit_base "$1"
    mv "$qsrc.new" "$qsrc"
}

# The same source gives the same commit everywhere: fixed names, fixed date.
commit_base()
{
    (
        qsrc=$qsrc.new
        export GIT_AUTHOR_DATE='2025-01-01T00:00:00Z'
        export GIT_COMMITTER_DATE="$GIT_AUTHOR_DATE"
        run_logged "$log" qgit init -q -b isolation &&
        run_logged "$log" qgit add -Af &&
        run_logged "$log" qgit commit -q -m \
            "QEMU $(cat "$qsrc/VERSION"), Debian's $(basename "$1" .dsc)" &&
        base=$(qgit rev-parse HEAD) &&
        printf 'base %s\n' "$base" > "$qsrc/.git/${stamp##*/}"
    ) || die_log "$log" "QEMU's source cannot be committed"
}

check_version()
{
    version=$(cat "$qsrc/VERSION" 2> /dev/null) || version=unknown
    case $version in
    "$qemu".*) ;;
    *) die "$qsrc_name is QEMU $version, not $qemu.x; remove" \
           "${build#"$top"/}" ;;
    esac
}

stamp_head()
{
    awk 'END { print $NF }' "$stamp"
}

stamp_base()
{
    awk '$1 == "base" { print $2 }' "$stamp"
}

# tree_is_edited - whether somebody works on the hooks in build/qemu-src
tree_is_edited()
{
    [ "$(qgit rev-parse HEAD)" = "$(stamp_head)" ] || return 0
    qgit update-index -q --refresh > /dev/null 2>&1 || :
    ! qgit diff-index --quiet HEAD --
}

# hooks_wanted - "hash name" of each patch, in order
hooks_wanted()
{
    hook_files | while IFS= read -r name; do
        printf '%s %s\n' "$(sha256sum < "$(hook_path "$name")" | cut -c 1-64)" \
            "$name"
    done
}

# commit_hook PATCH PARENT - print the commit that git am would make of the
# patch on top of PARENT.  Done in an index of its own: the tree's files are
# not touched until all hooks are in, so one that fails changes nothing, and
# one that changes nothing in a file leaves its time stamp alone.
commit_hook()
{
    work=$build/.hook
    rm -rf "$work"
    mkdir -p "$work"
    (
        export GIT_INDEX_FILE="$work/index"
        # Chained: the caller looks at the status, so set -e is off here.
        qgit read-tree "$2" &&
        qgit mailinfo "$work/body" "$work/diff" < "$1" > "$work/info" &&
        qgit apply --cached --whitespace=nowarn "$work/diff" &&
        hook_message > "$work/message" &&
        tree=$(qgit write-tree) &&
        export GIT_AUTHOR_NAME="$(hook_field Author)" \
               GIT_AUTHOR_EMAIL="$(hook_field Email)" \
               GIT_AUTHOR_DATE="$(hook_field Date)" &&
        export GIT_COMMITTER_DATE="$GIT_AUTHOR_DATE" &&
        qgit commit-tree "$tree" -p "$2" -F "$work/message"
    )
}

hook_field()
{
    sed -n "s/^$1: //p" "$work/info"
}

hook_message()
{
    { hook_field Subject; echo; cat "$work/body"; } | qgit stripspace
}

# chain_hooks - commit the hooks of patches/ without touching a file of the
# tree: sets $head to the last commit, writes $stamp.new
chain_hooks()
{
    new_log hooks
    head=$(stamp_base)
    printf 'base %s\n' "$head" > "$stamp.new"
    keep=yes
    hooks_wanted > "$build/.hooks-wanted"
    line=1
    while read -r hash hook; do
        line=$((line + 1))
        laid=$(sed -n "${line}p" "$stamp")
        case "$keep $laid" in
        "yes $hash $hook "*)
            head=${laid##* }
            ;;
        *)
            keep=no
            printf '+ %s\n' "$hook" >> "$log"
            head=$(commit_hook "$(hook_path "$hook")" "$head" 2>> "$log") ||
                hook_failed "$hook"
            ;;
        esac
        printf '%s %s %s\n' "$hash" "$hook" "$head" >> "$stamp.new"
    done < "$build/.hooks-wanted"
}

# lay_hooks - make the tree hold exactly the hooks of patches/
lay_hooks()
{
    chain_hooks
    if [ "$head" != "$(qgit rev-parse HEAD)" ]; then
        say "laying the hooks of patches/"
        run_logged "$log" qgit reset -q --hard "$head" ||
            die_log "$log" "the hooks cannot be checked out"
    fi
    mv "$stamp.new" "$stamp"
}

# hooks_changed - whether patches/ is not what was laid
hooks_changed()
{
    hooks_wanted > "$build/.hooks-wanted"
    ! sed -n 's/ [0-9a-f]*$//; 2,$p' "$stamp" |
        cmp -s - "$build/.hooks-wanted"
}

hook_failed()
{
    rm -f "$stamp.new"
    file=$(sed -n -e 's/^error: patch failed: \(.*\)/\1/p' \
               -e 's/^error: \(.*\): does not exist in index$/\1/p' \
               -e 's/^error: \(.*\): already exists in index$/\1/p' "$log" |
           head -n 1)
    path=$(hook_path "$1")
    die_log "$log" "${path#"$top"/} does not apply${file:+, at $file}"
}

sync_hooks()
{
    if tree_is_edited; then
        say "note: $qsrc_name has edits of its own; patches/ not applied." \
            "Keep them with scripts/hooks$for_version save"
    elif hooks_changed; then
        lay_hooks
    fi
}

# link_overlay - our files appear in QEMU's tree, vanished ones disappear
link_overlay()
{
    exclude=$qsrc/.git/info/exclude
    overlay_files > "$build/.overlay"
    touch "$build/.overlay-laid"
    if cmp -s "$build/.overlay" "$build/.overlay-laid" && links_stand; then
        return 0
    fi
    # shellcheck disable=SC2046
    owned=$(tr '\n' '\0' < "$build/.overlay" |
            xargs -0 -r env GIT_CONFIG_GLOBAL=/dev/null \
                git -C "$qsrc" ls-tree --name-only HEAD --)
    [ -z "$owned" ] || die "QEMU owns a file of that name:" $owned
    comm -13 "$build/.overlay" "$build/.overlay-laid" |
        while IFS= read -r file; do
            [ ! -L "$qsrc/$file" ] || rm -f "$qsrc/$file"
        done
    sed 's|^|/|' "$build/.overlay" > "$exclude"
    while IFS= read -r file; do
        lay_link "$file"
    done < "$build/.overlay"
    cp "$build/.overlay" "$build/.overlay-laid"
}

links_stand()
{
    while IFS= read -r file; do
        [ -L "$qsrc/$file" ] || return 1
    done < "$build/.overlay"
}

# Relative, so that the checkout can be moved.
lay_link()
{
    [ -L "$qsrc/$1" ] && return 0
    out_of=$(printf '%s' "$1" | sed -e 's|[^/]*$||' -e 's|[^/]*/|../|g')
    mkdir -p "$qsrc/$(dirname "$1")"
    ln -s "$out_of$up/$1" "$qsrc/$1"
}
