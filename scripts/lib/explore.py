#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""Runs the shadow ring in every order against a device, access by access.

    explore.py split|packed       what is proved in a minute or so
    explore.py split-deep|packed-deep
    explore.py planted            faults that must be found
    explore.py litmus             what the memory models allow

See tests/explore.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import rings

sys.path.insert(0, str(rings.EXPLORE))
import planted  # noqa: E402  pylint: disable=wrong-import-position

WRAPPED = ("g_malloc0", "g_malloc0_n", "g_free", "__assert_fail",
           "g_assertion_message_expr")
ENGINE = ("actor.c", "explore.c", "locations.c", "memory-c11.c",
          "memory-tso.c")
SOURCES = ENGINE + ("parties.c", "main.c", "device.c", "device-split.c",
                    "device-packed.c")
EVENTS = ("", "--event-idx")

# Split indices wrap at 65536: begin shortly before.
BEFORE_WRAP = "--before 65534"

# Every grouping is tried where both habits are free.  Steps whose order does
# not matter are tried in one, but in the first scenarios in all of them.
PLAIN = [
    "--size 1 --num 3 --memory tso --every-order",
    "--size 1 --num 2 --memory c11 --every-order",
    "--size 2 --num 3 --driver all --device all --memory tso --every-order",
    "--size 1 --num 8 --memory tso",
    "--size 1 --num 6 --memory c11",
    "--size 2 --num 6 --memory tso",
    "--size 2 --num 3 --memory c11",
    "--size 2 --num 3 --bufs 2 --memory c11",
    "--size 4 --num 4 --memory sc",
    "--size 4 --num 12 --driver all --device all --bufs 2 --memory tso",
    "--size 4 --num 12 --driver one --device one --bufs 2 --memory sc",
    "--size 4 --num 12 --driver all --device reverse --bufs 2 --memory c11",
    "--size 4 --num 9 --driver late --device all --bufs 2 --memory tso",
    "--size 2 --num 6 --driver late --device all --memory c11",
    "--size 4 --num 5 --driver free --device one --bufs 2 --memory tso",
    "--size 4 --num 4 --driver one --device free --bufs 2 --memory tso",
    "--size 2 --num 6 --driver one --device all --bufs 2 --indirect "
    "--memory tso",
    "--size 2 --num 4 --driver all --device reverse --bufs 2 --indirect "
    "--memory c11",
]
PLAIN_PACKED = [
    "--size 3 --num 3 --memory tso",
    "--size 3 --num 9 --driver all --device all --bufs 2 --memory c11",
    "--size 4 --num 8 --driver one --device all --bufs 4 --memory tso",
    "--size 4 --num 8 --driver all --device reverse --bufs 4 --memory c11",
    "--size 2 --num 4 --halves --memory tso",
]
DEEP = [
    "--size 1 --num 16 --memory tso",
    "--size 1 --num 12 --memory c11",
    "--size 2 --num 7 --memory tso",
    "--size 2 --num 4 --memory c11",
    "--size 4 --num 5 --memory sc",
    "--size 4 --num 8 --driver free --device one --bufs 2 --memory tso",
    "--size 4 --num 6 --driver one --device free --bufs 2 --memory tso",
    "--size 4 --num 8 --driver all --device free --bufs 3 --memory sc",
    "--size 2 --num 5 --driver free --device free --bufs 2 --indirect "
    "--memory tso",
]
DEEP_PACKED = [
    "--size 3 --num 4 --memory tso",
    "--size 3 --num 3 --memory c11",
    "--size 3 --num 8 --driver free --device one --bufs 3 --memory tso",
    "--size 4 --num 7 --driver free --device free --bufs 4 --memory tso",
    "--size 3 --num 6 --halves --driver all --device free --memory tso",
]


def explorer(name: str = "explore",
             sources: tuple[str, ...] = SOURCES) -> rings.Program:
    return rings.Program(
        name, [rings.EXPLORE / source for source in sources],
        first=[rings.EXPLORE / "include"],
        link=["-Wl," + ",".join(f"--wrap={w}" for w in WRAPPED)])


def explore(program: Path, options: list[str]) -> tuple[int, str]:
    done = subprocess.run([str(program), *options], capture_output=True,
                          text=True, check=False)
    return done.returncode, done.stdout + done.stderr


def claim_of(words: str) -> str:
    """A scenario's name: free habits go without saying."""
    return words.replace("--before ", "after ").replace("--", "")


def prove(form: str, scenarios: list[str]) -> int:
    tap = rings.Tap()
    program = explorer().make()
    for scenario in scenarios:
        for event in EVENTS:
            words = f"--format {form} {scenario} {event}".strip()
            if form == "split":
                words += " " + BEFORE_WRAP
            status, text = explore(program, words.split())
            lines = text.strip().splitlines()
            said = lines[-1] if lines else "nothing"
            tap.result(status == 0, f"{claim_of(words)}: {said}",
                       "" if status == 0 else "\n".join(lines[-120:]))
    return tap.end()


def find_planted(names: list[str]) -> int:
    """Each fault is found, in a scenario where nothing is without it."""
    tap = rings.Tap()
    program = explorer()
    program.make()
    sound: dict[str, int] = {}
    for fault in planted.FAULTS:
        if names and fault.name not in names:
            continue
        key = " ".join(sorted(fault.options))
        if key not in sound:
            sound[key], _ = explore(program.path, fault.options)
        good = False
        with rings.planted_copy(fault) as (folder, why):
            if not why:
                bad = program.make_with(folder / "ring", fault.file, folder)
                status, text = explore(bad, fault.options)
                why = (text.strip().splitlines() or ["it said nothing"])[-1]
                good = (status == 1 and fault.fault in why and
                        sound[key] == 0)
                if not good:
                    why += f" (status {status}; {sound[key]} without it)"
        tap.result(good, f"{fault.name}: {why}")
    return tap.end()


def main() -> int:
    what = sys.argv[1] if len(sys.argv) > 1 else ""
    packed = what.startswith("packed")
    form = "packed" if packed else "split"
    if what == "planted":
        return find_planted(sys.argv[2:])
    if what == "litmus":
        program = explorer("litmus", ENGINE + ("litmus.c",)).make()
        return subprocess.run([str(program)], check=False).returncode
    if what in ("split", "packed"):
        return prove(form, PLAIN + (PLAIN_PACKED if packed else []))
    if what in ("split-deep", "packed-deep"):
        return prove(form, DEEP + (DEEP_PACKED if packed else []))
    print(__doc__, file=sys.stderr)
    return 2


if __name__ == "__main__":
    try:
        sys.exit(main())
    except rings.RingsError as err:
        sys.exit(f"Bail out! {err}")
