# SPDX-License-Identifier: GPL-2.0-or-later
"""The page of docs/devel about the hostile backend's moves.

Runs leave what they saw in build/check/hostile, a file for each setting (those
of another QEMU than this tree's in a folder beside it).  write() makes the page
of that and of the table of moves.  check() compares moves and descriptions:
what was seen is of the machine that wrote the page.
"""

from __future__ import annotations

import json
import os
import re
import textwrap
from pathlib import Path
from typing import Any

TOP = Path(__file__).resolve().parents[2]
RESULTS = TOP / "build/check/hostile"
# Of another build than the one that the page is about.
OTHERS = TOP / "build/check/hostile-others"
DOCS = TOP / "docs/devel/vhost-user-memory-isolation-hostile.rst"
TEMPLATE = TOP / "tests/backends/hostile/docs.rst.in"
KINDS = ("blk", "net", "fs", "scsi")
_NOTHING = "-"


def save(setting: str, result: dict[str, Any]) -> None:
    folder = OTHERS if "QEMU_BUILD" in os.environ else RESULTS
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{setting}.json"
    known = load(setting, folder)
    known[result["move"]] = result
    new = path.with_suffix(".new")
    new.write_text(json.dumps(known, indent=1), encoding="utf-8")
    new.rename(path)


def load(setting: str, folder: Path = RESULTS) -> dict[str, Any]:
    path = folder / f"{setting}.json"
    found: dict[str, Any] = {}
    if path.exists():
        found = json.loads(path.read_text(encoding="utf-8"))
    return found


def _words(result: dict[str, Any]) -> str:
    """What a run saw, without what differs from run to run."""
    text = "; ".join(result["problems"]) or result["outcome"]
    text = re.sub(r"^refused: .*", "is refused", text, flags=re.DOTALL)
    return re.sub(r"bad\d+", "the device", text)


def _names(kind: str, stock: bool) -> list[str]:
    """Of the settings of one device."""
    return [f"{kind}-{rings}-{thread}{more}"
            for rings in ("split", "packed")
            for thread in ("mainloop", "iothread")
            for more in (["-stock"] if stock else ["", "-iommu"])]


def _seen(move: Any, stock: bool) -> str:
    """Outcomes over all settings, with the devices if they differ."""
    seen: dict[str, list[str]] = {}
    for kind in KINDS:
        for name in _names(kind, stock):
            result = load(name).get(move.name)
            if result and kind not in seen.setdefault(_words(result), []):
                seen[_words(result)].append(kind)
    if not seen:
        return _NOTHING
    if len(seen) == 1:
        return next(iter(seen))
    return "; ".join(f"{', '.join(kinds)}: {text}"
                     for text, kinds in seen.items())


def _longest(move: Any) -> str:
    times = [load(path.stem)[move.name]["longest"]
             for path in RESULTS.glob("*.json")
             if not path.stem.endswith("stock") and
             move.name in load(path.stem)]
    return f"{max(times):.1f}" if times else _NOTHING


def _cell(text: str, column: int) -> str:
    return textwrap.fill(text, 79, break_on_hyphens=False,
                         initial_indent="    - " if column else "  * - ",
                         subsequent_indent=" " * 6) + "\n"


def _table(moves: list[Any], where: str, known: bool) -> str:
    rows = [["Move", "What the backend does, and when", "The device", "s",
             "Without isolation"]]
    for move in moves:
        if move.where == where:
            rows.append([f"``{move.name}``", f"{move.does} ({move.phase})",
                         _seen(move, False) if known else _NOTHING,
                         _longest(move) if known else _NOTHING,
                         _seen(move, True) if known else _NOTHING])
    cells = "".join(_cell(cell, i) for row in rows
                    for i, cell in enumerate(row))
    return (f".. list-table:: {where.capitalize()}\n  :header-rows: 1\n"
            f"  :widths: 24 32 22 4 18\n\n{cells}\n")


def text(moves: list[Any], known: bool) -> str:
    wheres = list(dict.fromkeys(move.where for move in moves))
    tables = "".join(_table(moves, where, known) for where in wheres)
    return TEMPLATE.read_text("utf-8").replace("@MOVES@\n\n", tables)


def _without_outcomes(page: str) -> list[str]:
    """The first two cells of each row, and what is no row."""
    lines: list[str] = []
    cell = 0
    for line in page.splitlines():
        cell = 0 if line.startswith("  * - ") else \
            cell + 1 if line.startswith("    - ") else \
            cell if line.startswith(" " * 6) else -1
        if cell < 2:
            lines.append(line)
    return lines


def check(moves: list[Any]) -> int:
    have = DOCS.read_text("utf-8") if DOCS.exists() else ""
    good = _without_outcomes(have) == _without_outcomes(text(moves, False))
    print(f"{'ok' if good else 'not ok'} 1 docs/devel lists the moves")
    if not good:
        print("# scripts/lib/hostile_run.py --write-docs writes it anew")
    return not good


def write(moves: list[Any]) -> None:
    DOCS.write_text(text(moves, True), encoding="utf-8")
