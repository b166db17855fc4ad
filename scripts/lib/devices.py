#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""The matrix of devices and backends, for people.

    devices.py                what is tried
    devices.py --write-docs   the same into the user documentation
    devices.py --check-docs   does the documentation hold it, and is every
                              condition met that matrix.py promises?

The matrix itself is tests/functional/isolation/matrix.py.
"""

from __future__ import annotations

import argparse
import itertools
import sys
from pathlib import Path

TOP = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(TOP / "tests/functional/isolation"))

import matrix                               # noqa: E402

DOCS = TOP / "docs/system/devices/vhost-user-memory-isolation-devices.rst.inc"
GROUP, AGAIN = GROUPS = ("devices", "devices-off")
SIDES = ("on", "off")
HEADINGS = ("Device", "Backend", "Ring", "Queues")
NOT_RUN = "-"

INTRODUCTION = """\
.. SPDX-License-Identifier: GPL-2.0-or-later
..
   Written by scripts/lib/devices.py from the table in
   tests/functional/isolation/matrix.py; do not edit.

Each row is a guest with a Debian kernel on a backend that runs as a process
of its own.  The ring and the queues are those that the backend sees; a network
device has as many pairs of queues.  ``scripts/check devices devices-off`` runs
every row twice, with ``memory-isolation=on`` and private guest RAM and with the
property off and shared guest RAM, compares the data on both sides, and prints
this table with the outcomes.  ``devices`` alone, which is part of the plain
check, tries each kind of device once with the property off.

The guest's own kernel, ring format and number of vCPUs and the use of an
IOThread are spread over the rows; the last column has them as guest kernel,
guest ring (with the property on), vCPUs.  ``full`` is Debian's general kernel
instead of the one for clouds; ``drivers`` is that with the two drivers that
Debian leaves out, built as modules from its own source.

"""

ABSENCE = """\
Without a row, so only tried by ``tests/qtest`` where it is a device:
"""


def test_name(cell: matrix.Cell, side: str) -> str:
    """Of the cell's test in scripts/check."""
    group = GROUP if cell.first or side == "on" else AGAIN
    return f"{group}/{side}.{cell.method.removeprefix('test_')}"


def _columns(cell: matrix.Cell) -> list[str]:
    return [cell.row.device, cell.row.backend, cell.ring, str(cell.queues)]


def table(outcomes: dict[str, str] | None = None) -> str:
    """The matrix as text, with @outcomes (by test name) if there are any."""
    rows = [[*HEADINGS, *(f"isolation {s}" for s in SIDES)]]
    for cell in matrix.cells():
        marks = [(outcomes or {}).get(test_name(cell, s), NOT_RUN)
                 for s in SIDES]
        rows.append(_columns(cell) + marks)
    if outcomes is None:
        rows = [row[:len(HEADINGS)] for row in rows]
    widths = [max(map(len, column)) for column in zip(*rows)]
    lines = ["  ".join(word.ljust(width) for word, width in zip(row, widths))
             for row in rows]
    lines.insert(1, "  ".join("-" * width for width in widths))
    return "\n".join(line.rstrip() for line in lines)


def _conditions(cell: matrix.Cell) -> str:
    thread = ", IOThread" if cell.iothread else ""
    return f"{cell.kernel}, {cell.guest_ring}, {cell.cpus}{thread}"


def documentation() -> str:
    lines = [".. list-table:: Devices and backends", "  :header-rows: 1", ""]
    rows = [[*HEADINGS, "What the guest does", "Conditions"]]
    rows += [[*_columns(cell), cell.row.does, _conditions(cell)]
             for cell in matrix.cells()]
    for row in rows:
        lines += [f"  {'*' if i == 0 else ' '} - {word}"
                  for i, word in enumerate(row)]
    lines += ["", ABSENCE, *(f"* {what}: {why}."
                             for what, why in matrix.ABSENT)]
    return INTRODUCTION + "\n".join(lines) + "\n"


def unmet() -> list[str]:
    """Pairs of conditions that no cell has."""
    kinds = {"kernel": matrix.KERNELS, "guest_ring": matrix.RINGS,
             "iothread": (False, True)}
    found = []
    cells = list(matrix.cells())
    for one, other in itertools.combinations(kinds, 2):
        for pair in itertools.product(kinds[one], kinds[other]):
            if not any((getattr(c, one), getattr(c, other)) == pair
                       for c in cells):
                found.append(f"no cell has {one} {pair[0]} and "
                             f"{other} {pair[1]}")
    for cpus in (1, 2):
        if not any(c.cpus == cpus for c in cells):
            found.append(f"no cell has {cpus} vCPUs")
    names = [c.method for c in cells]
    found += [f"two cells are called {n}"
              for n in sorted(set(names)) if names.count(n) > 1]
    return found


def check_docs() -> list[str]:
    text = DOCS.read_text(encoding="utf-8") if DOCS.exists() else ""
    faults = unmet()
    if text != documentation():
        faults.append(f"{DOCS.relative_to(TOP)} is not current; run "
                      "scripts/lib/devices.py --write-docs")
    return faults


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--write-docs", action="store_true")
    parser.add_argument("--check-docs", action="store_true")
    args = parser.parse_args()
    if args.write_docs:
        DOCS.write_text(documentation(), encoding="utf-8")
    elif args.check_docs:
        faults = check_docs()
        print("\n".join(faults))
        return 1 if faults else 0
    else:
        print(table())
    return 0


if __name__ == "__main__":
    sys.exit(main())
