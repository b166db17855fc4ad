# SPDX-License-Identifier: GPL-2.0-or-later
"""What /proc says about processes: what they map and hold, who they are.

Memory is told by its file: device and inode, the same for a mapping and for a
descriptor, whatever name either has.
"""

from __future__ import annotations

import os
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Iterator

# Device (major, minor) and inode of a file.
File = tuple[int, int, int]
_LINE = re.compile(r"([0-9a-f]+)-([0-9a-f]+) (\S{4}) \S+ (\w+):(\w+) (\d+)"
                   r"\s*(.*)")
_GONE = (FileNotFoundError, ProcessLookupError)


class NotVisible(Exception):
    """This user may not look into that process."""


@dataclass(frozen=True)
class Mapping:
    """A line of /proc/PID/maps; @file is None for anonymous memory."""

    start: int
    end: int
    perms: str
    file: File | None
    path: str

    @property
    def size(self) -> int:
        return self.end - self.start

    @property
    def shared(self) -> bool:
        return self.perms[3] == "s"


@dataclass(frozen=True)
class Descriptor:
    """An open file; @file is None if it is no file (@path says what)."""

    number: int
    file: File | None
    path: str


@dataclass
class Process:
    """Who it is, and what it maps and holds."""

    pid: int
    name: str
    exe: str
    uid: int
    mappings: list[Mapping] = field(default_factory=list)
    descriptors: list[Descriptor] = field(default_factory=list)
    visible: bool = True


def file_of(status: os.stat_result) -> File:
    return (os.major(status.st_dev), os.minor(status.st_dev), status.st_ino)


def pids() -> list[int]:
    return sorted(int(p.name) for p in Path("/proc").iterdir()
                  if p.name.isdigit())


def _mappings(pid: int) -> Iterator[Mapping]:
    text = Path(f"/proc/{pid}/maps").read_bytes().decode("utf-8", "replace")
    for line in text.splitlines():
        match = _LINE.match(line)
        if not match:
            continue
        start, end, perms, major, minor, inode, path = match.groups()
        file = (int(major, 16), int(minor, 16), int(inode))
        yield Mapping(int(start, 16), int(end, 16), perms,
                      file if file[2] else None, path)


def _descriptors(pid: int) -> Iterator[Descriptor]:
    folder = f"/proc/{pid}/fd"
    for name in os.listdir(folder):
        try:
            path = os.readlink(f"{folder}/{name}")
            file = None
            if path.startswith("/") and not path.startswith("/proc/"):
                file = file_of(os.stat(f"{folder}/{name}"))
        except OSError:
            continue
        yield Descriptor(int(name), file, path)


def look(pid: int) -> Process | None:
    """The process @pid, None if it is gone."""
    folder = Path(f"/proc/{pid}")
    try:
        process = Process(pid, (folder / "comm").read_text(
            "utf-8", "replace").strip(), "", folder.stat().st_uid)
    except _GONE:
        return None
    try:
        process.exe = os.readlink(folder / "exe").removesuffix(" (deleted)")
        program = os.path.basename(process.exe)
        if program.startswith(process.name):
            process.name = program      # the kernel keeps 15 characters
    except OSError:
        pass                        # a thread of the kernel, or not ours
    try:
        process.mappings = list(_mappings(pid))
        process.descriptors = list(_descriptors(pid))
    except PermissionError:
        process.visible = False
    except _GONE:
        return None
    return process


def look_or_fail(pid: int) -> Process:
    process = look(pid)
    if process is None:
        raise NotVisible(f"there is no process {pid}")
    if not process.visible:
        raise NotVisible(f"/proc/{pid} may not be read: run this as root, or "
                         "as the user of QEMU and its backends")
    return process


def other_name(pid: int, mapping: Mapping) -> File | None:
    """The file of @mapping as stat() names it; some file systems differ."""
    try:
        return file_of(os.stat(f"/proc/{pid}/map_files/{mapping.start:x}-"
                               f"{mapping.end:x}"))
    except OSError:
        return None


def resident(pid: int, mapping: Mapping, holder: Process) -> int | None:
    """Bytes of memory that the file of @mapping occupies, if known."""
    paths = [f"/proc/{pid}/map_files/{mapping.start:x}-{mapping.end:x}"]
    paths += [f"/proc/{pid}/fd/{d.number}" for d in holder.descriptors
              if d.file == mapping.file]
    for path in paths:
        try:
            return os.stat(path).st_blocks * 512
        except OSError:
            continue
    return None
