# SPDX-License-Identifier: GPL-2.0-or-later
"""Moves with the messages of the main socket: replies of a wrong shape or
with wrong contents, replies to nothing, what is offered.
"""

from __future__ import annotations

import random
import struct
from typing import Callable

from .backend import Backend, Behaviour
from .move import ALL, Move
from .wire import (F_EVENT_IDX, F_PACKED, F_PROTOCOL, F_VERSION_1, HEADER,
                   MAX_FDS, NEED_REPLY, NUMBERS, P_STATUS, REPLY, VERSION,
                   Message, bits, packet)

Shape = Callable[[Backend, Message, bytes], None]


class Shapes(Behaviour):
    """The reply to one message has another shape."""

    def __init__(self, name: str, shape: Shape) -> None:
        self._name, self._shape = name, shape

    def reply(self, b: Backend, m: Message, data: bytes) -> None:
        if m.name != self._name or not b.armed:
            return b.say(data)
        b.tell(f"at {m.name}")
        self._shape(b, m, data)


def _resized(b: Backend, m: Message, data: bytes, size: int) -> None:
    b.say(packet(m.request, data[HEADER.size:].ljust(size, b"\0")[:size]))


def _short(b: Backend, m: Message, data: bytes) -> None:
    _resized(b, m, data, len(data) - HEADER.size - 4)


def _empty(b: Backend, m: Message, data: bytes) -> None:
    _resized(b, m, data, 0)


def _long(b: Backend, m: Message, data: bytes) -> None:
    _resized(b, m, data, len(data) - HEADER.size + 8)


def _says_huge(b: Backend, m: Message, data: bytes) -> None:
    b.say(packet(m.request, data[HEADER.size:], size=0xffffffff))


def _wrong_number(b: Backend, m: Message, data: bytes) -> None:
    b.say(packet(m.request + 1, data[HEADER.size:]))


def _wrong_flags(b: Backend, m: Message, data: bytes) -> None:
    b.say(packet(m.request, data[HEADER.size:], NEED_REPLY | 2))


def _twice(b: Backend, m: Message, data: bytes) -> None:
    b.say(data + data)


def _random(b: Backend, m: Message, data: bytes) -> None:
    b.say(random.randbytes(len(data)))


def _garbage(b: Backend, m: Message, data: bytes) -> None:
    """A good header, and any contents."""
    b.say(packet(m.request, random.randbytes(len(data) - HEADER.size)))


def _one_fd(b: Backend, m: Message, data: bytes) -> None:
    b.say(data, [0])


def _many_fds(b: Backend, m: Message, data: bytes) -> None:
    b.say(data, [0] * MAX_FDS)


def _fds_on_payload(b: Backend, m: Message, data: bytes) -> None:
    b.say(data[:HEADER.size])
    b.say(data[HEADER.size:], [0] * 8)


SHAPES: dict[str, tuple[str, Shape]] = {
    "short": ("is 4 bytes too short", _short),
    "empty": ("has no payload", _empty),
    "long": ("is 8 bytes too long", _long),
    "says-huge": ("says that it has 4 GiB", _says_huge),
    "wrong-number": ("answers another message", _wrong_number),
    "wrong-flags": ("is no reply", _wrong_flags),
    "twice": ("comes twice", _twice),
    "random": ("is random, header and all", _random),
    "garbage": ("has random contents", _garbage),
    "one-fd": ("comes with a descriptor", _one_fd),
    "many-fds": (f"comes with {MAX_FDS} descriptors", _many_fds),
    "late-fds": ("has descriptors at its payload", _fds_on_payload),
}
# Which replies, and what the test does to have them asked for.
ANSWERED = {"GET_FEATURES": ("plug", ALL),
            "GET_PROTOCOL_FEATURES": ("plug", ALL),
            "GET_QUEUE_NUM": ("plug", ALL),
            "SET_MEM_TABLE": ("plug", ALL),
            "SET_VRING_ENABLE": ("plug", ALL),
            "GET_CONFIG": ("plug", ("blk",)),
            "GET_VRING_BASE": ("stop", ALL)}
_SHORT = (("GET_VRING_BASE", "says-huge"), ("GET_FEATURES", "many-fds"))


def _shapes() -> list[Move]:
    return [Move(f"reply-{shape}-to-{name}".lower().replace("_", "-"),
                 "messages", f"its reply to {name} {does}", phase,
                 lambda n=name, f=work: Shapes(n, f), kinds=kinds,
                 short="any" if (name, shape) in _SHORT else "")
            for name, (phase, kinds) in ANSWERED.items()
            for shape, (does, work) in SHAPES.items()]


class SaysToNobody(Behaviour):
    """Messages on the main socket that nobody waits for."""

    def __init__(self, times: int, data: bytes, num_fds: int = 0) -> None:
        self._times, self._data, self._num_fds = times, data, num_fds

    def go(self, b: Backend) -> None:
        for _ in range(self._times):
            b.say(self._data, [0] * self._num_fds)
        b.tell("at go")


class Offers(Behaviour):
    """Bits that it should not offer."""

    def __init__(self, features: int, protocol: int) -> None:
        self.features, self.protocol = features, protocol

    def handled(self, b: Backend, m: Message) -> None:
        if m.name == "GET_FEATURES":
            b.tell("at GET_FEATURES")


class Replies(Behaviour):
    """Other contents for one reply."""

    def __init__(self, name: str, payload: bytes) -> None:
        self._name, self._payload = name, payload

    def reply(self, b: Backend, m: Message, data: bytes) -> None:
        if m.name == self._name and b.armed:
            data = packet(m.request, self._payload)
            b.tell(f"at {m.name}")
        b.say(data)


class ChangesFeatures(Behaviour):
    """Comes back with others than it had."""

    def __init__(self, change: Callable[[int], int]) -> None:
        self._change = change
        self._again = False

    def go(self, b: Backend) -> None:
        self._again = True
        b.tell("at go")
        b.disconnect()

    def reply(self, b: Backend, m: Message, data: bytes) -> None:
        if self._again and m.name == "GET_FEATURES":
            data = packet(m.request, struct.pack(
                "<Q", self._change(b.offered()) & (1 << 64) - 1))
        b.say(data)


class OddConfig(Behaviour):
    """A configuration space of another size than QEMU asked for."""

    def __init__(self, offset: int, more: int) -> None:
        self._offset, self._more = offset, more

    def reply(self, b: Backend, m: Message, data: bytes) -> None:
        if m.name == "GET_CONFIG" and b.armed:
            _, size, flags = struct.unpack_from("<III", m.payload)
            size = max(size + self._more, 0)
            data = packet(m.request, struct.pack(
                "<III", self._offset, size, flags) + bytes(size))
            b.tell("at GET_CONFIG")
        b.say(data)


def _contents(name: str, what: str, value: bytes, phase: str = "plug",
              short: str = "") -> Move:
    return Move(name.lower().replace("_", "-"), "messages", what, phase,
                lambda: Replies(name.split("-")[0], value), short=short)


def _odd(name: str, does: str, offset: int, more: int) -> Move:
    return Move(f"config-{name}", "messages", f"its configuration space {does}",
                "plug", lambda: OddConfig(offset, more), kinds=("blk",))


def _nobody(name: str, does: str, times: int, data: bytes,
            fds: int = 0, short: str = "") -> Move:
    return Move(name, "messages", does, "go",
                lambda: SaysToNobody(times, data, fds), short=short)


def _features(name: str, does: str, change: Callable[[int], int]) -> Move:
    # A file system's connection cannot come back by itself yet.
    return Move(f"features-{name}", "messages", does, "go",
                lambda: ChangesFeatures(change))


class ManyQueues(Behaviour):
    """More than messages that carry a descriptor can name."""

    queues = 1024


_EVERYTHING = (1 << 64) - 1
# SET_VRING_KICK has eight bits for a queue; a network has two a pair.
_QUEUES = 300
_ACK = packet(NUMBERS["SET_MEM_TABLE"], bytes(8), VERSION | REPLY)

MOVES = [
    *_shapes(),
    _nobody("reply-to-nothing", "sends a reply that nobody asked for", 1,
            _ACK),
    _nobody("replies-to-nothing", "sends 2,000 of them", 2000, _ACK),
    _nobody("half-a-reply-to-nothing", "sends 5 bytes that nobody asked for",
            1, _ACK[:5]),
    _nobody("descriptors-to-nobody", f"sends {MAX_FDS} descriptors that "
            "nobody asked for, eight times", 8, _ACK, MAX_FDS, short="any"),
    Move("all-protocol-bits", "messages", "offers all protocol features",
         "plug", lambda: Offers(0, _EVERYTHING), stock=False),
    Move("unknown-protocol-bits", "messages", "offers protocol features that "
         "do not exist yet", "plug",
         lambda: Offers(0, _EVERYTHING & ~((1 << 20) - 1))),
    Move("all-features", "messages", "offers all features", "plug",
         lambda: Offers(_EVERYTHING, 0), stock=False),
    _contents("GET_FEATURES-nothing", "has no feature at all", bytes(8)),
    _contents("GET_PROTOCOL_FEATURES-nothing", "has no protocol feature",
              bytes(8)),
    _contents("GET_QUEUE_NUM-nothing", "has no queue", bytes(8)),
    _contents("GET_QUEUE_NUM-many", "has 2^63 queues",
              struct.pack("<Q", 1 << 63)),
    _contents("GET_VRING_BASE-wrong-queue", "tells the base of queue 200",
              struct.pack("<II", 200, 0), "stop"),
    _contents("GET_VRING_BASE-wrong-base", "tells a base that cannot be",
              struct.pack("<II", 0, 0xffffffff), "stop", short="any"),
    _features("gone", "comes back without any feature",
              lambda old: old & bits(F_PROTOCOL)),
    _features("all", "comes back with all features",
              lambda old: _EVERYTHING),
    _features("other-rings", "comes back with rings of the other format",
              lambda old: old ^ bits(F_PACKED) | bits(F_EVENT_IDX)),
    _features("legacy", "comes back without VERSION_1",
              lambda old: old & ~bits(F_VERSION_1)),
    _features("no-protocol", "comes back without protocol features",
              lambda old: old & ~bits(F_PROTOCOL)),
    _odd("empty", "has no byte", 0, -256),
    _odd("one-less", "has a byte less", 0, -1),
    _odd("one-more", "has a byte more", 0, 1),
    _odd("much-more", "has 100 bytes more", 0, 100),
    _odd("elsewhere", "begins at offset 2^31", 1 << 31, 0),
    Move("pinned-ring-not-offered", "messages", "does not offer the ring that "
         "the user insists on", "plug", lambda: Offers(0, 0),
         rings=("split",), props={"memory-isolation-packed": "on"},
         stock=False, short="net"),
    Move("queues-beyond-eight-bits", "messages", f"offers 1024 queues; the "
         f"device has {_QUEUES}, of which SET_VRING_KICK can name 256", "plug",
         ManyQueues, expect="refused", short="net",
         members={"blk": {"num-queues": _QUEUES},
                  "scsi": {"num_queues": _QUEUES},
                  "fs": {"num-request-queues": _QUEUES}, "net": {"mq": True}},
         netdev={"queues": _QUEUES // 2},
         # Or it would be refused since a queue's share is too small.
         props={"memory-isolation-size": 1 << 30}),
    Move("status-is-garbage", "messages", "has a status of its own", "plug",
         lambda: _Status()),
]


class _Status(Replies):
    protocol = bits(P_STATUS)

    def __init__(self) -> None:
        super().__init__("GET_STATUS", struct.pack("<Q", _EVERYTHING))


