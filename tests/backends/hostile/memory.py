# SPDX-License-Identifier: GPL-2.0-or-later
"""The memory that QEMU lets a backend map.

With isolation that is one region of QEMU's, without it the guest's RAM.
Numbers are read and written in one access each (native format): what is torn
would be a move that nobody asked for.
"""

from __future__ import annotations

import mmap
import os
import struct
from dataclasses import dataclass

_U16, _U32, _U64 = (struct.Struct("@" + c) for c in "HIQ")
_ENTRY = struct.Struct("<QQQQ")
DESCRIPTOR = struct.Struct("@QIHH")


class Unmapped(Exception):
    """An address that QEMU gave is in no region."""


@dataclass
class Area:
    """One region of the table, mapped."""

    guest: int
    user: int
    size: int
    offset: int
    fd: int
    map: mmap.mmap


class Memory:
    """The table of SET_MEM_TABLE."""

    def __init__(self) -> None:
        self.areas: list[Area] = []

    def set_table(self, payload: bytes, fds: list[int]) -> None:
        """Takes the descriptors."""
        self.close()
        count = struct.unpack_from("<I", payload)[0]
        for number in range(count):
            guest, size, user, offset = _ENTRY.unpack_from(
                payload, 8 + number * _ENTRY.size)
            fd = fds.pop(0)
            self.areas.append(Area(guest, user, size, offset, fd,
                                   mmap.mmap(fd, size + offset)))

    def close(self) -> None:
        for area in self.areas:
            try:
                area.map.close()
            except BufferError:
                pass
            os.close(area.fd)
        self.areas = []

    def _find(self, addr: int, size: int, user: bool) -> tuple[mmap.mmap, int]:
        for area in self.areas:
            start = area.user if user else area.guest
            if start <= addr and addr + size <= start + area.size:
                return area.map, area.offset + addr - start
        raise Unmapped(hex(addr))

    def user(self, addr: int, size: int) -> "View":
        """What SET_VRING_ADDR names."""
        return View(*self._find(addr, size, True))

    def guest(self, addr: int, size: int) -> "View":
        """What a descriptor names."""
        return View(*self._find(addr, size, False))


@dataclass(frozen=True)
class View:
    """A place in a mapping."""

    map: mmap.mmap
    base: int

    def read(self, size: int, at: int = 0) -> bytes:
        return self.map[self.base + at:self.base + at + size]

    def write(self, data: bytes, at: int = 0) -> None:
        self.map[self.base + at:self.base + at + len(data)] = data

    def u16(self, at: int) -> int:
        return _U16.unpack_from(self.map, self.base + at)[0]

    def put16(self, at: int, value: int) -> None:
        _U16.pack_into(self.map, self.base + at, value & 0xffff)

    def u32(self, at: int) -> int:
        return _U32.unpack_from(self.map, self.base + at)[0]

    def put32(self, at: int, value: int) -> None:
        _U32.pack_into(self.map, self.base + at, value & 0xffffffff)

    def descriptor(self, at: int) -> tuple[int, int, int, int]:
        return DESCRIPTOR.unpack_from(self.map, self.base + at)
