# SPDX-License-Identifier: GPL-2.0-or-later
"""A QEMU that may stand still or die at any moment.

QEMUMachine waits for its QEMU; here nothing does.  Each command has a limit of
its own, an answer that comes too late is dropped, and a second monitor is
asked all the time by a thread that keeps the longest answer: while one is
out, the main loop does nothing else either.
"""

from __future__ import annotations

import json
import os
import re
import socket
import subprocess
import threading
import time
from collections import Counter
from pathlib import Path
from typing import Any

from harness import QEMU, wait_until, whole_lines

# How long QEMU may have no answer until it is called stuck.
STUCK_SECONDS = float(os.environ.get("HOSTILE_STUCK_SECONDS", "30"))


class QemuGone(Exception):
    """The process ended, or its monitor's connection did."""


class QemuStuck(Exception):
    """A command had no answer within its limit."""


class CommandFailed(Exception):
    """QEMU answered with an error."""


class Monitor:
    """A QMP connection; one command at a time."""

    def __init__(self, path: Path) -> None:
        self._sock = socket.socket(socket.AF_UNIX)
        self._sock.connect(str(path))
        self._data = b""
        self._ident = 0
        self.events: list[dict[str, Any]] = []
        self._next(time.monotonic() + 30)
        self.command("qmp_capabilities")

    def close(self) -> None:
        self._sock.close()

    def _next(self, end: float) -> dict[str, Any]:
        while b"\n" not in self._data:
            left = end - time.monotonic()
            if left <= 0:
                raise QemuStuck
            self._sock.settimeout(left)
            try:
                data = self._sock.recv(65536)
            except TimeoutError:
                raise QemuStuck from None
            except OSError:
                data = b""
            if not data:
                raise QemuGone
            self._data += data
        line, self._data = self._data.split(b"\n", 1)
        found: dict[str, Any] = json.loads(line)
        return found

    def command(self, name: str, seconds: float = 30, **args: Any) -> Any:
        self._ident += 1
        words = {"execute": name, "id": self._ident, "arguments": args}
        try:
            self._sock.settimeout(seconds)
            self._sock.sendall(json.dumps(words).encode() + b"\n")
        except TimeoutError:
            raise QemuStuck from None
        except OSError:
            raise QemuGone from None
        end = time.monotonic() + seconds
        while True:
            said = self._next(end)
            if "event" in said:
                self.events.append(said)
            elif said.get("id") == self._ident:
                if "error" in said:
                    raise CommandFailed(said["error"]["desc"])
                return said["return"]

    def poll(self, seconds: float = 0.0) -> None:
        """Take in what events there are."""
        try:
            while True:
                said = self._next(time.monotonic() + max(seconds, 0.001))
                if "event" in said:
                    self.events.append(said)
        except QemuStuck:
            pass


class Watch(threading.Thread):
    """Asks a monitor of its own again and again."""

    def __init__(self, path: Path) -> None:
        super().__init__(daemon=True)
        self._monitor = Monitor(path)
        self._lock = threading.Lock()
        self._begin: float | None = None
        self._longest = 0.0
        self._end = False
        self.start()

    def run(self) -> None:
        while not self._end:
            with self._lock:
                self._begin = time.monotonic()
            try:
                self._monitor.command("query-status", 3600)
            except (QemuGone, QemuStuck, CommandFailed):
                return
            with self._lock:
                self._longest = max(self._longest,
                                    time.monotonic() - self._begin)
                self._begin = None
            time.sleep(0.02)

    def stop(self) -> None:
        self._end = True

    def longest(self) -> float:
        """Seconds, of what is done and what is not."""
        with self._lock:
            now = time.monotonic() - self._begin if self._begin else 0.0
            return max(self._longest, now)

    def pending(self) -> float:
        """Seconds since a question that has no answer yet."""
        with self._lock:
            return time.monotonic() - self._begin if self._begin else 0.0

    def forget(self) -> None:
        with self._lock:
            self._longest = 0.0


class HostileQemu:
    """The process, its two monitors, its guest's serial line, its log."""

    def __init__(self, work: Path, sockets: Path, args: list[str]) -> None:
        self._paths = [sockets / f"{name}.sock"
                       for name in ("qmp", "watch", "serial")]
        self.log = work / "qemu.log"
        self.serial_log = work / "serial.log"
        for path in self._paths:
            path.unlink(missing_ok=True)
        self.serial_log.write_bytes(b"")
        qmp, watch, serial = self._paths
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(
                [str(QEMU), "-nodefaults", "-display", "none",
                 "-qmp", f"unix:{qmp},server=on,wait=off",
                 "-qmp", f"unix:{watch},server=on,wait=off",
                 "-chardev", f"socket,id=serial,path={serial},server=on,"
                 f"wait=off,logfile={self.serial_log}",
                 "-serial", "chardev:serial", *args],
                stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        wait_until(lambda: all(p.exists() for p in self._paths) or
                   self.ended(), 60, "QEMU's monitors")
        if self.ended():
            raise QemuGone(self.log.read_text("utf-8", "replace")[-500:])
        self.monitor = Monitor(qmp)
        self.watch = Watch(watch)
        self._serial = socket.socket(socket.AF_UNIX)
        self._serial.connect(str(serial))
        threading.Thread(target=self._drain, daemon=True).start()

    def _drain(self) -> None:
        try:
            while self._serial.recv(65536):
                pass
        except OSError:
            pass

    @property
    def pid(self) -> int:
        return self._process.pid

    def ended(self) -> bool:
        return self._process.poll() is not None

    def status(self) -> str:
        """How the process ended, in words."""
        code = self._process.poll()
        if code is None:
            return "alive"
        return f"killed by signal {-code}" if code < 0 else f"status {code}"

    def fds(self) -> Counter[str]:
        """How many descriptors of each kind the process has."""
        found: Counter[str] = Counter()
        folder = f"/proc/{self.pid}/fd"
        for name in os.listdir(folder):
            try:
                where = os.readlink(f"{folder}/{name}")
            except OSError:
                continue
            found[re.sub(r":?\[?\d+\]?$", "", where)] += 1
        return found

    def log_size(self) -> int:
        return self.log.stat().st_size

    def say(self, line: str) -> None:
        self._serial.sendall(line.encode() + b"\n")

    def serial_text(self) -> str:
        return self.serial_log.read_text("utf-8", "replace")

    def wait_serial(self, pattern: str, seconds: float,
                    start: int = 0) -> re.Match[str] | None:
        """What the guest says, or None; QEMU may not end meanwhile."""
        end = time.monotonic() + seconds
        while True:
            found = re.search(pattern, whole_lines(self.serial_text())[start:],
                              re.MULTILINE)
            if found:
                return found
            if self.ended():
                raise QemuGone
            if self.watch.pending() > STUCK_SECONDS:
                raise QemuStuck
            if time.monotonic() > end:
                return None
            time.sleep(0.02)

    def end(self) -> None:
        self.watch.stop()
        if not self.ended():
            self._process.kill()
        self._process.wait()
        self.monitor.close()
        self._serial.close()
