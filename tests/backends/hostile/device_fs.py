# SPDX-License-Identifier: GPL-2.0-or-later
"""A file system with one file, "data", that is never cached."""

from __future__ import annotations

import struct

from .devices import HELD, Device
from .rings import Chain

_IN, _OUT = struct.Struct("<IIQQIIIHH"), struct.Struct("<IiQ")
_LOOKUP, _FORGET, _GETATTR, _SETATTR, _OPEN, _READ, _WRITE, _STATFS = \
    1, 2, 3, 4, 14, 15, 16, 17
_RELEASE, _FSYNC, _FLUSH, _INIT, _OPENDIR, _RELEASEDIR = 18, 20, 25, 26, 27, 29
_DESTROY, _BATCH_FORGET = 38, 42
_ENOENT, _ENOSYS = 2, 38
_ROOT, _FILE = 1, 2
_SIZE = 1 << 20
_DIRECT_IO = 1
_FOLDER_MODE, _FILE_MODE = 0o40755, 0o100644


class Fs(Device):
    """virtio 1.2, 5.11: a queue for urgent requests, one for others."""

    queues = 2

    def __init__(self) -> None:
        self.config = bytearray(256)
        self.data = bytearray(range(256)) * (_SIZE // 256)

    def serve(self, queue: int, chain: Chain) -> int:
        request = chain.read()
        if len(request) < _IN.size:
            return HELD
        _, code, unique, node = _IN.unpack_from(request)[:4]
        if code in (_FORGET, _BATCH_FORGET):
            return 0
        said = self._answer(code, node, request[_IN.size:])
        error, data = (-said, b"") if isinstance(said, int) else (0, said)
        return chain.write(_OUT.pack(_OUT.size + len(data), error, unique) +
                           data)

    @staticmethod
    def _attributes(node: int) -> bytes:
        folder = node == _ROOT
        return struct.pack(
            "<QQQQQQIIIIIIIIII", node, 0 if folder else _SIZE, 8, 0, 0, 0, 0,
            0, 0, _FOLDER_MODE if folder else _FILE_MODE, 2 if folder else 1,
            0, 0, 0, 4096, 0)

    def _answer(self, code: int, node: int, args: bytes) -> bytes | int:
        """The payload, or an error's number."""
        if code == _INIT:
            return struct.pack("<IIIIHHIIHHI7I", 7, 31, 1 << 16, 0, 16, 12,
                               1 << 16, 1, 16, 0, 0, *[0] * 7)
        if code == _LOOKUP:
            if args.split(b"\0")[0] != b"data":
                return _ENOENT
            return struct.pack("<QQQQII", _FILE, 0, 0, 0, 0, 0) + \
                self._attributes(_FILE)
        if code in (_GETATTR, _SETATTR):
            return struct.pack("<QII", 0, 0, 0) + self._attributes(node)
        if code in (_OPEN, _OPENDIR):
            return struct.pack("<QII", 1, _DIRECT_IO, 0)
        if code == _STATFS:
            return struct.pack("<QQQQQIIII24x", 256, 0, 0, 2, 0, 4096, 255,
                               4096, 0)
        if code in (_READ, _WRITE):
            return self._transfer(code, args)
        if code in (_RELEASE, _FSYNC, _FLUSH, _RELEASEDIR, _DESTROY):
            return b""
        return _ENOSYS

    def _transfer(self, code: int, args: bytes) -> bytes:
        offset, size = struct.unpack_from("<QI", args, 8)
        if code == _READ:
            return bytes(self.data[offset:offset + size])
        data = args[40:40 + size][:max(_SIZE - offset, 0)]
        self.data[offset:offset + len(data)] = data
        return struct.pack("<II", size, 0)
