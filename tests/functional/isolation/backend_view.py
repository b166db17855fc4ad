# SPDX-License-Identifier: GPL-2.0-or-later
"""What a backend process can see, read from /proc.

Memory that somebody else gave it are memfds: those it has mapped and those it
only holds a descriptor of.  A search looks through every byte that it could
read: all its mappings, and all of each such file.
"""

from __future__ import annotations

import fcntl
import os
import re
from dataclasses import dataclass
from pathlib import Path

F_GET_SEALS = 1034
CHUNK = 4 << 20
_LINE = re.compile(r"([0-9a-f]+)-([0-9a-f]+) (\S{4}) \S+ (\S+) (\d+)\s*(.*)")
_NOT_READABLE = ("[vvar", "[vsyscall")


@dataclass(frozen=True)
class Mapping:
    """A line of /proc/PID/maps."""

    start: int
    end: int
    perms: str
    inode: tuple[str, int]
    path: str

    @property
    def size(self) -> int:
        return self.end - self.start

    @property
    def is_foreign(self) -> bool:
        """Shared memory without a name in the file system."""
        return self.perms[3] == "s" and self.path.startswith("/memfd:")


def mappings(pid: int) -> list[Mapping]:
    found = []
    for line in Path(f"/proc/{pid}/maps").read_text("utf-8").splitlines():
        match = _LINE.match(line)
        assert match, line
        start, end, perms, device, inode, path = match.groups()
        found.append(Mapping(int(start, 16), int(end, 16), perms,
                             (device, int(inode)), path))
    return found


def foreign_mappings(pid: int) -> list[Mapping]:
    """Memory of others that @pid has mapped."""
    return [m for m in mappings(pid) if m.is_foreign]


def foreign_files(pid: int) -> dict[int, Path]:
    """memfds that @pid holds descriptors of: inode -> path to open."""
    found = {}
    for entry in Path(f"/proc/{pid}/fd").iterdir():
        try:
            if os.readlink(entry).startswith("/memfd:"):
                found[os.stat(entry).st_ino] = entry
        except FileNotFoundError:
            continue
    return found


def mapped_bytes(maps: list[Mapping]) -> int:
    """Bytes of @maps; what is mapped twice counts once."""
    return sum({(m.inode, m.size): m.size for m in maps}.values())


def resident_bytes(pid: int, maps: list[Mapping]) -> int:
    """How much of @maps the process has touched."""
    wanted = {m.start for m in maps}
    total, counts = 0, False
    for line in Path(f"/proc/{pid}/smaps").read_text("utf-8").splitlines():
        words = line.split()
        if not words[0].endswith(":"):
            counts = int(words[0].split("-")[0], 16) in wanted
        elif words[0] == "Rss:" and counts:
            total += int(words[1]) * 1024
    return total


def seals(path: Path) -> int:
    """The seals of a memfd."""
    fd = os.open(path, os.O_RDONLY)
    try:
        return fcntl.fcntl(fd, F_GET_SEALS)
    finally:
        os.close(fd)


def _count_range(fd: int, start: int, end: int, needle: bytes) -> int:
    """Occurrences of @needle in [start, end) of a file."""
    count, keep, at = 0, b"", start
    while at < end:
        try:
            chunk = os.pread(fd, min(CHUNK, end - at), at)
        except OSError:
            chunk = b""
        if not chunk:
            # A page that cannot be read; what follows it may be.
            keep, at = b"", at + os.sysconf("SC_PAGE_SIZE")
            continue
        text = keep + chunk
        count += text.count(needle)
        keep = text[-(len(needle) - 1):]
        at += len(chunk)
    return count


def _count_file(path: Path, needle: bytes) -> int:
    """Occurrences in a memfd; holes are skipped and stay holes."""
    fd = os.open(path, os.O_RDONLY)
    try:
        count, at, size = 0, 0, os.fstat(fd).st_size
        while at < size:
            try:
                at = os.lseek(fd, at, os.SEEK_DATA)
            except OSError:
                break
            end = os.lseek(fd, at, os.SEEK_HOLE)
            count += _count_range(fd, at, end, needle)
            at = end
        return count
    finally:
        os.close(fd)


def count_secret(pid: int, needle: bytes) -> int:
    """How often @needle stands in what @pid can read."""
    files = foreign_files(pid)
    count = sum(_count_file(path, needle) for path in files.values())
    memory = os.open(f"/proc/{pid}/mem", os.O_RDONLY)
    try:
        for mapping in mappings(pid):
            if mapping.perms[0] != "r" or mapping.inode[1] in files or \
                    mapping.path.startswith(_NOT_READABLE):
                continue
            count += _count_range(memory, mapping.start, mapping.end, needle)
    finally:
        os.close(memory)
    return count


class Secret:
    """64 characters that the guest puts together from two halves.

    Neither half nor anything else outside of the guest's memory contains
    them, so whoever finds them has read guest memory.
    """

    def __init__(self) -> None:
        self._parts = [(int.from_bytes(os.urandom(4), "big"),
                        int.from_bytes(os.urandom(4), "big"))
                       for _ in range(8)]

    @property
    def needle(self) -> bytes:
        return b"".join(b"%08x" % (a ^ b) for a, b in self._parts)

    def shell(self) -> str:
        """Commands that leave the secret in a page of guest memory."""
        numbers = " ".join(f"$((0x{a:x} ^ 0x{b:x}))" for a, b in self._parts)
        return f"printf %08x {numbers} > /tmp/secret\n"
