# SPDX-License-Identifier: GPL-2.0-or-later
"""What is proven: one entry for each run of the model checker.

A proof is a function of a file in this folder, which includes the real source
files.  What it claims stands there, as the texts of PROVE().
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

RING_STEPS = ("add", "publish", "take", "kick", "unfetched", "take_back",
              "base", "look")


class Edit(NamedTuple):
    """A change to a copy of a source file; @old stands there once."""

    file: str
    old: str
    new: str


@dataclass(frozen=True)
class Proof:
    """One function, proven in one or more runs."""

    name: str
    what: str                       # for the table in the documentation
    source: str
    function: str
    unwind: int                     # loops; that it suffices is proven too
    defines: tuple[str, ...] = ()
    cases: tuple[str, ...] = ()     # names of runs, each with -D STEP=number
    flags: tuple[str, ...] = ()
    edits: tuple[Edit, ...] = ()    # constants made small, in a copy
    deep: bool = False
    limit: int = 600


def ring(fmt: str, size: int, deep: bool = False) -> Proof:
    return Proof(f"{fmt}-any-state-{size}",
                 f"one step from any valid state of a ring of {size}, hence "
                 "any number of steps",
                 f"shadow-ring-{fmt}.c", "proof_any_state", 2 * size + 3,
                 (f"RING_SIZE={size}", "NUM_STEPS=1"), RING_STEPS, deep=deep,
                 limit=7200 if deep else 900)


def steps(fmt: str, size: int, num: int, deep: bool = False) -> Proof:
    return Proof(f"{fmt}-first-{num}-steps-{size}",
                 f"the first {num} steps of a new ring of {size}",
                 f"shadow-ring-{fmt}.c", "proof_steps",
                 max(2 * size + 3, num + 1),
                 (f"RING_SIZE={size}", f"NUM_STEPS={num}"), deep=deep,
                 limit=7200 if deep else 900)


def pure(fmt: str, function: str, what: str, deep: bool = False,
         flags: tuple[str, ...] = ()) -> Proof:
    name = function.removeprefix("proof_").replace("_", "-")
    return Proof(f"{fmt}-{name}", what, f"shadow-ring-{fmt}.c", function, 3,
                 ("RING_SIZE=1", "NUM_STEPS=1"), flags=flags, deep=deep,
                 limit=7200 if deep else 600)


def broken(fmt: str, size: int) -> Proof:
    return Proof(f"{fmt}-broken-{size}",
                 f"one step of a ring of {size} in any state, but broken",
                 f"shadow-ring-{fmt}.c", "proof_broken", 2 * size + 3,
                 (f"RING_SIZE={size}", "NUM_STEPS=1"))


def chain(function: str, what: str, limit: int, flags: tuple[str, ...],
          defines: tuple[str, ...] = (), cases: tuple[str, ...] = (),
          deep: bool = False) -> Proof:
    name = function.removeprefix("proof_")
    return Proof(f"chain-{name}" + (f"-{limit}" if cases else ""), what,
                 "chain-pop.c", function, limit + 4,
                 (f"CHAIN_LIMIT={limit}", *defines), cases,
                 flags=("--object-bits", "12", *flags), deep=deep,
                 limit=7200 if deep else 900)


def pop(limit: int, deep: bool = False) -> Proof:
    return chain("proof_pop", f"chain pop with a limit of {limit} buffers",
                 limit, ("--unwindset", "chain_table_copy.0:3"),
                 cases=("split", "packed"), deep=deep)


def pool(name: str, what: str, num_cases: int, deep: bool = False) -> Proof:
    """A case for each number of recent spans and of extents."""
    file = "hw/virtio/bounce-pool.c"
    bounds = ("recent_flush.0:3,extents_take.0:6,extents_below.0:4,"
              "recent_take.0:3,step_take.0:3,move_in.0:5,move_in.1:5")
    cases = [f"{extents}-extents-{recent}-recent"
             for extents in range(6) for recent in range(3)]
    return Proof(name, "one take or give in any valid state of a pool of 16 "
                 "granules, 2 spans held and 2 recent at most" + what,
                 "bounce-pool.c", "proof_any_state", 10, ("MAX_SPANS=2",),
                 tuple(cases[:num_cases]),
                 ("--slice-formula", "--unwindset", bounds),
                 (Edit(file, "#define RECENT_MAX 64", "#define RECENT_MAX 2"),
                  Edit(file, "BounceExtent extent[];",
                       "BounceExtent extent[MAX_SPANS + RECENT_MAX + 1];")),
                 deep, 7200 if deep else 900)


PROOFS: tuple[Proof, ...] = (
    ring("split", 1), ring("split", 2), ring("split", 4),
    ring("split", 8, deep=True),
    steps("split", 2, 4), steps("split", 4, 4),
    steps("split", 2, 6, deep=True), steps("split", 4, 6, deep=True),
    broken("split", 4),
    pure("split", "proof_event",
         "the event decision: all events, indices and counts"),
    ring("packed", 1), ring("packed", 2), ring("packed", 3),
    ring("packed", 4, deep=True), ring("packed", 5, deep=True), ring("packed", 7, deep=True),
    steps("packed", 2, 4), steps("packed", 3, 4),
    steps("packed", 3, 6, deep=True), steps("packed", 4, 6, deep=True),
    broken("packed", 3),
    pure("packed", "proof_cursor", "the cursor: all sizes and places"),
    pure("packed", "proof_event_formula",
         "the event decision against the usual formula: all sizes, places "
         "and events"),
    chain("proof_copy", "a descriptor read from RAM in pieces of any size", 1,
          ("--unwindset", "chain_table_copy.0:17"), ("MIN_PIECE=1",)),
    pop(2), pop(4, deep=True),
    pool("pool-nearly-full", ", no extent, or one and nothing recent", 4),
    pool("pool-any-state", "", 18, deep=True),
)
