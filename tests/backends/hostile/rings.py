# SPDX-License-Identifier: GPL-2.0-or-later
"""The device's side of a virtqueue, split and packed, without tricks.

A chain is popped as a Chain and completed with a length.  Moves get at what
is below: raw_used() writes any completion, and the views may be scribbled on.
"""

from __future__ import annotations

import os
import struct
from dataclasses import dataclass, field

from .memory import Memory, View

NEXT, WRITE, INDIRECT = 1, 2, 4
AVAIL, USED = 1 << 7, 1 << 15
MAX_CHAIN = 4096


@dataclass
class Chain:
    """A request: its id, its descriptors, its buffers."""

    id: int
    count: int
    out: list[tuple[int, int]] = field(default_factory=list)
    into: list[tuple[int, int]] = field(default_factory=list)
    memory: Memory | None = None

    def add(self, addr: int, size: int, flags: int) -> None:
        (self.into if flags & WRITE else self.out).append((addr, size))

    def read(self) -> bytes:
        assert self.memory
        return b"".join(self.memory.guest(addr, size).read(size)
                        for addr, size in self.out)

    @property
    def room(self) -> int:
        return sum(size for _, size in self.into)

    def write(self, data: bytes) -> int:
        """Scatter @data over the writable buffers; how much went in."""
        assert self.memory
        done = 0
        for addr, size in self.into:
            part = data[done:done + size]
            if part:
                self.memory.guest(addr, size).write(part)
            done += len(part)
        return done


class Queue:
    """What messages say of one queue."""

    def __init__(self, index: int) -> None:
        self.index = index
        self.size = 0
        self.addrs: tuple[int, int, int] | None = None
        self.base = 0
        self.kick = -1
        self.call = -1
        self.enabled = False
        self.ring: SplitRing | PackedRing | None = None

    def start(self, memory: Memory, packed: bool, event_idx: bool) -> None:
        if self.ring or not self.addrs or not self.size:
            return
        kind = PackedRing if packed else SplitRing
        self.ring = kind(memory, self.addrs, self.size, self.base, event_idx)

    def stop(self) -> int:
        """The ring's base; a kick descriptor's life ends here."""
        if self.ring:
            self.base = self.ring.base()
            self.ring = None
        self.close_kick()
        return self.base

    def close_kick(self) -> None:
        if self.kick >= 0:
            os.close(self.kick)
            self.kick = -1

    def close(self) -> None:
        self.stop()
        if self.call >= 0:
            os.close(self.call)
            self.call = -1

    def notify(self) -> None:
        if self.call >= 0:
            try:
                os.write(self.call, struct.pack("@Q", 1))
            except BlockingIOError:
                pass


class SplitRing:
    """desc is the table, avail and used the two rings."""

    packed = False

    def __init__(self, memory: Memory, addrs: tuple[int, int, int], size: int,
                 base: int, event_idx: bool) -> None:
        self.memory, self.size = memory, size
        desc, used, avail = addrs
        self.desc = memory.user(desc, 16 * size)
        self.used = memory.user(used, 6 + 8 * size)
        self.avail = memory.user(avail, 6 + 2 * size)
        self.next_avail = base & 0xffff
        self.next_used = self.used.u16(2)
        self._event_idx = event_idx

    def base(self) -> int:
        return self.next_avail

    def pop(self) -> Chain | None:
        if self.avail.u16(2) == self.next_avail:
            if self._event_idx:
                self.used.put16(4 + 8 * self.size, self.next_avail)
            if self.avail.u16(2) == self.next_avail:
                return None
        head = self.avail.u16(4 + 2 * (self.next_avail % self.size))
        self.next_avail = (self.next_avail + 1) & 0xffff
        chain = Chain(head, 1, memory=self.memory)
        _collect(chain, self.memory, self.desc, head)
        return chain

    def complete(self, chain: Chain, length: int) -> None:
        self.raw_used(chain.id, length)

    def raw_used(self, ident: int, length: int, _count: int = 1) -> None:
        at = 4 + 8 * (self.next_used % self.size)
        self.used.put32(at, ident)
        self.used.put32(at + 4, length)
        self.next_used = (self.next_used + 1) & 0xffff
        self.used.put16(2, self.next_used)

    def views(self) -> list[tuple[View, int]]:
        return [(self.desc, 16 * self.size), (self.used, 6 + 8 * self.size),
                (self.avail, 6 + 2 * self.size)]

    def event_word(self) -> tuple[View, int]:
        return self.used, 4 + 8 * self.size


class PackedRing:
    """desc is the ring, used the device's event words, avail the driver's."""

    packed = True

    def __init__(self, memory: Memory, addrs: tuple[int, int, int], size: int,
                 base: int, _event_idx: bool) -> None:
        self.memory, self.size = memory, size
        desc, used, avail = addrs
        self.desc = memory.user(desc, 16 * size)
        self.used = memory.user(used, 4)
        self.avail = memory.user(avail, 4)
        self.next_avail, self.avail_wrap = base & 0x7fff, base >> 15 & 1
        used_base = base >> 16
        self.next_used, self.used_wrap = used_base & 0x7fff, used_base >> 15

    def base(self) -> int:
        return (self.next_avail | self.avail_wrap << 15 |
                (self.next_used | self.used_wrap << 15) << 16)

    def pop(self) -> Chain | None:
        flags = self.desc.u16(16 * self.next_avail + 14)
        if bool(flags & AVAIL) != bool(self.avail_wrap) or \
                bool(flags & USED) == bool(self.avail_wrap):
            return None
        chain = Chain(0, 0, memory=self.memory)
        while chain.count < self.size:
            addr, size, ident, flags = self.desc.descriptor(
                16 * self.next_avail)
            chain.id = ident
            chain.count += 1
            self.next_avail += 1
            if self.next_avail == self.size:
                self.next_avail, self.avail_wrap = 0, self.avail_wrap ^ 1
            if flags & INDIRECT:
                _table(chain, self.memory, addr, size)
            else:
                chain.add(addr, size, flags)
            if not flags & NEXT:
                break
        return chain

    def complete(self, chain: Chain, length: int) -> None:
        self.raw_used(chain.id, length, chain.count)

    def raw_used(self, ident: int, length: int, count: int = 1) -> None:
        at = 16 * self.next_used
        self.desc.put32(at + 8, length)
        self.desc.put16(at + 12, ident)
        flags = AVAIL | USED if self.used_wrap else 0
        self.desc.put16(at + 14, flags | WRITE)
        self.next_used += count
        if self.next_used >= self.size:
            self.next_used -= self.size
            self.used_wrap ^= 1

    def views(self) -> list[tuple[View, int]]:
        return [(self.desc, 16 * self.size), (self.used, 4), (self.avail, 4)]

    def event_word(self) -> tuple[View, int]:
        return self.used, 0


def _collect(chain: Chain, memory: Memory, table: View, at: int) -> None:
    for _ in range(MAX_CHAIN):
        addr, size, flags, following = table.descriptor(16 * at)
        if flags & INDIRECT:
            _collect(chain, memory, memory.guest(addr, size), 0)
        else:
            chain.add(addr, size, flags)
        if not flags & NEXT:
            return
        at = following


def _table(chain: Chain, memory: Memory, addr: int, size: int) -> None:
    """An indirect table of a packed ring: the flags are in another place."""
    table = memory.guest(addr, size)
    for at in range(0, size, 16):
        where, length, _, flags = table.descriptor(at)
        chain.add(where, length, flags)
