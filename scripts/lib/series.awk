# SPDX-License-Identifier: GPL-2.0-or-later
#
# Reads patches/series and prints "BLOCK <tab> KIND <tab> VALUE" a line.  BLOCK
# is the number of a commit, "sN" for the Nth series, and 0 for what belongs to
# neither.

function fail(text)
{
    printf "patches/series:%d: %s\n", FNR, text > "/dev/stderr"
    failed = 1
    exit 1
}

function put(kind, value)
{
    printf "%s\t%s\t%s\n", current, kind, value
}

# A commit, of the series that is open.
function begin_commit()
{
    if (!covered) {
        fail("a commit before the cover of its series")
    }
    current = ++commits
    picked = 0
    put("series", "s" series)
}

/^#/ || /^[ \t]*$/ { next }
{
    kind = $1
    value = $0
    sub(/^[^ \t]+[ \t]?/, "", value)
}
kind == "series" {
    if (value !~ /^[a-z0-9-]+$/ || value in names) {
        fail("\"" value "\" cannot be the name of a series")
    }
    names[value] = 1
    current = "s" ++series
    covered = picked = 0
    put("name", value)
    next
}
kind == "cover" {
    if (!series || covered) {
        fail("\"cover\" without a series, or twice")
    }
    covered = 1
    put("subject", value)
    next
}
kind == "commit" { begin_commit(); put("subject", value); next }
kind == "pick" { begin_commit(); picked = 1; put("hook", value); next }
kind == "skip" { printf "0\tskip\t%s\n", value; next }
kind == "|" {
    if (current == "" || picked) {
        fail("text that belongs to nothing")
    }
    put("body", value)
    next
}
kind == "file" || kind == "hook" || kind == "remove" {
    if (!commits || current != commits || picked) {
        fail("\"" kind "\" that belongs to no commit")
    }
    put(kind, value)
    next
}
{ fail("unknown word \"" kind "\"") }
END {
    if (!failed && !commits) {
        printf "patches/series: no commit\n" > "/dev/stderr"
        exit 1
    }
}
