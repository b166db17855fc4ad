# SPDX-License-Identifier: GPL-2.0-or-later
#
# From one-line sources ("deb [options] URI suite component...") on the input,
# print the first one of suite "own" as a deb822 stanza with "types" and
# "suites"; of the options only signed-by is kept.

$1 != "deb" || done { next }
{
    line = $0
    sub(/^deb[ \t]+/, "", line)
    signed = ""
    if (line ~ /^\[/) {
        options = line
        sub(/\].*/, "", options)
        sub(/^\[[^]]*\][ \t]*/, "", line)
        if (options ~ /signed-by=/) {
            signed = options
            sub(/.*signed-by=/, "", signed)
            sub(/[ \t].*/, "", signed)
            gsub(/,/, " ", signed)
        }
    }
    split(line, words, /[ \t]+/)
    if (words[2] != own || words[1] ~ /^cdrom:/) {
        next
    }
    printf "Types: %s\nURIs: %s\nSuites: %s\nComponents: main\n",
        types, words[1], suites
    if (signed != "") {
        printf "Signed-By: %s\n", signed
    }
    printf "\n"
    done = 1
}
