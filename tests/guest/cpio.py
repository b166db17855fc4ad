# SPDX-License-Identifier: GPL-2.0-or-later
"""Initramfs archives: the "newc" cpio format, written and nothing else.

Linux unpacks any number of archives that follow each other, so a test adds
its own small archive to the big one that all tests share.  Owner and time of
every entry are 0: the same content gives the same bytes.
"""

from __future__ import annotations

import stat
from pathlib import Path
from typing import BinaryIO

_ALIGN = 4
_END = "TRAILER!!!"


class CpioWriter:
    """Writes entries to an open binary file.  Parents come by themselves."""

    def __init__(self, out: BinaryIO) -> None:
        self._out = out
        self._seen: set[str] = set()
        self._next_ino = 1

    def _entry(self, name: str, mode: int, data: bytes = b"",
               rdev: tuple[int, int] = (0, 0)) -> None:
        fields = (self._next_ino, mode, 0, 0, 1, 0, len(data), 0, 0,
                  rdev[0], rdev[1], len(name) + 1, 0)
        self._next_ino += 1
        head = b"070701" + b"".join(b"%08x" % f for f in fields)
        head += name.encode() + b"\0"
        self._out.write(head + b"\0" * (-len(head) % _ALIGN))
        self._out.write(data + b"\0" * (-len(data) % _ALIGN))

    def _parents(self, name: str) -> None:
        parts = name.split("/")[:-1]
        for i in range(len(parts)):
            self.directory("/".join(parts[:i + 1]))

    def directory(self, name: str) -> None:
        if name not in self._seen:
            self._parents(name)
            self._seen.add(name)
            self._entry(name, stat.S_IFDIR | 0o755)

    def data(self, name: str, content: bytes, mode: int = 0o644) -> None:
        if name not in self._seen:
            self._parents(name)
            self._seen.add(name)
            self._entry(name, stat.S_IFREG | mode, content)

    def file(self, name: str, source: Path) -> None:
        mode = 0o755 if source.stat().st_mode & 0o111 else 0o644
        self.data(name, source.read_bytes(), mode)

    def symlink(self, name: str, target: str) -> None:
        if name not in self._seen:
            self._parents(name)
            self._seen.add(name)
            self._entry(name, stat.S_IFLNK | 0o777, target.encode())

    def device(self, name: str, major: int, minor: int) -> None:
        self._parents(name)
        self._entry(name, stat.S_IFCHR | 0o600, rdev=(major, minor))

    def close(self) -> None:
        self._entry(_END, 0)
