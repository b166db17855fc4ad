# SPDX-License-Identifier: GPL-2.0-or-later
"""The moves: what each does, where, and when."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Callable

from .backend import Behaviour

ALL = ("blk", "net", "fs", "scsi")


@dataclass(frozen=True)
class Move:
    """One row of the table."""

    name: str
    where: str
    does: str
    phase: str
    make: Callable[[], Behaviour] | None
    kinds: tuple[str, ...] = ALL
    rings: tuple[str, ...] = ("split", "packed")
    props: dict[str, Any] = field(default_factory=dict, hash=False)
    times: int = 1
    stock: bool = True              # can be tried without isolation
    short: bool = False             # part of the plain check


MOVES: list[Move] = []
