# SPDX-License-Identifier: GPL-2.0-or-later
"""Moves of the guest, whose backend is honest, or swallows what it gets."""

from __future__ import annotations

from .backend import Backend, Behaviour
from .move import Move
from .moves_rings import Swallows


class Honest(Behaviour):
    """The move is the test's."""

    def go(self, b: Backend) -> None:
        b.tell("at go")


def _guest(name: str, does: str, make: type[Behaviour], times: int,
           short: str = "") -> Move:
    return Move(name, "guest", does, "poke", make, times=times, short=short)


MOVES = [
    _guest("guest-registers", "is honest; the guest writes to all registers "
           "of the device while its driver uses it", Honest, 4, "any"),
    _guest("guest-registers-swallowed", "never completes a large request; the "
           "guest does the same", Swallows, 4),
    Move("guest-resets", "guest", "is honest; the machine is reset under load "
         "five times", "restart", Honest, times=5, io="big",
         expect="goes on"),
]
