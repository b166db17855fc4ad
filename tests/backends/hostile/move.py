# SPDX-License-Identifier: GPL-2.0-or-later
"""What a move is; moves.py has them all."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Callable

from .backend import Behaviour

ALL = ("blk", "net", "fs", "scsi")
# The queue that carries a device's data.
DATA = {"blk": 0, "net": 1, "fs": 1, "scsi": 2}


@dataclass(frozen=True)
class Move:
    """One row of the table."""

    name: str
    where: str
    does: str
    phase: str
    make: Callable[[], Behaviour]
    kinds: tuple[str, ...] = ALL
    rings: tuple[str, ...] = ("split", "packed")
    props: dict[str, Any] = field(default_factory=dict, hash=False)
    # Of the device, by kind, and of a network's netdev, isolated or not.
    members: dict[str, dict[str, Any]] = field(default_factory=dict,
                                               hash=False)
    netdev: dict[str, Any] = field(default_factory=dict, hash=False)
    vectors: str = ""               # first and last one that the guest leads
                                    # to its slot's power control
    times: int = 1                  # that the phase is gone through
    devices: int = 1                # that make the move together
    stock: bool = True              # can be tried without isolation
    short: str = ""                 # "any", or of which kind it is part of
                                    # the plain check
    io: str = "io"                  # what must work then; or "big"
    expect: str = ""                # outcome, where the device must work
    late: bool = False              # the test does not wait for it to listen
    reconnect: bool = False         # the chardev connects again, of any kind
