# SPDX-License-Identifier: GPL-2.0-or-later
"""Moves on the region as a whole, and on its descriptor."""

from __future__ import annotations

import ctypes
import fcntl
import os
import random
from typing import Callable

from .backend import Backend, Behaviour, wait_a_little
from .memory import Area
from .move import Move

_LIBC = ctypes.CDLL(None, use_errno=True)
_KEEP_SIZE, _PUNCH_HOLE = 1, 2
_ADD_SEALS, _SEAL_WRITE, _SEAL_FUTURE = 1033, 8, 16
_PIECE = 4096


class OnRegion(Behaviour):
    """Does something to each area, once; what the kernel says is told."""

    def __init__(self, work: Callable[[Area], None]) -> None:
        self._work = work

    def go(self, b: Backend) -> None:
        for area in b.memory.areas:
            try:
                self._work(area)
                b.tell("note done")
            except OSError as err:
                b.tell(f"note {err.strerror}")
        b.tell("at go")


def _truncate(area: Area) -> None:
    os.ftruncate(area.fd, 0)


def _grow(area: Area) -> None:
    os.ftruncate(area.fd, area.offset + 2 * area.size)


def _punch(area: Area) -> None:
    done = _LIBC.fallocate(area.fd, _KEEP_SIZE | _PUNCH_HOLE,
                           ctypes.c_long(area.offset),
                           ctypes.c_long(area.size))
    if done:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))


def _seal(area: Area) -> None:
    fcntl.fcntl(area.fd, _ADD_SEALS, _SEAL_WRITE | _SEAL_FUTURE)


class PunchesOften(Behaviour):
    """Holes where requests are under way."""

    def tick(self, b: Backend) -> None:
        for area in b.memory.areas:
            _punch(area)
        b.tell("at tick")


class WritesEverywhere(Behaviour):
    """Rings and data, all the time."""

    def go(self, b: Backend) -> None:
        areas = list(b.memory.areas)

        def work() -> None:
            for area in areas:
                # What lies at the beginning is written most.
                for span in (area.size, min(area.size, 1 << 16)):
                    at = area.offset + random.randrange(span - _PIECE)
                    area.map[at:at + _PIECE] = random.randbytes(_PIECE)
            wait_a_little()
        b.fork(work)
        b.tell("at go")


class Unmaps(Behaviour):
    """Forgets the region, but not that it is connected."""

    def go(self, b: Backend) -> None:
        for queue in b.queues.values():
            queue.ring = None
        b.memory.close()
        b.tell("at go")


def _once(name: str, does: str, work: Callable[[Area], None],
          short: str = "") -> Move:
    return Move(name, "region", does, "go", lambda: OnRegion(work),
                stock=False, short=short)


MOVES = [
    _once("region-truncated", "shortens it to nothing", _truncate, short="any"),
    _once("region-grown", "doubles its size", _grow),
    _once("region-punched", "punches a hole as large as the region", _punch),
    _once("region-sealed", "seals it against writing", _seal),
    Move("region-punched-often", "region", "punches it again and again", "go",
         PunchesOften, stock=False),
    Move("region-written-everywhere", "region", "writes random bytes "
         "everywhere all the time", "go", WritesEverywhere, stock=False,
         short="any"),
    Move("region-unmapped", "region", "unmaps it and stays connected", "go",
         Unmaps, stock=False),
]
