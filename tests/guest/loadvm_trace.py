# SPDX-License-Identifier: GPL-2.0-or-later
"""Traces of a disk's requests: files, QEMU's log, and what the load VM reads.

A trace is text, a request a line, and may be compressed with gzip:

    # loadvm trace 1
    # SPDX-License-Identifier: GPL-2.0-or-later
    # any number of remarks
    TIME OP OFFSET LENGTH

TIME is in microseconds since the first request, OP is r, w or f (read, write,
flush), OFFSET and LENGTH are in bytes and multiples of 512; both are 0 for a
flush.  Lines are in the order in which the requests were made.
"""

from __future__ import annotations

import gzip
import re
import struct
import zlib
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

FIRST_LINE = "# loadvm trace 1"
LICENCE = "SPDX-License-Identifier: GPL-2.0-or-later"
SECTOR = 512
OPS = "rwf"
MAGIC = b"LVMTRACE"

# What QEMU logs, the first column being process and time.
EVENTS = ("virtio_blk_handle_read", "virtio_blk_handle_write",
          "blk_co_preadv", "blk_co_pwritev")
_TIME = r"^(?:\d+@)?(\d+)\.(\d{6}):"
_SECTORS = re.compile(_TIME + r"virtio_blk_handle_(read|write) vdev (\S+) "
                      r"req \S+ sector (\d+) nsectors (\d+)")
_BYTES = re.compile(_TIME + r"blk_co_p(read|write)v blk (\S+) bs \S+ "
                    r"offset (\d+) bytes (\d+)")


class TraceError(Exception):
    """A trace is none; the text says why."""


@dataclass(frozen=True)
class Request:
    """One line."""

    time: int                # microseconds
    op: str
    offset: int
    length: int


def read(path: Path) -> list[Request]:
    data = path.read_bytes()
    if data[:2] == b"\x1f\x8b":
        data = gzip.decompress(data)
    lines = data.decode("ascii", "replace").splitlines()
    if not lines or lines[0] != FIRST_LINE:
        raise TraceError(f"{path} does not begin with '{FIRST_LINE}'")
    requests = []
    for number, line in enumerate(lines, 1):
        if line.startswith("#") or not line.strip():
            continue
        words = line.split()
        if len(words) != 4 or words[1] not in OPS:
            raise TraceError(f"{path}:{number}: '{line}'")
        requests.append(Request(int(words[0]), words[1], int(words[2]),
                                int(words[3])))
    if not requests:
        raise TraceError(f"{path} has no requests")
    return requests


def write(path: Path, requests: list[Request], remarks: list[str]) -> None:
    text = "\n".join([FIRST_LINE, f"# {LICENCE}",
                      *(f"# {r}" for r in remarks),
                      *(f"{r.time} {r.op} {r.offset} {r.length}"
                        for r in requests), ""]).encode("ascii")
    path.write_bytes(_compress(text) if path.suffix == ".gz" else text)


def _compress(text: bytes) -> bytes:
    """gzip without a time stamp, and with the licence as its comment."""
    packer = zlib.compressobj(9, zlib.DEFLATED, -15)
    return (b"\x1f\x8b\x08\x10\0\0\0\0\x02\xff" + LICENCE.encode() + b"\0" +
            packer.compress(text) + packer.flush() +
            struct.pack("<II", zlib.crc32(text), len(text)))


def for_guest(requests: list[Request]) -> bytes:
    """As tests/guest/loadvm/trace.c wants it."""
    return b"".join([MAGIC, struct.pack("<Q", len(requests)),
                     *(struct.pack("<QQII", r.time * 1000, r.offset, r.length,
                                   OPS.index(r.op)) for r in requests)])


def longest(requests: list[Request]) -> int:
    return max(r.length for r in requests)


def end(requests: list[Request]) -> int:
    """Bytes that a disk must have to take all of them."""
    return max(r.offset + r.length for r in requests)


# From QEMU

def record_args(log: Path) -> list[str]:
    """QEMU's arguments that make it log what from_log() reads."""
    args = ["-msg", "timestamp=on", "-D", str(log)]
    for event in EVENTS:
        args += ["-trace", f"enable={event}"]
    return args


def _parse(text: str, pattern: re.Pattern[str],
           unit: int) -> dict[str, list[Request]]:
    """Requests by disk; what is not whole sectors is rounded outwards."""
    disks: dict[str, list[Request]] = {}
    for line in text.splitlines():
        found = pattern.match(line)
        if not found:
            continue
        seconds, micros, what, disk, place, size = found.groups()
        first = int(place) * unit // SECTOR * SECTOR
        last = -(-(int(place) + int(size)) * unit // SECTOR) * SECTOR
        if last > first:
            disks.setdefault(disk, []).append(Request(
                int(seconds) * 10 ** 6 + int(micros), what[0], first,
                last - first))
    return disks


def from_log(text: str, disk: int | None = None) -> list[Request]:
    """Requests of one disk in QEMU's log @text.

    @disk counts them in the order of their first request; without it, the one
    with most requests is taken.  What a virtio-blk driver asked for is better
    than what QEMU made of it, which is all there is of other disks.
    """
    disks = _parse(text, _SECTORS, SECTOR) or _parse(text, _BYTES, 1)
    if not disks:
        raise TraceError("the log has no requests (see -trace)")
    names = list(disks)
    if disk is None:
        name = max(names, key=lambda n: len(disks[n]))
    elif disk < len(names):
        name = names[disk]
    else:
        raise TraceError(f"the log has {len(names)} disk(s)")
    # Threads may log in another order than they were asked.
    requests = sorted(disks[name], key=lambda r: r.time)
    start = requests[0].time
    return [Request(r.time - start, r.op, r.offset, r.length)
            for r in requests]


def summary(requests: list[Request]) -> str:
    sizes = Counter(r.length for r in requests if r.op != "f")
    ops = Counter(r.op for r in requests)
    moved = sum(r.length for r in requests)
    common = ", ".join(f"{size >> 10 or size / 1024:g} KiB x {n}"
                       for size, n in sizes.most_common(5))
    following = sum(b.offset == a.offset + a.length
                    for a, b in zip(requests, requests[1:]))
    return (f"{len(requests)} requests in {requests[-1].time / 1e6:.1f} s: "
            f"{ops['r']} reads, {ops['w']} writes, {ops['f']} flushes\n"
            f"{moved >> 20} MiB moved, on the first "
            f"{end(requests) >> 20} MiB of a disk; longest "
            f"{longest(requests) >> 10} KiB\n"
            f"{100 * following // len(requests)} % begin where the one before "
            f"ended\nmost common: {common}")
