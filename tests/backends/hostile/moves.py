# SPDX-License-Identifier: GPL-2.0-or-later
"""The moves: what each does, where, and when.

A row has a name, what the backend does, and the phase of the test in which it
does it: what the test does to the device then.

    plug      the device is plugged in and its driver starts it
    go        the guest reads and writes, nothing else
    config    the driver writes to the configuration space
    stop      the VM is stopped and goes on
    reset     the driver is bound anew
    restart   the machine is reset
    unplug    the device is unplugged, and its driver lets it go
    eject     the device goes while its driver uses it
    replug    it is unplugged, and another one plugged in on its chardev
    migrate   the VM is saved
    poke      the guest writes to the device's registers
    vector    the guest has led interrupts of the device to the power control
              of its slot

What is expected is the same of all of them: QEMU lives, its main loop stands
still no longer than the documentation says, the VM's other disk is served,
nothing is leaked, little is logged.  What becomes of the device itself is the
backend's affair; the table of docs/devel has what was seen.
"""

from __future__ import annotations

from . import (moves_channel, moves_eventfd, moves_guest, moves_leave,
               moves_message, moves_region, moves_rings, moves_time)
from .move import Move

MOVES: list[Move] = [
    *moves_rings.MOVES, *moves_region.MOVES, *moves_message.MOVES,
    *moves_channel.MOVES, *moves_time.MOVES, *moves_eventfd.MOVES,
    *moves_leave.MOVES, *moves_guest.MOVES]

assert len({move.name for move in MOVES}) == len(MOVES)
