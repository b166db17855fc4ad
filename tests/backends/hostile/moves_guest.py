# SPDX-License-Identifier: GPL-2.0-or-later
"""Moves of the guest, whose backend is honest, or swallows what it gets."""

from __future__ import annotations

from typing import Callable

from .backend import Backend, Behaviour
from .move import ALL, Move
from .moves_channel import AsksAndGoes
from .moves_leave import Restarts
from .moves_rings import Swallows


class Honest(Behaviour):
    """The move is the test's."""

    def go(self, b: Backend) -> None:
        b.tell("at go")


def _guest(name: str, does: str, make: type[Behaviour], times: int,
           short: str = "") -> Move:
    return Move(name, "guest", does, "poke", make, times=times, short=short)


# Linux has its own vector for changes of the configuration first.
_CONFIG, _QUEUES = "0 0", "1 7"


def _vector(what: str, does: str, make: Callable[[], Behaviour], vectors: str,
            kinds: tuple[str, ...]) -> Move:
    return Move(f"vector-unplugs-at-{what}", "guest", does, "vector", make,
                kinds=kinds, vectors=vectors, expect="unplugged",
                short="" if kinds == ALL else kinds[0])


MOVES = [
    _vector("completion", "is honest; the interrupt of a queue unplugs the "
            "device", Honest, _QUEUES, ALL),
    # Only a disk's backend has a configuration that can change.
    _vector("config-change", "asks for a reply to CONFIG_CHANGE and closes the "
            "channel; the interrupt unplugs the device",
            lambda: AsksAndGoes(False), _CONFIG, ("blk",)),
    # Only a network tells its driver.
    _vector("link-down", "ends the connection; the interrupt that says so "
            "unplugs the device", Restarts, _CONFIG, ("net",)),
    _guest("guest-registers", "is honest; the guest writes to all registers "
           "of the device while its driver uses it", Honest, 4, "any"),
    _guest("guest-registers-swallowed", "never completes a large request; the "
           "guest does the same", Swallows, 4),
    Move("guest-resets", "guest", "is honest; the machine is reset under load "
         "five times", "restart", Honest, times=5, io="big",
         expect="goes on"),
]
