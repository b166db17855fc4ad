# SPDX-License-Identifier: GPL-2.0-or-later
"""Running one test: a limit on its time, and nothing of it left afterwards.

Every test is the leader of a session of its own and carries a mark in its
environment.  Whatever still has the mark when the test is over is killed by
its process id; this process is the reaper of orphans, so even a daemon that
left the session is found and waited for.
"""

from __future__ import annotations

import ctypes
import fcntl
import os
import re
import resource
import signal
import subprocess
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path

MARK = "ISOLATION_CHECK"
PR_SET_CHILD_SUBREAPER = 36
SKIP_STATUS = 77
# A limit is for an idle machine, and is so many times longer at most.
MOST_BUSY = 6
LOOK_SECONDS = 5


@dataclass(frozen=True)
class Test:
    """What to run, and how its outcome is read."""

    name: str                       # "group/claim"
    argv: tuple[str, ...]
    limit: int                      # seconds
    cwd: Path
    env: dict[str, str] = field(default_factory=dict)
    tap: bool = False               # each TAP line is a case of its own
    named: bool = False             # the cases are worth naming
    alone: bool = False             # nothing else runs meanwhile
    after: str = ""                 # a test that must have passed before

    @property
    def group(self) -> str:
        return self.name.split("/", 1)[0]


@dataclass
class Outcome:
    """Counts, and what the reader of a failure needs."""

    test: Test
    log: Path
    seconds: float = 0.0
    passed: int = 0
    failed: int = 0
    skipped: int = 0
    why: str = ""


def own_mark() -> str:
    """What the marks of all tests of this process begin with."""
    return f"{os.getpid()};"


class Reaper:
    """Adopts orphans and ends what a test left behind."""

    def __init__(self) -> None:
        ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
        # A core file among the sources would be taken for one of them.
        hard = resource.getrlimit(resource.RLIMIT_CORE)[1]
        resource.setrlimit(resource.RLIMIT_CORE, (0, hard))
        self._leaders: set[int] = set()
        self._lock = threading.Lock()

    def add(self, pid: int) -> None:
        with self._lock:
            self._leaders.add(pid)

    def remove(self, pid: int) -> None:
        with self._lock:
            self._leaders.discard(pid)

    @staticmethod
    def marked(mark: str) -> list[int]:
        """Processes whose mark begins with @mark."""
        wanted = f"{MARK}={mark}".encode()
        found = []
        for entry in Path("/proc").iterdir():
            if not entry.name.isdigit() or int(entry.name) == os.getpid():
                continue
            try:
                environ = (entry / "environ").read_bytes().split(b"\0")
            except OSError:
                continue
            if any(word.startswith(wanted) for word in environ):
                found.append(int(entry.name))
        return found

    def end(self, mark: str) -> list[int]:
        """Kill all that marked() finds; which ones there were."""
        killed: list[int] = []
        for _ in range(50):
            left = self.marked(mark)
            if not left:
                break
            for pid in left:
                try:
                    os.kill(pid, signal.SIGKILL)
                except ProcessLookupError:
                    pass
            killed += [pid for pid in left if pid not in killed]
            self.wait_orphans()
            time.sleep(0.02)
        return killed

    def wait_orphans(self) -> None:
        """Zombies that came to us; a test's leader is somebody else's."""
        children = Path(f"/proc/self/task/{os.getpid()}/children")
        with self._lock:
            for pid in map(int, children.read_text("ascii").split()):
                if pid not in self._leaders:
                    try:
                        os.waitpid(pid, os.WNOHANG)
                    except ChildProcessError:
                        pass


def _read_tap(outcome: Outcome, text: str) -> None:
    """Count the cases; the reason names those that are "not ok", or says why
    the first was skipped."""
    skipped = ""
    for line in text.splitlines():
        found = re.match(r"\s*(ok|not ok) \d+ (.*)", line)
        if not found:
            continue
        if "# SKIP" in found.group(2):
            outcome.skipped += 1
            skipped = skipped or found.group(2).split("# SKIP", 1)[1].strip()
        elif found.group(1) == "ok":
            outcome.passed += 1
        else:
            outcome.failed += 1
            outcome.why += f" {found.group(2).split()[0]}"
    if not outcome.failed:
        outcome.why = outcome.why or skipped


def _methods_passed(text: str) -> int:
    """Of a class that is one test; 1 for whatever is no unittest."""
    ran = re.search(r"^Ran (\d+) tests? in", text, re.MULTILINE)
    return int(ran.group(1)) if ran else 1


def _judge(outcome: Outcome, status: int, text: str) -> None:
    if outcome.test.tap:
        _read_tap(outcome, text)
        if status in (0, SKIP_STATUS) and not outcome.passed + outcome.failed:
            outcome.skipped = max(outcome.skipped, 1)
            outcome.why = outcome.why or "no case ran"
        elif status not in (0, SKIP_STATUS) and not outcome.failed:
            outcome.failed = 1
            outcome.why = outcome.why or f"status {status}"
    elif status == 0 and re.search(r"^OK \(skipped=", text, re.MULTILINE):
        outcome.skipped = 1
        found = re.search(r"skipped (['\"])(.*)\1", text)
        outcome.why = found.group(2) if found else ""
    elif status == 0:
        outcome.passed = _methods_passed(text)
    elif status == SKIP_STATUS:
        outcome.skipped = 1
        lines = text.strip().splitlines()
        outcome.why = lines[-1] if lines else ""
    else:
        outcome.failed = 1
        outcome.why = outcome.why or f"status {status}"


def _wait(process: subprocess.Popen[bytes], limit: float) -> int:
    """As process.wait(@limit), but for time that others had as well.

    With two processors and four that want one, a second counts as half.
    """
    used = 0.0
    while True:
        begin = time.monotonic()
        try:
            return process.wait(min(LOOK_SECONDS, limit))
        except subprocess.TimeoutExpired:
            busy = os.getloadavg()[0] / (os.cpu_count() or 1)
            used += (time.monotonic() - begin) / min(max(1, busy), MOST_BUSY)
            if used >= limit:
                raise


def run(test: Test, logs: Path, reaper: Reaper) -> Outcome:
    """Run @test to its end or its limit."""
    log = logs / (test.name.replace("/", ".") + ".log")
    outcome = Outcome(test, log)
    mark = f"{own_mark()}{test.name};"
    env = {**os.environ, **test.env, MARK: mark}
    begin = time.monotonic()
    # Somebody else may be running the same test: one after the other.  A lock
    # of the log itself would be inherited by whatever outlives a killed run.
    with log.with_suffix(".lock").open("w", encoding="ascii") as lock, \
            log.open("ab") as out:
        fcntl.flock(lock, fcntl.LOCK_EX)
        out.truncate(0)
        process = subprocess.Popen(
            test.argv, cwd=test.cwd, env=env, stdin=subprocess.DEVNULL,
            stdout=out, stderr=subprocess.STDOUT, start_new_session=True)
        reaper.add(process.pid)
        try:
            status = _wait(process, test.limit)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            status = process.wait()
            outcome.why = f"not done after {test.limit} s"
        finally:
            left = reaper.end(mark)
            reaper.remove(process.pid)
    outcome.seconds = time.monotonic() - begin
    _judge(outcome, status, log.read_text("utf-8", "replace"))
    if left and not outcome.failed:
        outcome.why = f"ended {len(left)} process(es) it left behind"
    return outcome
