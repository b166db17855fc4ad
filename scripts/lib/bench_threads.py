# SPDX-License-Identifier: GPL-2.0-or-later
"""What the threads of processes have used: CPU time, wake-ups, system calls.

CPU time and voluntary context switches come from /proc.  System calls are
counted by the kernel's own tracepoint, which only root may ask for; without it
there are none.
"""

from __future__ import annotations

import ctypes
import os
import struct
from dataclasses import dataclass, field
from pathlib import Path
from typing import Callable

PERF_EVENT_OPEN = 298            # of x86-64
PERF_TYPE_TRACEPOINT = 2
ATTR_SIZE = 112
ENTER = "events/raw_syscalls/sys_enter/id"
TRACING = ("/sys/kernel/tracing", "/sys/kernel/debug/tracing")


@dataclass
class Usage:
    """Of one thread or of several."""

    ns: int = 0
    wakeups: int = 0
    calls: int = 0

    def __add__(self, other: Usage) -> Usage:
        return Usage(self.ns + other.ns, self.wakeups + other.wakeups,
                     self.calls + other.calls)

    def __sub__(self, other: Usage) -> Usage:
        return Usage(self.ns - other.ns, self.wakeups - other.wakeups,
                     self.calls - other.calls)


def _tracepoint() -> int:
    for folder in TRACING:
        try:
            return int((Path(folder) / ENTER).read_text("ascii"))
        except (OSError, ValueError):
            pass
    return 0


class CallCounter:
    """System calls of a thread since this was made."""

    def __init__(self, tid: int) -> None:
        self._fd = -1
        config = _tracepoint()
        if config:
            attr = struct.pack("<IIQ", PERF_TYPE_TRACEPOINT, ATTR_SIZE,
                               config).ljust(ATTR_SIZE, b"\0")
            self._fd = ctypes.CDLL(None, use_errno=True).syscall(
                PERF_EVENT_OPEN, attr, tid, -1, -1, 0)

    @property
    def works(self) -> bool:
        return self._fd >= 0

    def read(self) -> int:
        if self._fd < 0:
            return 0
        return struct.unpack("<Q", os.read(self._fd, 8))[0]

    def close(self) -> None:
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1


@dataclass
class Process:
    """Threads of process @pid, by the role that @role_of gives a name."""

    pid: int
    role_of: Callable[[str], str]
    _counters: dict[int, CallCounter] = field(default_factory=dict)

    def usage(self) -> dict[str, Usage]:
        roles: dict[str, Usage] = {}
        for task in Path(f"/proc/{self.pid}/task").iterdir():
            try:
                used = self._thread(task)
                role = self.role_of((task / "comm").read_text().strip())
            except (OSError, ValueError):
                continue         # it has ended meanwhile
            roles[role] = roles.get(role, Usage()) + used
        return roles

    def _thread(self, task: Path) -> Usage:
        tid = int(task.name)
        if tid not in self._counters:
            self._counters[tid] = CallCounter(tid)
        ns = int((task / "schedstat").read_text("ascii").split()[0])
        status = (task / "status").read_text("ascii", "replace")
        switches = status.split("\nvoluntary_ctxt_switches:")[1].split()[0]
        return Usage(ns, int(switches), self._counters[tid].read())

    @property
    def counts_calls(self) -> bool:
        return any(c.works for c in self._counters.values())

    def resident(self) -> int:
        """Bytes."""
        pages = int(Path(f"/proc/{self.pid}/statm").read_text().split()[1])
        return pages * os.sysconf("SC_PAGE_SIZE")

    def close(self) -> None:
        for counter in self._counters.values():
            counter.close()
