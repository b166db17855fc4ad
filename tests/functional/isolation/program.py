# SPDX-License-Identifier: GPL-2.0-or-later
"""Processes that serve a VM, and where everything lies that tests run.

A Program is a backend of any kind, a Backend a qemu-storage-daemon, Debian's
unless told otherwise.  Each is ended by its process id, and what it said stays
in the work folder.
"""

from __future__ import annotations

import atexit
import hashlib
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any, Callable, TypeVar

HERE = Path(__file__).resolve().parent
TOP = HERE.parents[2]
BUILD = TOP / "build"
sys.path[:0] = [str(BUILD / "qemu-src" / "python"), str(TOP / "tests/guest"),
                str(TOP / "tests/backends")]

import build as guest                                   # noqa: E402
import debian                                           # noqa: E402

QEMU_BUILD = Path(os.environ.get("QEMU_BUILD", str(BUILD / "qemu")))
QEMU_SOURCE = QEMU_BUILD.parent / "qemu-src"
QEMU = QEMU_BUILD / "qemu-system-x86_64"
QEMU_IMG = QEMU_BUILD / "qemu-img"
TREE_DAEMON = QEMU_BUILD / "storage-daemon/qemu-storage-daemon"
LOAD = guest.LOAD
WORK = BUILD / "check" / "work"

# A wait is there to end what hangs.  Every one is for so many times what an
# idle machine needs: a busy one, and a guest that is emulated on it, are slow.
PATIENCE = 5
MAX_LOG = 1 << 20
ACCEPTING = 0x10000              # flag in /proc/net/unix: a listening socket


P = TypeVar("P", bound="Program")


class HarnessError(Exception):
    """The scenery broke, not the claim under test."""


def whole_lines(text: str) -> str:
    """@text without a last line that somebody is still writing."""
    return text[:text.rfind("\n") + 1]


def wait_until(condition: Callable[[], Any], seconds: float, what: str) -> Any:
    """The first true value of @condition."""
    end = time.monotonic() + seconds * PATIENCE
    while True:
        value = condition()
        if value:
            return value
        if time.monotonic() > end:
            raise HarnessError(f"{what}: nothing after "
                               f"{seconds * PATIENCE:g} s")
        time.sleep(0.02)


def is_listening(path: Path) -> bool:
    """Whether somebody accepts on @path; that it exists is not enough."""
    table = Path("/proc/net/unix").read_text("utf-8", "replace")
    for line in table.splitlines()[1:]:
        fields = line.split()
        if fields[7:] == [str(path)] and int(fields[3], 16) & ACCEPTING:
            return True
    return False


def socket_folder(work: Path) -> Path:
    """Where sockets of @work lie: a socket's name is at most 107 long."""
    digest = hashlib.sha256(str(work).encode()).hexdigest()[:10]
    for folder in (work, BUILD / "sockets" / digest):
        if len(str(folder)) < 80:
            folder.mkdir(parents=True, exist_ok=True)
            return folder
    folder = Path(tempfile.mkdtemp(prefix="sockets-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return folder


class Program:
    """A process that listens on a socket for QEMU, whatever it serves.

    @command holds "{socket}" where the path of the socket goes.
    """

    def __init__(self, work: Path, command: list[str],
                 name: str = "backend",
                 env: dict[str, str] | None = None) -> None:
        self.socket = socket_folder(work) / f"{name}.sock"
        self.log = work / f"{name}.log"
        self._words = command
        self._env = env or {}
        self._process: subprocess.Popen[bytes] | None = None

    def _command(self) -> list[str]:
        return [word.replace("{socket}", str(self.socket))
                for word in self._words]

    def start(self: P) -> P:
        self.socket.unlink(missing_ok=True)
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(
                self._command(), env={**os.environ, **self._env},
                stdin=subprocess.DEVNULL, stdout=log,
                stderr=subprocess.STDOUT)
        wait_until(self._is_ready, 60, f"backend on {self.socket.name}")
        return self

    def _is_ready(self) -> bool:
        if not self.is_running():
            raise HarnessError("backend ended: " + self.log.read_text(
                "utf-8", "replace")[-500:])
        return is_listening(self.socket)

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    def is_running(self) -> bool:
        return self._process is not None and self._process.poll() is None

    def has_aborted(self) -> bool:
        return (self._process is not None and
                self._process.poll() == -signal.SIGABRT)

    def kill(self) -> None:
        """As a crash would end it."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()

    def stop(self) -> None:
        if self._process is not None:
            self._process.terminate()
            try:
                self._process.wait(10)
            except subprocess.TimeoutExpired:
                self.kill()
        self._shorten_log()

    def _shorten_log(self) -> None:
        """vhost-user-bridge says hundreds of megabytes; keep their end."""
        size = self.log.stat().st_size if self.log.exists() else 0
        if size > MAX_LOG:
            with self.log.open("rb") as log:
                log.seek(size - MAX_LOG)
                end = log.read()
            self.log.write_bytes(end)


class Backend(Program):
    """A qemu-storage-daemon that exports one image as vhost-user-blk."""

    def __init__(self, work: Path, image: Path | None, *, fmt: str = "raw",
                 queues: int = 4, daemon: str = "debian",
                 iops: int = 0, name: str = "backend",
                 discard: bool = False, shared: bool = False) -> None:
        """@shared: others may have the image as well."""
        super().__init__(work, [], name)
        self._queues = queues
        self._daemon = daemon
        self._nodes = self._block_nodes(image, fmt)
        if discard:
            self._nodes = [n + ",discard=unmap" for n in self._nodes]
        if shared:
            self._nodes[0] += ",locking=off"
        self._iops = iops
        if daemon == "debian":
            self._env["LD_LIBRARY_PATH"] = debian.library_path(guest.ROOT)

    @staticmethod
    def _block_nodes(image: Path | None, fmt: str) -> list[str]:
        if image is None:
            return ["driver=null-co,node-name=disk,size=1073741824,"
                    "read-zeroes=on"]
        file = f"driver=file,filename={image},node-name="
        if fmt == "raw":
            return [file + "disk"]
        return [file + "file", f"driver={fmt},file=file,node-name=disk"]

    def _command(self) -> list[str]:
        program = guest.storage_daemon()
        if self._daemon == "tree":
            program = TREE_DAEMON
        command = [str(program)]
        for node in self._nodes:
            command += ["--blockdev", node]
        node = "disk"
        if self._iops:
            node = "slow"
            command += ["--object", "throttle-group,id=throttle,"
                        f"x-iops-total={self._iops}", "--blockdev",
                        "driver=throttle,node-name=slow,file=disk,"
                        "throttle-group=throttle"]
        return command + [
            "--export", f"type=vhost-user-blk,id=export,node-name={node},"
            f"writable=on,num-queues={self._queues},"
            f"addr.type=unix,addr.path={self.socket}"]
