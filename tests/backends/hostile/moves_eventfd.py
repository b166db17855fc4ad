# SPDX-License-Identifier: GPL-2.0-or-later
"""Moves on the eventfds that QEMU and its backend share."""

from __future__ import annotations

import os
import struct

from .backend import Backend, Behaviour, wait_a_little
from .move import Move
from .rings import Chain, Queue
from .wire import Message

_FULL = struct.pack("@Q", 0xfffffffffffffffe)


def _fill(fd: int) -> None:
    """The counter is as high as it goes: the next write would wait."""
    os.set_blocking(fd, False)
    try:
        os.read(fd, 8)
    except BlockingIOError:
        pass
    os.write(fd, _FULL)


class FillsKicks(Behaviour):
    """O_NONBLOCK belongs to both sides."""

    def go(self, b: Backend) -> None:
        for queue in b.running():
            _fill(queue.kick)
            os.set_blocking(queue.kick, True)
            queue.ring = None       # never read again
        b.tell("at go")


class FillsKicksAtPlug(Behaviour):
    """The kick after SET_VRING_ENABLE."""

    def handled(self, b: Backend, m: Message) -> None:
        if m.name == "SET_VRING_KICK" and b.armed:
            for queue in b.queues.values():
                if queue.kick >= 0:
                    queue.ring = None
                    queue.size = 0
                    _fill(queue.kick)
                    os.set_blocking(queue.kick, True)
            b.tell("at SET_VRING_KICK")


class FillsCalls(Behaviour):
    """QEMU reads it, and could wait for what is not there."""

    def go(self, b: Backend) -> None:
        for queue in b.running():
            os.set_blocking(queue.call, False)
            _fill(queue.call)
            os.set_blocking(queue.call, True)
        b.tell("at go")

    def request(self, b: Backend, queue: Queue, chain: Chain) -> bool:
        return b.armed              # a call would wait for QEMU


class StealsCalls(Behaviour):
    """A call that is gone when QEMU reads it."""

    def go(self, b: Backend) -> None:
        queues = b.running()
        for queue in queues:
            os.set_blocking(queue.call, True)

        def work() -> None:
            for queue in queues:
                os.write(queue.call, struct.pack("@Q", 1))
                os.set_blocking(queue.call, False)
                try:
                    os.read(queue.call, 8)
                except BlockingIOError:
                    pass
                os.set_blocking(queue.call, True)
            wait_a_little()
        b.fork(work)
        b.tell("at go")


class Closes(Behaviour):
    """Has no eventfd any more, and says nothing."""

    def go(self, b: Backend) -> None:
        for queue in b.running():
            queue.close()
        b.tell("at go")


MOVES = [
    Move("kick-filled", "eventfds", "clears O_NONBLOCK of the kicks, fills "
         "their counters and reads them no more", "go", FillsKicks,
         short="any"),
    Move("kick-filled-before-start", "eventfds", "the same before the rings "
         "are enabled", "plug", FillsKicksAtPlug),
    Move("kick-filled-then-stop", "eventfds", "the same, and the VM is "
         "stopped", "stop", FillsKicks),
    Move("kick-filled-then-reset", "eventfds", "the same, and the driver is "
         "bound anew", "reset", FillsKicks),
    Move("kick-filled-then-unplug", "eventfds", "the same, and the device is "
         "taken from its driver", "eject", FillsKicks),
    Move("call-filled", "eventfds", "clears O_NONBLOCK of the calls and fills "
         "their counters", "go", FillsCalls),
    Move("call-stolen", "eventfds", "clears O_NONBLOCK of the calls and reads "
         "them before QEMU does", "go", StealsCalls),
    Move("eventfds-closed", "eventfds", "closes them all", "go", Closes),
]
