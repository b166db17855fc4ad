# SPDX-License-Identifier: GPL-2.0-or-later
#
# Reads patches/series and prints "BLOCK <tab> KIND <tab> VALUE" a line, with
# BLOCK 0 for the cover letter and for what belongs to no commit.

function fail(text)
{
    printf "patches/series:%d: %s\n", FNR, text > "/dev/stderr"
    failed = 1
    exit 1
}

/^#/ || /^[ \t]*$/ { next }
{
    kind = $1
    value = $0
    sub(/^[^ \t]+[ \t]?/, "", value)
}
kind == "cover" { printf "0\tsubject\t%s\n", value; current = 0; next }
kind == "commit" {
    current = ++blocks
    printf "%d\tsubject\t%s\n", current, value
    next
}
kind == "|" { printf "%d\tbody\t%s\n", current, value; next }
kind == "skip" { printf "0\tskip\t%s\n", value; next }
kind == "file" || kind == "hook" || kind == "remove" {
    if (!blocks) {
        fail("\"" kind "\" before the first commit")
    }
    printf "%d\t%s\t%s\n", current, kind, value
    next
}
{ fail("unknown word \"" kind "\"") }
END {
    if (!failed && !blocks) {
        printf "patches/series: no commit\n" > "/dev/stderr"
        exit 1
    }
}
