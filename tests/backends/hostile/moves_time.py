# SPDX-License-Identifier: GPL-2.0-or-later
"""Moves that take time: no answer, half of one, an answer a byte at a time."""

from __future__ import annotations

import os
import socket
import struct
from typing import Callable

from .backend import Backend, Behaviour
from .move import ALL, Move
from .rings import Chain, Queue
from .wire import (P_DEVICE_STATE, P_RESET_DEVICE, P_STATUS, HEADER, Message,
                   bits, packet)

# Each message that QEMU waits for, by the phase in which it sends it.
ASKED: dict[str, dict[str, tuple[str, ...]]] = {
    "plug": {**dict.fromkeys((
        "GET_FEATURES", "GET_PROTOCOL_FEATURES", "GET_QUEUE_NUM",
        "SET_BACKEND_REQ_FD", "SET_MEM_TABLE", "SET_VRING_ENABLE",
        "GET_STATUS"), ALL), "GET_CONFIG": ("blk",)},
    "config": {"SET_CONFIG": ("blk",)},
    "stop": dict.fromkeys(("GET_VRING_BASE", "SET_VRING_ENABLE"), ALL),
    "reset": dict.fromkeys(("GET_VRING_BASE", "SET_VRING_ENABLE",
                            "GET_STATUS", "RESET_DEVICE"), ALL),
    "restart": {"GET_VRING_BASE": ALL},
    "unplug": dict.fromkeys(("GET_VRING_BASE", "SET_VRING_ENABLE"), ALL),
    "eject": dict.fromkeys(("GET_VRING_BASE", "SET_VRING_ENABLE"), ALL),
    "migrate": {"GET_VRING_BASE": ALL, "SET_DEVICE_STATE_FD": ("fs",),
                "CHECK_DEVICE_STATE": ("fs",)},
}
# What has to be offered for it.
NEEDS = {"GET_STATUS": P_STATUS, "RESET_DEVICE": P_RESET_DEVICE,
         "SET_DEVICE_STATE_FD": P_DEVICE_STATE,
         "CHECK_DEVICE_STATE": P_DEVICE_STATE}
_SHORT = (("plug", "GET_FEATURES"), ("stop", "GET_VRING_BASE"),
          ("eject", "GET_VRING_BASE"))


class Mute(Behaviour):
    """Never answers one message; what comes behind it is not read."""

    def __init__(self, name: str, part: int = 0) -> None:
        self._name, self._part = name, part
        self.protocol = bits(NEEDS[name]) if name in NEEDS else 0

    def reply(self, b: Backend, m: Message, data: bytes) -> None:
        if m.name != self._name or not b.armed:
            return b.say(data)
        b.tell(f"at {m.name}")
        if self._part:
            b.say(data[:self._part])


class Drips(Behaviour):
    """Answers one message, or all, a byte at a time."""

    def __init__(self, name: str, ticks: int) -> None:
        self._name, self._every = name, ticks
        self._ticks, self._left = 0, b""

    def reply(self, b: Backend, m: Message, data: bytes) -> None:
        if not b.armed or self._name not in (m.name, "*"):
            return b.say(data)
        self._left += data
        b.tell(f"at {m.name}")

    def tick(self, b: Backend) -> None:
        self._ticks += 1
        if self._left and self._ticks % self._every == 0:
            b.say(self._left[:1])
            self._left = self._left[1:]


class Late(Drips):
    """Whole answers, each of them late."""

    def tick(self, b: Backend) -> None:
        self._ticks += 1
        if not self._left:
            self._ticks = 0
        elif self._ticks >= self._every:
            b.say(self._left)
            self._left, self._ticks = b"", 0


class Deaf(Behaviour):
    """Does not read, so that QEMU's own buffer is full in the end."""

    def connected(self, b: Backend) -> bool:
        if b.armed and self.phase == "plug":
            self.reads = False
            b.tell("at connect")
        return True

    def go(self, b: Backend) -> None:
        if b.sock:
            b.sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 2048)
        self.reads = False
        b.tell("at go")


class NoAck(Deaf):
    """QEMU waits for no reply, and sends one message after the other."""

    def reply(self, b: Backend, m: Message, data: bytes) -> None:
        if m.name == "GET_PROTOCOL_FEATURES":
            value = struct.unpack("<Q", data[HEADER.size:])[0] & ~bits(3)
            data = packet(m.request, struct.pack("<Q", value))
        b.say(data)


class Swallows(Behaviour):
    """Keeps what it has got; a stop waits for it."""

    def request(self, b: Backend, queue: Queue, chain: Chain) -> bool:
        if not b.armed:
            return False
        b.tell("at request")
        return True


class KeepsPipe(Behaviour):
    """Takes the pipe of the device's state, and writes nothing."""

    protocol = bits(P_DEVICE_STATE)

    def handled(self, b: Backend, m: Message) -> None:
        if m.name == "SET_DEVICE_STATE_FD":
            b.tell("at SET_DEVICE_STATE_FD")


class EndlessState(KeepsPipe):
    """State without end."""

    def handled(self, b: Backend, m: Message) -> None:
        if m.name == "SET_DEVICE_STATE_FD" and b.kept_fds:
            fd = b.kept_fds.pop()
            b.fork(lambda: os.write(fd, bytes(65536)) and None)
            os.close(fd)
            b.tell("at SET_DEVICE_STATE_FD")


class OwnPipe(KeepsPipe):
    """Sends a descriptor of its own to read from."""

    def __init__(self, kind: str) -> None:
        self._kind = kind

    def reply(self, b: Backend, m: Message, data: bytes) -> None:
        if m.name != "SET_DEVICE_STATE_FD":
            return b.say(data)
        if self._kind == "pipe":
            fd, other = os.pipe()
        elif self._kind == "socket":
            left, right = socket.socketpair()
            fd, other = left.detach(), right.detach()
        else:
            fd, other = os.open("/", os.O_RDONLY), os.dup(0)
        b.kept_fds.append(other)
        b.say(packet(m.request, struct.pack("<Q", 0)), [fd])
        os.close(fd)


def _mutes() -> list[Move]:
    moves = []
    for phase, messages in ASKED.items():
        for name, kinds in messages.items():
            word = name.lower().replace("_", "-")
            moves.append(Move(
                f"mute-at-{word}-{phase}", "time",
                f"never answers {name}", phase, lambda n=name: Mute(n),
                kinds=kinds, short="any" if (phase, name) in _SHORT else ""))
    return moves


def _state(name: str, does: str, make: Callable[[], Behaviour],
           short: str = "") -> Move:
    return Move(f"state-{name}", "time", does, "migrate", make, kinds=("fs",),
                short=short)


MOVES = [
    *_mutes(),
    Move("half-an-answer-plug", "time", "answers GET_FEATURES with half a "
         "header", "plug", lambda: Mute("GET_FEATURES", 6)),
    Move("half-a-payload-plug", "time", "answers GET_FEATURES with half a "
         "payload", "plug", lambda: Mute("GET_FEATURES", 16)),
    Move("half-an-answer-stop", "time", "answers GET_VRING_BASE with half a "
         "header", "stop", lambda: Mute("GET_VRING_BASE", 6)),
    Move("drips-plug", "time", "answers GET_FEATURES a byte each second",
         "plug", lambda: Drips("GET_FEATURES", 200)),
    Move("drips-stop", "time", "answers GET_VRING_BASE a byte each second",
         "stop", lambda: Drips("GET_VRING_BASE", 200), short="any"),
    Move("drips-all", "time", "answers everything a byte each 20 ms", "plug",
         lambda: Drips("*", 4)),
    Move("late-plug", "time", "answers everything 1.5 s late", "plug",
         lambda: Late("*", 300)),
    Move("late-stop", "time", "answers everything of a stop 1.5 s late",
         "stop", lambda: Late("*", 300)),
    Move("deaf-plug", "time", "reads nothing from the beginning", "plug",
         Deaf),
    Move("deaf-stop", "time", "reads nothing any more, and the VM is stopped",
         "stop", Deaf),
    Move("deaf-config", "time", "wants no acknowledgements and reads nothing "
         "while the guest writes configuration", "config", NoAck,
         kinds=("blk",)),
    Move("swallows-stop", "time", "completes nothing any more, and the VM is "
         "stopped", "stop", Swallows),
    Move("swallows-stop-of-four", "time", "four devices with 4 s for a stop "
         "complete nothing any more, and the VM is stopped", "stop", Swallows,
         devices=4, props={"memory-isolation-stop-ms": 4000}, stock=False,
         kinds=("blk", "scsi")),
    _state("pipe-kept-open", "takes the pipe for its state and writes "
           "nothing", KeepsPipe, short="any"),
    _state("without-end", "writes state without end", EndlessState),
    _state("own-pipe", "sends a pipe of its own and writes nothing",
           lambda: OwnPipe("pipe")),
    _state("own-socket", "sends a socket of its own and writes nothing",
           lambda: OwnPipe("socket")),
    _state("own-folder", "sends a folder for a pipe",
           lambda: OwnPipe("folder")),
]
