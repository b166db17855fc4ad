# SPDX-License-Identifier: GPL-2.0-or-later
"""Moves on the backend's channel, where it may ask something of QEMU."""

from __future__ import annotations

import os
import socket
import struct

from .backend import Backend, Behaviour
from .move import Move
from .wire import (CHANNEL, HEADER, MAX_FDS, NEED_REPLY, VERSION, packet)

_STORM = 64                         # requests a tick
_SECONDS = 21
# What a request of each type holds; those without isolation read it.
_PAYLOAD = {"IOTLB": struct.pack("<QQQBB6x", 0, 4096, 0, 3, 1),
            "HOST_NOTIFIER": struct.pack("<QQQ", 0, 4096, 0),
            "CONFIG_CHANGE": b""}


def _request(name: str, need: bool) -> bytes:
    return packet(CHANNEL[name], _PAYLOAD.get(name, bytes(16)),
                  VERSION | (NEED_REPLY if need else 0))


class Asks(Behaviour):
    """Requests of one type; replies are never read."""

    def __init__(self, name: str, need: bool, times: int,
                 num_fds: int = 0) -> None:
        self._data = _request(name, need)
        self._left, self._num_fds = times, num_fds

    def tick(self, b: Backend) -> None:
        for _ in range(_STORM):
            if not self._left or not b.channel:
                break
            if not b.ask_raw(self._data, [0] * self._num_fds):
                break
            self._left -= 1
            b.tell("at request")


class Floods(Behaviour):
    """As fast as the channel takes them, from a process of its own."""

    def __init__(self, name: str) -> None:
        self._data = _request(name, False)

    def go(self, b: Backend) -> None:
        if not b.channel:
            return
        channel = b.channel

        def work() -> None:
            channel.sendall(self._data * 16)
        channel.setblocking(True)
        b.fork(work)
        b.tell("at go")


class SaysRaw(Behaviour):
    """Bytes that are no message, and then silence."""

    def __init__(self, data: bytes, num_fds: int = 0) -> None:
        self._data, self._num_fds = data, num_fds

    def go(self, b: Backend) -> None:
        if b.ask_raw(self._data, [0] * self._num_fds):
            b.tell("at go")


class Drips(Behaviour):
    """A message a byte at a time, for ever."""

    def __init__(self, name: str) -> None:
        self._data = _request(name, True)
        self._at = self._ticks = 0

    def tick(self, b: Backend) -> None:
        self._ticks += 1
        if self._ticks % 20:
            return
        if b.ask_raw(self._data[self._at:self._at + 1]):
            self._at = (self._at + 1) % len(self._data)
            b.tell("at tick")


class AsksAndGoes(Behaviour):
    """A request whose reply finds nobody."""

    def __init__(self, whole: bool) -> None:
        self._whole = whole

    def go(self, b: Backend) -> None:
        b.ask_raw(_request("CONFIG_CHANGE", True))
        if self._whole:
            b.disconnect()
        elif b.channel:
            b.channel.close()
            b.channel = None
        b.tell("at go")


class StaysAlone(Behaviour):
    """The socket is closed, the channel is not, and is half heard."""

    def __init__(self) -> None:
        self._alone: socket.socket | None = None

    def go(self, b: Backend) -> None:
        if b.channel:
            self._alone, b.channel = b.channel, None
            b.disconnect()
            b.tell("at go")

    def connected(self, _b: Backend) -> bool:
        if self._alone:
            self._alone.send(_request("CONFIG_CHANGE", True)[:5])
        return self._alone is None


class ClosesSlowly(Behaviour):
    """A descriptor whose close() waits: TCP data that nobody takes."""

    def __init__(self, times: int) -> None:
        self._times = times
        self._ends: list[socket.socket] = []

    def _lingering(self) -> socket.socket:
        listener = socket.socket()
        listener.bind(("127.0.0.1", 0))
        listener.listen(1)
        sender = socket.socket()
        sender.connect(listener.getsockname())
        self._ends += [listener, listener.accept()[0]]
        sender.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER,
                          struct.pack("ii", 1, _SECONDS))
        sender.setblocking(False)
        try:
            while True:
                sender.send(bytes(65536))
        except BlockingIOError:
            return sender

    def go(self, b: Backend) -> None:
        for _ in range(self._times):
            sender = self._lingering()
            if b.ask_raw(_request("SHARED_ADD", False), [sender.fileno()]):
                b.tell("at go")
            # QEMU's is the last one now.
            os.set_blocking(sender.fileno(), True)
            sender.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER,
                              struct.pack("ii", 1, _SECONDS))
            sender.close()


def _ask(name: str, need: bool, times: int) -> Move:
    word = name.lower().replace("_", "-")
    often = f"{times:,} times" if times > 1 else "once"
    return Move(f"channel-{word}" + ("-storm" if times > 1 else "") +
                ("-need-reply" if need else ""), "channel",
                f"sends {name} {often}" + (
                    ", wants a reply each time, and reads none"
                    if need else ""), "go", lambda: Asks(name, need, times),
                # Without isolation these do something.
                stock=name not in ("HOST_NOTIFIER", "IOTLB"),
                short="any" if name == "CONFIG_CHANGE" and need and times > 1
                else "")


def _raw(name: str, does: str, data: bytes, fds: int = 0,
         short: str = "") -> Move:
    return Move(f"channel-{name}", "channel", does, "go",
                lambda: SaysRaw(data, fds), short=short)


_CHANGE = _request("CONFIG_CHANGE", False)

MOVES = [
    *(_ask(name, need, 1) for name in CHANNEL for need in (False, True)),
    *(_ask(name, need, 20000) for name in ("CONFIG_CHANGE", "SHARED_LOOKUP")
      for need in (False, True)),
    Move("channel-config-change-flood", "channel", "sends CONFIG_CHANGE as "
         "fast as it can", "go", lambda: Floods("CONFIG_CHANGE")),
    Move("channel-refused-flood", "channel", "sends what is refused as fast "
         "as it can", "go", lambda: Floods("UNKNOWN"), short="any"),
    _raw("half-a-header", "sends 5 bytes of a header, and no more",
         _CHANGE[:5], short="any"),
    _raw("half-a-payload", "sends a header and half of its payload",
         packet(CHANNEL["SHARED_ADD"], bytes(7), VERSION, size=16)),
    _raw("says-huge", "says that a message has 4 GiB",
         packet(2, b"", VERSION, size=0xffffffff)),
    _raw("wrong-size", "sends a CONFIG_CHANGE of 300 bytes",
         packet(2, bytes(300), VERSION)),
    _raw("random", "sends random bytes", bytes(range(7, 250, 3))),
    _raw("many-fds", f"sends {MAX_FDS} descriptors with a message that needs "
         "none", _CHANGE, MAX_FDS),
    _raw("fds-on-half-a-header", "sends descriptors with half a header",
         _CHANGE[:HEADER.size // 2], 16),
    Move("channel-fds-often", "channel", "sends 8 descriptors with each of "
         "2,000 refused messages", "go",
         lambda: Asks("SHARED_ADD", False, 2000, 8)),
    Move("channel-drips", "channel", "sends a byte each tenth of a second",
         "go", lambda: Drips("CONFIG_CHANGE")),
    Move("channel-closed-after-request", "channel", "asks for a reply and "
         "closes the channel", "go", lambda: AsksAndGoes(False)),
    Move("channel-and-socket-closed-after-request", "channel", "asks for a "
         "reply and closes channel and socket", "go",
         lambda: AsksAndGoes(True)),
    Move("channel-outlives-socket", "channel", "closes the socket, and sends "
         "half a header on the channel", "go", StaysAlone),
    Move("channel-slow-close", "channel", "sends a descriptor that cannot be "
         f"closed for {_SECONDS} s", "go", lambda: ClosesSlowly(1),
         short="any"),
    Move("channel-slow-closes", "channel", "sends four of them", "go",
         lambda: ClosesSlowly(4)),
]
