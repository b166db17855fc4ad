#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""What a guest may do to a device, and what became of it the last time.

    conformance.py               run all cases; those with isolation must see
                                 what docs/devel says
    conformance.py --write-docs  run them and write what they saw
    conformance.py --build DIR   with that build of QEMU (build/qemu)

The cases are tests/qtest/conformance-*.c; this script gives them backends, and
what the documentation says that each saw.
"""

from __future__ import annotations

import argparse
import os
import re
import shlex
import subprocess
import sys
import tempfile
from pathlib import Path

TOP = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(TOP / "tests/functional/isolation"))
DOCS = TOP / "docs/devel/vhost-user-memory-isolation-conformance.rst"

# Word of the program, letter of the table.
LETTERS = {"works": "w", "stopped": "s", "idle": "i", "differs": "d",
           "backend ends": "B", "QEMU ends": "Q", "hangs": "H", "-": "-"}
LOST = ", lost"
KINDS = ("blk", "net", "scsi", "fs")
MODES = ("on", "off", "inside")
FORMATS = ("split", "packed")
NAME_WIDTH = 51
CELL = rf"((?:[{''.join(LETTERS.values())}]!?){{3}})"

Outcomes = dict[tuple[str, str, str, str], str]   # kind, format, case, mode

INTRODUCTION = """\
.. SPDX-License-Identifier: GPL-2.0-or-later
..
   Written by scripts/lib/conformance.py --write-docs; do not edit.

:orphan:

What guests may do
==================

Each line is a case of ``tests/qtest/vhost-user-conformance-test.c``: a driver
does one odd thing, waits for what comes of it, resets the device and expects a
proper request to be answered.  For each device there are three letters: for
the vhost-user device with ``memory-isolation=on``, for the same device without,
with shared memory, and for QEMU's own device of that type.

=====  ======================================================================
``w``  a request was completed
``s``  the device stopped: it wants to be reset
``i``  nothing happened, and nothing need
``d``  a register is not what the specification says
``B``  the backend ended
``Q``  QEMU ended
``H``  no end was seen
``!``  behind one of these: no reset brought the device back
``-``  there is no such thing: a device without the interface of virtio 0.9, a
       backend without packed rings, no file system of QEMU's own
=====  ======================================================================

``scripts/check qtest/conformance`` runs all of it and compares the first
letters with this page.  The others are what was seen when it was written, on
a build with the repairs of this repository: QEMU ends in none of them, stock
QEMU in some.  With isolation a backend ends only over what it finds in a
request: that is between the guest and the backend.  A backend that is gone is
not connected again here.

The backends are the storage daemon of this QEMU (blk),
``tests/backends/small-net.c`` (net), ``tests/backends/small-scsi.c`` (scsi) and
virtiofsd of Debian 13 (fs).
All but the first are made with libraries that refuse a driver older than virtio
1.0 or end.
"""


def letter(word: str) -> str:
    lost = word.endswith(LOST)
    return LETTERS[word.removesuffix(LOST)] + ("!" if lost else "")


def word_of(text: str) -> str:
    words = {v: k for k, v in LETTERS.items()}
    return words[text[0]] + (LOST if text.endswith("!") else "")


# The page

def table(outcomes: Outcomes, form: str) -> str:
    cases = list(dict.fromkeys(case for _, f, case, _ in outcomes
                               if f == form))
    lines = [" ".join(["", " " * NAME_WIDTH,
                       *(kind.ljust(6) for kind in KINDS)]).rstrip()]
    for case in cases:
        cells = []
        for kind in KINDS:
            seen = [letter(outcomes.get((kind, form, case, mode), "-"))
                    for mode in MODES]
            cells.append("".join(seen).ljust(6))
        lines.append(f"  {case.ljust(NAME_WIDTH)}{' '.join(cells)}".rstrip())
    return "\n".join(lines)


def page(outcomes: Outcomes) -> str:
    text = INTRODUCTION
    for form, title in zip(FORMATS, ("Split rings", "Packed rings")):
        text += (f"\n{title}\n{'-' * len(title)}\n\n::\n\n"
                 f"{table(outcomes, form)}\n")
    return text


def read_page() -> Outcomes:
    """What the page says; nothing if there is none."""
    outcomes: Outcomes = {}
    if not DOCS.exists():
        return outcomes
    parts = re.split(r"\n(?:Split|Packed) rings\n-+\n",
                     DOCS.read_text("utf-8"))
    for form, part in zip(FORMATS, parts[1:]):
        for line in part.splitlines():
            found = re.match(r"  (\w+/.*?)\s+" +
                             r"\s+".join([CELL] * len(KINDS)) + "$", line)
            if not found:
                continue
            case, *cells = found.groups()
            for kind, cell in zip(KINDS, cells):
                for mode, text in zip(MODES, re.findall("[A-Za-z-]!?", cell)):
                    outcomes[kind, form, case, mode] = word_of(text)
    return outcomes


# The run

def backends(build: Path, work: Path) -> dict[str, str]:
    """Commands for the environment of the program."""
    import small_load
    from harness import guest
    image = work / "disk"
    with image.open("wb") as file:
        file.truncate(1 << 20)
    (work / "share").mkdir()
    net, scsi = map(small_load.compile_backend, ("net", "scsi"))
    return {
        "CONFORMANCE_BLK": shlex.join([
            str(build / "storage-daemon/qemu-storage-daemon"), "--blockdev",
            "driver=null-co,node-name=n,size=1048576,read-zeroes=on",
            "--export", "type=vhost-user-blk,id=e,node-name=n,writable=on,"
            "num-queues=2,addr.type=unix,addr.path={socket}"]),
        "CONFORMANCE_NET": shlex.join([str(net), "{socket}"]),
        "CONFORMANCE_SCSI": shlex.join([str(scsi), "{socket}", str(image)]),
        "CONFORMANCE_FS": shlex.join([
            *guest.program("virtiofsd-rust"), "--socket-path={socket}",
            f"--shared-dir={work / 'share'}", "--sandbox=none"]),
    }


def read_lines(path: Path) -> Outcomes:
    outcomes: Outcomes = {}
    for line in path.read_text("utf-8").splitlines():
        name, mode, seen = line.split("\t")
        kind, form, case = name.split("/", 2)
        outcomes[kind, form, case, mode] = seen
    return outcomes


# virtiofsd ends over features that it does not know, sooner or later.
RACES = {("fs", form, "steps/all features that could be", "on")
         for form in ("split", "packed")}


def run(build: Path, work: Path, before: Outcomes) -> tuple[int, Outcomes]:
    """The program's status, and what the cases saw.

    To compare with @before is to run those with isolation; without, all.
    """
    only = [f"-r=/x86_64/conformance/{kind}/on" for kind in KINDS if before]
    expect, seen = work / "expect", work / "seen"
    expect.write_text("".join(
        f"{kind}/{form}/{case}\t{mode}\t{what}\n"
        for (kind, form, case, mode), what in before.items()
        if (kind, form, case, mode) not in RACES), "utf-8")
    seen.touch()
    env = {**os.environ, **backends(build, work),
           "QTEST_QEMU_BINARY": str(build / "qemu-system-x86_64"),
           "CONFORMANCE_EXPECT": str(expect), "CONFORMANCE_OUT": str(seen)}
    done = subprocess.run(
        [str(build / "tests/qtest/vhost-user-conformance-test"), "--tap",
         "-k", *only], cwd=build, env=env, check=False)
    return done.returncode, read_lines(seen)


def missing(before: Outcomes, after: Outcomes) -> list[str]:
    """Cases that only one of the page and the program has."""
    both = {key for key in before if before[key] != "-"}, \
        {key for key in after if after[key] != "-"}
    return [f"{'/'.join(key[:3])} ({key[3]}) is not in the {where}"
            for one, other, where in ((*both, "program"),
                                      (*both[::-1], "page"))
            for key in sorted(one - other) if key[3] == "on"]


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--write-docs", action="store_true")
    parser.add_argument("--build", type=Path, default=TOP / "build/qemu")
    args = parser.parse_args()
    before = {} if args.write_docs else read_page()
    with tempfile.TemporaryDirectory(prefix="conformance-") as work:
        status, after = run(args.build, Path(work), before)
    if args.write_docs:
        DOCS.write_text(page(after), "utf-8")
        return 0
    faults = missing(before, after)
    for fault in faults:
        print(f"# {fault}")
    return 1 if faults or status else 0


if __name__ == "__main__":
    sys.exit(main())
