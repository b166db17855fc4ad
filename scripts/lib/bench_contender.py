# SPDX-License-Identifier: GPL-2.0-or-later
"""A configuration that is measured: the load VM, and what serves its device."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Callable

import loadvm
from bench_threads import Process, Usage

ROLES = ("main", "iothread", "vcpu", "backend")


@dataclass
class Sample:
    """One short run; everything but the first four is a request."""

    rate: float
    p50_ns: int
    p99_ns: int
    requests: int
    ns: dict[str, float]             # by role
    wakeups: dict[str, float]
    calls: dict[str, float]
    kicks: float
    interrupts: float
    latency_ns: list[list[int]] = field(repr=False, default_factory=list)


def role_in_qemu(thread: str) -> str:
    if thread.startswith("CPU "):
        return "vcpu"
    return "iothread" if thread.startswith("IO ") else "main"


class Contender:
    """A VM that waits for jobs, and the process that serves its device.

    @command is QEMU with its devices.  @backend is None if there is no process;
    its owner ends it, this ends the VM.
    """

    def __init__(self, config: str, command: list[str],
                 backend: int | None = None,
                 trace: Path | None = None) -> None:
        self.config = config
        self._processes: list[Process] = []
        self._session = loadvm.Session(
            [*command, "-name", "bench,debug-threads=on"], trace)
        try:
            self._session.wait_ready()
        except BaseException:
            self.end()
            raise
        self._processes.append(Process(self._session.pid, role_in_qemu))
        if backend is not None:
            self._processes.append(Process(backend, lambda name: "backend"))

    def _usage(self) -> dict[str, Usage]:
        used: dict[str, Usage] = {}
        for process in self._processes:
            used.update(process.usage())
        return used

    def run(self, job: str,
            count: Callable[[loadvm.Result], int] | None = None) -> Sample:
        """@count says how many requests there were, if not all count."""
        before = self._usage()
        result = self._session.run(job)
        after = self._usage()
        done = max(1, count(result) if count else result.requests)
        used = {role: after[role] - before.get(role, Usage())
                for role in after}

        def share(what: str) -> dict[str, float]:
            return {role: getattr(u, what) / done for role, u in used.items()}

        return Sample(done * 1e9 / max(1, result.ns), result.p50_ns,
                      result.p99_ns, done, share("ns"), share("wakeups"),
                      share("calls"), result.kicks / done,
                      result.interrupts / done, result.latency_ns)

    def resident(self) -> dict[str, int]:
        names = ("qemu", "backend")
        return {n: p.resident() for n, p in zip(names, self._processes)}

    @property
    def counts_calls(self) -> bool:
        return all(p.counts_calls for p in self._processes)

    def end(self) -> None:
        for process in self._processes:
            process.close()
        self._session.__exit__()
