# SPDX-License-Identifier: GPL-2.0-or-later
"""Devices that are served honestly: a disk, and a disk on a SCSI bus.

A device has no state but what the guest stored; serve() is given a chain and
says how many bytes it wrote.
"""

from __future__ import annotations

import struct

from .rings import Chain
from .wire import bits

DISK_SIZE = 8 << 20
BLOCK = 512
_HELD = -1                          # serve(): to be completed later, or never


class Device:
    """What the kinds have in common."""

    features = 0
    queues = 1                      # that QEMU asks for
    config = bytearray(256)

    def serve(self, queue: int, chain: Chain) -> int:
        """Bytes written, or _HELD."""
        raise NotImplementedError


class Store:
    """Blocks."""

    def __init__(self) -> None:
        self.data = bytearray(DISK_SIZE)

    def has(self, at: int, size: int) -> bool:
        return at + size <= len(self.data)


class Blk(Device):
    """virtio 1.2, 5.2."""

    # SEG_MAX, FLUSH, CONFIG_WCE
    features = bits(2, 9, 11)

    def __init__(self) -> None:
        self.store = Store()
        self.config = bytearray(struct.pack(
            "<QIIHBBIBBHIB", DISK_SIZE // BLOCK, 0, 16, 0, 0, 0, BLOCK, 0, 0,
            0, 0, 1).ljust(256, b"\0"))

    def serve(self, queue: int, chain: Chain) -> int:
        data = chain.read()
        if len(data) < 16 or not chain.room:
            return _HELD
        kind, _, sector = struct.unpack_from("<IIQ", data)
        answer = self._answer(kind, sector * BLOCK, data[16:],
                              chain.room - 1)
        return chain.write(answer)

    def _answer(self, kind: int, at: int, data: bytes, room: int) -> bytes:
        ok, ioerr, unsupported = b"\0", b"\1", b"\2"
        if kind == 0:
            if not self.store.has(at, room):
                return bytes(room) + ioerr
            return bytes(self.store.data[at:at + room]) + ok
        if kind == 1:
            if not self.store.has(at, len(data)):
                return ioerr
            self.store.data[at:at + len(data)] = data
            return ok
        if kind == 4:
            return ok
        if kind == 8:
            return b"hostile".ljust(room, b"\0")[:room] + ok
        return bytes(room) + unsupported


_BAD_TARGET = 3
_REQUEST = 51                       # lun, tag, attributes, cdb of 32
_RESPONSE = struct.Struct("<IIHBB96s")
_CHECK, _ILLEGAL = 2, 5


class Scsi(Device):
    """virtio 1.2, 5.6; target 0, unit 0, and enough of SBC for sd_mod."""

    features = bits(2)              # CHANGE is QEMU's; this is harmless
    queues = 3

    def __init__(self) -> None:
        self.store = Store()
        self.config = bytearray(256)

    def serve(self, queue: int, chain: Chain) -> int:
        if queue == 0:
            return chain.write(b"\0".ljust(chain.room, b"\0"))
        if queue == 1:
            return _HELD
        data = chain.read()
        if len(data) < _REQUEST:
            return _HELD
        lun, cdb, out = data[:8], data[19:_REQUEST], data[_REQUEST:]
        if lun[1] != 0 or lun[3] != 0:
            return chain.write(self._response(_BAD_TARGET, 0, b"", 0))
        into = chain.room - _RESPONSE.size
        answer = self._command(cdb, out, into)
        if answer is None:
            sense = bytearray(18)
            sense[0], sense[2], sense[7], sense[12] = 0x70, _ILLEGAL, 10, 0x20
            return chain.write(self._response(0, _CHECK, bytes(sense), into))
        return chain.write(self._response(
            0, 0, b"", into - len(answer[:into])) + answer[:into])

    @staticmethod
    def _response(response: int, status: int, sense: bytes,
                  resid: int) -> bytes:
        return _RESPONSE.pack(len(sense), max(resid, 0), 0, status, response,
                              sense)

    def _command(self, cdb: bytes, out: bytes, room: int) -> bytes | None:
        """What the command returns; None if there is no such command."""
        code = cdb[0]
        big = int.from_bytes
        last = DISK_SIZE // BLOCK - 1
        if code in (0x00, 0x35, 0x91):
            return b""
        if code == 0x12 and not cdb[1] & 1:
            return bytes((0, 0, 5, 2, 31, 0, 0, 0)) + \
                b"QEMU    hostile disk    0001"
        if code == 0x25:
            return struct.pack(">II", last, BLOCK)
        if code == 0x9e:
            return struct.pack(">QI", last, BLOCK).ljust(32, b"\0")
        if code == 0xa0:
            return struct.pack(">IIQ", 8, 0, 0)
        if code == 0x1a:
            return bytes((3, 0, 0, 0))
        if code in (0x28, 0x88, 0x2a, 0x8a):
            at = BLOCK * (big(cdb[2:6], "big") if code < 0x80 else
                          big(cdb[2:10], "big"))
            return self._transfer(code & 0x0f == 0x0a, at, out, room)
        return None

    def _transfer(self, write: bool, at: int, out: bytes,
                  room: int) -> bytes | None:
        if not self.store.has(at, max(len(out), room)):
            return None
        if write:
            self.store.data[at:at + len(out)] = out
            return b""
        return bytes(self.store.data[at:at + room])


HELD = _HELD
