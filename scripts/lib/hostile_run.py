#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""Moves of a hostile backend against a Linux guest, one after the other.

    hostile_run.py run SETTING [MOVE...]  SETTING: blk-split-mainloop and so on;
                                      with "-stock" behind it not isolated,
                                      with "-iommu" behind an IOMMU.
                                      MOVE may be a pattern; none means all
    hostile_run.py short                  those of the plain check
    hostile_run.py once [stock]           each move with one of the settings
    hostile_run.py --list                 the moves
    hostile_run.py --check-docs           does docs/devel list what there is?
    hostile_run.py --write-docs           write it, with what the last runs gave

QEMU_BUILD in the environment is the folder of the QEMU to try, e.g. one with
sanitizers.  Output is TAP, a line for each move.
"""

from __future__ import annotations

import fcntl
import fnmatch
import shutil
import sys
import time
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

TOP = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(TOP / "tests/functional/isolation"),
                str(TOP / "tests/backends"), str(TOP / "scripts/lib")]
sys.dont_write_bytecode = True

# pylint: disable=wrong-import-position
import hostile_docs                                     # noqa: E402
from hostile.move import ALL, Move                      # noqa: E402
from hostile.moves import MOVES                         # noqa: E402

if TYPE_CHECKING:
    # It needs QEMU's source, which a list of the tests does not.
    from hostile_stage import Result

WORK = TOP / "build/check/work/hostile"
USAGE = 2
# For the plain check: each device, ring format and thread.
SHORT = ("blk-split-mainloop", "net-split-iothread", "fs-packed-iothread",
         "scsi-packed-mainloop")


# Backends that have never heard of the IOMMU that their device is behind.
IOMMU = ("blk-split-iothread-iommu", "net-packed-mainloop-iommu",
         "fs-split-mainloop-iommu", "scsi-packed-iothread-iommu")


def settings() -> list[str]:
    """Each device, ring format and thread."""
    return [f"{kind}-{rings}-{thread}" for kind in ALL
            for rings in ("split", "packed")
            for thread in ("mainloop", "iothread")]


def all_settings() -> list[str]:
    """What `scripts/check hostile` runs."""
    return [*settings(), *IOMMU]


def moves_for(name: str, patterns: list[str]) -> list[Move]:
    kind, rings, _, *more = name.split("-")
    return [m for m in MOVES
            if kind in m.kinds and rings in m.rings and
            (m.stock or "stock" not in more) and
            (not patterns or any(fnmatch.fnmatchcase(m.name, p)
                                 for p in patterns))]


def take_turns(moves: list[Move], names: list[str]) -> dict[str, list[Move]]:
    """Each of @moves with one of the settings @names, if one fits."""
    found: dict[str, list[Move]] = {name: [] for name in names}
    for move in moves:
        fits = [name for name in names if move in moves_for(name, []) and
                (move.short in ("", "any") or name.startswith(move.short))]
        if fits:
            min((found[name] for name in fits), key=len).append(move)
    return found


def run_setting(name: str, moves: list[Move], first: int) -> int:
    """The number of moves with which something was wrong."""
    from hostile_machine import Setting
    from hostile_stage import Stage
    kind, rings, thread, *more = name.split("-")
    setting = Setting(kind, rings == "packed", thread == "iothread",
                      "stock" not in more, "iommu" in more)
    work = WORK / name
    WORK.mkdir(parents=True, exist_ok=True)
    bad = 0
    with (WORK / f".{name}.lock").open("w", encoding="ascii") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        shutil.rmtree(work, ignore_errors=True)
        work.mkdir()
        stage = Stage(work, setting)
        try:
            for number, move in enumerate(moves, first):
                result = stage.run(move)
                bad += bool(result.problems)
                tell(number, name, result)
                hostile_docs.save(name, asdict(result))
        finally:
            stage.end()
    return bad


def tell(number: int, name: str, result: Result) -> None:
    word = "not ok" if result.problems else "ok"
    print(f"{word} {number} {name}/{result.move}: {result.outcome} "
          f"(main loop {result.longest * 1000:.0f} ms, "
          f"log {result.log_bytes}, {result.seconds:.1f} s"
          f"{'' if result.made else ', not made'})")
    for problem in result.problems:
        print(f"# {time.strftime('%H:%M:%S')} {problem}")
    sys.stdout.flush()


def run(plan: dict[str, list[Move]]) -> int:
    bad = done = 0
    for name, moves in plan.items():
        bad += run_setting(name, moves, done + 1)
        done += len(moves)
    print(f"1..{done}")
    return 1 if bad else 0


def main() -> int:
    words = sys.argv[1:]
    if words == ["--list"]:
        for move in MOVES:
            print(f"{move.name:44} {move.phase:8} {move.does}")
        return 0
    if words == ["--check-docs"]:
        return hostile_docs.check(MOVES)
    if words == ["--write-docs"]:
        hostile_docs.write(MOVES)
        return 0
    if words == ["short"]:
        return run(take_turns([m for m in MOVES if m.short], list(SHORT)))
    if words == ["once"]:
        return run(take_turns(MOVES, settings()))
    if words == ["once", "stock"]:
        return run(take_turns(MOVES, [f"{s}-stock" for s in settings()]))
    if len(words) >= 2 and words[0] == "run" and \
            words[1].removesuffix("-stock") in all_settings():
        return run({words[1]: moves_for(words[1], words[2:])})
    print(__doc__, file=sys.stderr)
    return USAGE


if __name__ == "__main__":
    sys.exit(main())
