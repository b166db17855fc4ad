# SPDX-License-Identifier: GPL-2.0-or-later
"""Moves on the shadow rings, of either format."""

from __future__ import annotations

import random
from typing import Callable

from .backend import Backend, Behaviour, wait_a_little
from .move import DATA, Move
from .rings import Chain, Queue
from .wire import F_EVENT_IDX, bits

Lie = Callable[[Queue, Chain], None]
_BEYOND, _HUGE = 0x7ff0, 0xffffffff


class Lies(Behaviour):
    """Completes the first request otherwise than it should."""

    def __init__(self, lie: Lie) -> None:
        self._lie = lie
        self._told = False

    def request(self, b: Backend, queue: Queue, chain: Chain) -> bool:
        if not b.armed or self._told or queue.index != DATA[b.kind]:
            return False
        self._told = True
        self._lie(queue, chain)
        queue.notify()
        b.tell("at request")
        return True


def _beyond(queue: Queue, chain: Chain) -> None:
    assert queue.ring
    queue.ring.raw_used(_BEYOND, chain.room, chain.count)


def _not_out(queue: Queue, chain: Chain) -> None:
    assert queue.ring
    queue.ring.raw_used((chain.id + queue.size // 2) % queue.size, chain.room,
                        chain.count)


def _twice(queue: Queue, chain: Chain) -> None:
    assert queue.ring
    for _ in range(2):
        queue.ring.raw_used(chain.id, chain.room, chain.count)


def _ahead(queue: Queue, chain: Chain) -> None:
    """An index, or flags of a whole lap, of what was never fetched."""
    ring = queue.ring
    assert ring
    if not ring.packed:
        ring.used.put16(2, ring.next_used + queue.size)
        return
    for _ in range(queue.size):
        ring.raw_used(chain.id, 0)


def _back(queue: Queue, chain: Chain) -> None:
    """The index goes back, or the flags to those of the lap before."""
    ring = queue.ring
    assert ring
    if not ring.packed:
        ring.used.put16(2, ring.next_used - 1)
        return
    ring.used_wrap ^= 1
    ring.raw_used(chain.id, chain.room, chain.count)


def _too_long(queue: Queue, chain: Chain) -> None:
    assert queue.ring
    queue.ring.raw_used(chain.id, _HUGE, chain.count)


class Rewrites(Behaviour):
    """Serves, and writes again and again where only QEMU should."""

    def __init__(self, write: Callable[[Queue], None]) -> None:
        self._write = write

    def go(self, b: Backend) -> None:
        queues = b.running()

        def work() -> None:
            for queue in queues:
                self._write(queue)
            wait_a_little()
        b.fork(work)
        b.tell("at go")


def _descriptors(queue: Queue) -> None:
    """Addresses and lengths; of a packed ring not the flags."""
    assert queue.ring
    for number in range(queue.size):
        queue.ring.desc.put32(16 * number, random.getrandbits(32))
        if not queue.ring.packed:
            queue.ring.desc.put32(16 * number + 8, random.getrandbits(32))


def _flags(queue: Queue) -> None:
    assert queue.ring
    at = 14 if queue.ring.packed else 12
    for number in range(queue.size):
        queue.ring.desc.put16(16 * number + at, random.getrandbits(16))


def _driver_part(queue: Queue) -> None:
    """The avail ring; of a packed one the driver's event words."""
    assert queue.ring
    view, size = queue.ring.views()[2]
    for at in range(0, size, 2):
        view.put16(at, random.getrandbits(16))


def _used_part(queue: Queue) -> None:
    assert queue.ring
    view, size = queue.ring.views()[1]
    for at in range(0, size, 2):
        view.put16(at, random.getrandbits(16))


def _event_words(queue: Queue) -> None:
    assert queue.ring
    view, at = queue.ring.event_word()
    view.put16(at, random.getrandbits(16))
    if queue.ring.packed:
        view.put16(at + 2, random.getrandbits(16))


def _all(queue: Queue) -> None:
    assert queue.ring
    for view, size in queue.ring.views():
        view.write(random.randbytes(size))
    queue.notify()


class EventWords(Rewrites):
    """They mean something only with event indices."""

    features = bits(F_EVENT_IDX)

    def __init__(self) -> None:
        super().__init__(_event_words)


class Calls(Behaviour):
    """Notifies without end."""

    def go(self, b: Backend) -> None:
        queues = b.running()

        def work() -> None:
            for queue in queues:
                queue.notify()
        b.fork(work)
        b.tell("at go")


class Swallows(Behaviour):
    """Never completes a large request, nor one without a header."""

    size = 64 << 10

    def request(self, b: Backend, queue: Queue, chain: Chain) -> bool:
        if queue.index != DATA[b.kind]:
            return False
        total = sum(size for _, size in chain.out + chain.into)
        if total < self.size:
            return False
        b.tell("at request")
        return True


class Pretends(Behaviour):
    """Completes at once, before there is any data, and writes later."""

    def request(self, b: Backend, queue: Queue, chain: Chain) -> bool:
        if not b.armed or queue.index != DATA[b.kind] or not queue.ring:
            return False
        queue.ring.complete(chain, chain.room)
        queue.notify()
        chain.write(random.randbytes(min(chain.room, 4096)))
        b.tell("at request")
        return True


def _lie(name: str, does: str, lie: Lie, short: str = "") -> Move:
    return Move(name, "rings", does, "go", lambda: Lies(lie), stock=False,
                short=short)


def _rewrite(name: str, does: str, write: Callable[[Queue], None],
             short: str = "") -> Move:
    return Move(name, "rings", does, "go", lambda: Rewrites(write),
                stock=False, short=short)


MOVES = [
    _lie("used-id-beyond-the-ring", "completes an id that the ring has not",
         _beyond, short="any"),
    _lie("used-id-not-out", "completes a request that was not made", _not_out),
    _lie("used-twice", "completes a request twice", _twice),
    _lie("used-runs-ahead", "index or flags say that a whole ring is used",
         _ahead),
    _lie("used-goes-back", "the index goes back, the flags change their lap",
         _back),
    _lie("used-too-long", "says that it wrote 4 GiB", _too_long),
    _rewrite("descriptors-rewritten", "writes addresses and lengths into the "
             "descriptors all the time", _descriptors),
    _rewrite("flags-rewritten", "writes flags into the descriptors all the "
             "time", _flags),
    _rewrite("driver-part-rewritten", "writes to the avail ring, or to the "
             "driver's event words, all the time", _driver_part),
    _rewrite("used-part-rewritten", "writes to the used ring, or to its event "
             "words, all the time", _used_part),
    Move("event-words-with-garbage", "rings", "asks for notifications at "
         "places that change all the time", "go", EventWords, stock=False),
    _rewrite("rings-scribbled", "writes random bytes over all rings all the "
             "time, and notifies", _all, short="any"),
    Move("call-flood", "rings", "notifies without end", "go", Calls,
         short="any"),
    Move("completes-unread", "rings", "completes requests that it has not "
         "looked at, and writes to their buffers afterwards", "go", Pretends,
         stock=False),
    Move("swallows-requests", "rings", "never completes a large request; the "
         "machine is reset, again and again", "restart", Swallows,
         kinds=("blk", "scsi", "fs"), times=3, io="big", expect="goes on",
         short="blk"),
]
