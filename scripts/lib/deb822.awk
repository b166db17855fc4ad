# SPDX-License-Identifier: GPL-2.0-or-later
#
# From deb822 sources on the input, print the first enabled stanza for binary
# packages of suite "own", with its Types and Suites replaced by "types" and
# "suites", its component main, everything else (URIs, Signed-By, also one of
# several lines) as it was.

function flush_stanza(    i, n, words, found)
{
    n = split(field["suites"], words, /[ \t]+/)
    for (i = 1; i <= n; i++) {
        if (words[i] == own) {
            found = 1
        }
    }
    if (found && !done && field["types"] ~ /(^|[ \t])deb([ \t]|$)/ &&
        field["enabled"] !~ /^(no|false|0|off|disable)$/ &&
        field["uris"] !~ /^cdrom:/) {
        printf "Types: %s\nSuites: %s\nComponents: main\n", types, suites
        printf "%s\n", rest
        done = 1
    }
    split("", field)
    rest = ""
}

/^[ \t]*$/ { flush_stanza(); next }
/^#/ { next }
/^[ \t]/ {
    if (kept) {
        rest = rest $0 "\n"
    } else {
        field[name] = field[name] " " $0
    }
    next
}
{
    name = tolower($0)
    sub(/:.*/, "", name)
    value = $0
    sub(/^[^:]*:[ \t]*/, "", value)
    field[name] = value
    kept = name !~ /^(types|suites|components|enabled|architectures)$/
    if (kept) {
        rest = rest $0 "\n"
    }
}
END { flush_stanza() }
