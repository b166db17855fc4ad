# SPDX-License-Identifier: GPL-2.0-or-later
"""Which process is at the other end of a unix socket.

The kernel knows the peer of each socket (sock_diag(7)), and /proc/PID/fd who
holds it.  So this finds who has the connection now, not who once listened.
"""

from __future__ import annotations

import ctypes
import os
import socket
import struct
import threading
from dataclasses import dataclass

from .proc import Process

NETLINK_SOCK_DIAG = 4
SOCK_DIAG_BY_FAMILY = 20
NLM_REQUEST_DUMP = 0x301
NLMSG_ERROR, NLMSG_DONE = 2, 3
SHOW_NAME_VFS_PEER = 7
ATTR_NAME, ATTR_VFS, ATTR_PEER = 0, 1, 2
CLONE_NEWNET = 0x40000000
_MINOR_BITS = 20                 # of a device number, in the kernel


@dataclass
class UnixSocket:
    """A unix socket of the network namespace that was asked about."""

    inode: int
    name: str = ""
    file: tuple[int, int, int] | None = None
    peer: int = 0


def _attributes(data: bytes, found: UnixSocket) -> None:
    at = 0
    while at + 4 <= len(data):
        size, kind = struct.unpack_from("=HH", data, at)
        value = data[at + 4:at + size]
        if kind == ATTR_NAME:
            found.name = os.fsdecode(value[:1] + value[1:].rstrip(b"\0"))
        elif kind == ATTR_PEER:
            found.peer, = struct.unpack("=I", value)
        elif kind == ATTR_VFS:
            inode, device = struct.unpack("=II", value)
            found.file = (device >> _MINOR_BITS,
                          device & ((1 << _MINOR_BITS) - 1), inode)
        at += max(4, (size + 3) & ~3)


def _dump() -> dict[int, UnixSocket]:
    request = struct.pack("=BBHIIIII", socket.AF_UNIX, 0, 0, 0xffffffff, 0,
                          SHOW_NAME_VFS_PEER, 0xffffffff, 0xffffffff)
    header = struct.pack("=IHHII", 16 + len(request), SOCK_DIAG_BY_FAMILY,
                         NLM_REQUEST_DUMP, 1, 0)
    table: dict[int, UnixSocket] = {}
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW,
                       NETLINK_SOCK_DIAG) as link:
        link.settimeout(10)
        link.send(header + request)
        while True:
            data, at = link.recv(1 << 16), 0
            while at + 16 <= len(data):
                size, kind = struct.unpack_from("=IH", data, at)
                if kind == NLMSG_DONE:
                    return table
                if kind == NLMSG_ERROR:
                    raise OSError("the kernel does not list unix sockets "
                                  "(module unix_diag)")
                inode, = struct.unpack_from("=I", data, at + 20)
                found = UnixSocket(inode)
                _attributes(data[at + 32:at + size], found)
                table[inode] = found
                at += (size + 3) & ~3


def _namespace(pid: int | str) -> tuple[int, int]:
    status = os.stat(f"/proc/{pid}/ns/net")
    return (status.st_dev, status.st_ino)


def table(pid: int) -> dict[int, UnixSocket]:
    """Sockets of the network namespace of @pid, by inode; may be empty."""
    found: dict[int, UnixSocket] = {}

    def work() -> None:
        try:
            if _namespace(pid) != _namespace("self"):
                # Of this thread only, which ends.
                libc = ctypes.CDLL(None, use_errno=True)
                with open(f"/proc/{pid}/ns/net", "rb") as there:
                    if libc.setns(there.fileno(), CLONE_NEWNET):
                        return
            found.update(_dump())
        except OSError:
            pass

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    return found


def _inodes(process: Process) -> set[int]:
    return {int(d.path[8:-1]) for d in process.descriptors
            if d.path.startswith("socket:[")}


def _file(qemu: Process, path: str) -> tuple[int, int, int] | None:
    """The socket in the file system, as QEMU sees it."""
    inside = f"root{path}" if path.startswith("/") else f"cwd/{path}"
    try:
        status = os.stat(f"/proc/{qemu.pid}/{inside}")
    except (OSError, ValueError):
        return None
    return (os.major(status.st_dev), os.minor(status.st_dev), status.st_ino)


def holders(processes: list[Process]) -> dict[int, list[int]]:
    """Processes that hold each socket, by its inode."""
    found: dict[int, list[int]] = {}
    for process in processes:
        for inode in _inodes(process):
            found.setdefault(inode, []).append(process.pid)
    return found


def peers(qemu: Process, sockets: dict[int, UnixSocket], path: str) -> set[int]:
    """Inodes of the other ends of QEMU's connections at @path."""
    file = _file(qemu, path)
    found = set()
    for inode in _inodes(qemu):
        mine = sockets.get(inode)
        other = sockets.get(mine.peer) if mine else None
        if not mine or not other:
            continue
        for end in (mine, other):
            if (path and end.name == path) or (file and end.file == file):
                found.add(other.inode)
    return found
