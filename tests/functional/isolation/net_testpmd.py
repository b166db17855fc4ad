# SPDX-License-Identifier: GPL-2.0-or-later
"""DPDK's testpmd as vhost-user-net backend: two ports, joined crosswise.

Debian's package, unpacked under build/guest/dpdk and not installed.  What
comes in at one port leaves at the other; the counters are DPDK's own and are
read from the program's console, as are the features that it negotiated.
"""

from __future__ import annotations

import os
import pty
import re
import signal
import subprocess
import threading
import time
from dataclasses import dataclass
from pathlib import Path

from harness import (BUILD, HarnessError, debian, guest, is_listening,
                     socket_folder, wait_until)

OUT = BUILD / "guest" / "dpdk"
ROOT = OUT / "root"
PACKAGE = "dpdk-dev"
PROGRAM = ROOT / "usr/bin/dpdk-testpmd"
# Drivers are loaded by name through LD_LIBRARY_PATH: DPDK refuses a path with
# a folder in it that everybody may write to.
DRIVERS = ("librte_net_vhost.so", "librte_mempool_ring.so")

PROMPT = "testpmd> "

F_MRG_RXBUF, F_PACKED = 15, 34


def fetch() -> None:
    """Unpack testpmd, if it is not there yet: no headers, only libraries.

    DPDK also loads all drivers that it finds installed, and two of a kind end
    it: it is made to look for them where none are.
    """
    guest.unpack([PACKAGE], ROOT)
    for library in ROOT.glob("usr/lib/*/librte_eal.so.*"):
        content = library.read_bytes()
        if b"/dpdk/pmds-" in content and not library.is_symlink():
            new = library.with_suffix(".new")
            new.write_bytes(content.replace(b"/dpdk/pmds-", b"/none/pmds-"))
            new.rename(library)


def driver(name: str) -> str:
    """@name with the number of this DPDK's binary interface."""
    found = sorted(ROOT.glob(f"usr/lib/*/{name}.*"))
    if not found:
        raise debian.PackageError(f"{PACKAGE} has no {name}")
    return found[0].name


def _content(path: Path) -> str:
    return path.read_text("utf-8", "replace") if path.exists() else ""


@dataclass
class Counters:
    """What one port counted, seen from testpmd."""

    received: int
    received_dropped: int
    sent: int
    sent_dropped: int


class Testpmd:
    """testpmd with @ports vhost-user sockets, two of them joined each."""

    __test__ = False

    def __init__(self, work: Path, *, ports: int = 2, queues: int = 1,
                 name: str = "testpmd", forward: str = "io",
                 options: str = ",tso=1,legacy-ol-flags=1") -> None:
        folder = socket_folder(work)
        self.sockets = [folder / f"{name}{i}.sock" for i in range(ports)]
        self.log = work / f"{name}.log"
        self.messages = work / f"{name}.messages"
        self._work = work
        self._queues = queues
        self._forward = forward
        self._options = options
        self._process: subprocess.Popen[bytes] | None = None
        self._reader: threading.Thread | None = None

    def _command(self) -> list[str]:
        """It polls all the time: it is not bound to processors, and nice."""
        command = ["nice", "-n", "5", str(PROGRAM), "--no-huge", "-m", "384",
                   "--no-pci", "--no-telemetry", "--no-shconf",
                   "--lcores", "0@(0-1),1@(0-1)"
                   if (os.cpu_count() or 1) > 1 else "0@0,1@0"]
        for name in DRIVERS:
            command += ["-d", driver(name)]
        for i, path in enumerate(self.sockets):
            command += ["--vdev", f"net_vhost{i},iface={path},"
                        f"queues={self._queues}{self._options}"]
        return command + [
            "--", "--interactive", f"--forward-mode={self._forward}",
            f"--rxq={self._queues}", f"--txq={self._queues}",
            "--total-num-mbufs=32768"]

    def start(self, forward: bool = True) -> Testpmd:
        fetch()
        env = dict(os.environ, LD_LIBRARY_PATH=debian.library_path(ROOT),
                   RUNTIME_DIRECTORY=str(self._work))
        for path in self.sockets:
            path.unlink(missing_ok=True)
        begin = len(self.text())
        # On a terminal, or its lines would come when it ends.
        ours, its = pty.openpty()
        try:
            with self.messages.open("ab") as messages:
                self._process = subprocess.Popen(
                    self._command(), env=env, stdin=subprocess.PIPE,
                    stdout=its, stderr=messages)
        finally:
            os.close(its)
        self._reader = threading.Thread(target=self._drain, args=[ours],
                                        daemon=True)
        self._reader.start()
        wait_until(lambda: self._is_ready() and PROMPT in self.text()[begin:],
                   60, "testpmd to listen")
        if forward:
            self.go_on()
        return self

    def pause(self) -> None:
        """Fetch nothing any more: what the guest sends stays in its ring."""
        self.ask("stop")

    def go_on(self) -> None:
        said = self.ask("start")
        if "packet forwarding - ports=" not in said:
            raise HarnessError(f"testpmd does not start: {said}")

    def _drain(self, fd: int) -> None:
        with self.log.open("ab", buffering=0) as log:
            while True:
                try:
                    data = os.read(fd, 65536)
                except OSError:       # the other end is closed
                    data = b""
                if not data:
                    os.close(fd)
                    return
                log.write(data)

    def _is_ready(self) -> bool:
        if not self.is_running():
            raise HarnessError("testpmd ended: " +
                               _content(self.messages)[-800:])
        return all(is_listening(path) for path in self.sockets)

    def text(self) -> str:
        """What the console said."""
        return _content(self.log).replace("\r", "")

    def say(self, line: str) -> None:
        """Type a command on the console."""
        assert self._process is not None and self._process.stdin is not None
        self._process.stdin.write(line.encode() + b"\n")
        self._process.stdin.flush()

    def ask(self, line: str, seconds: float = 60) -> str:
        """What the console says to @line, up to its next prompt."""
        start = len(self.text())
        self.say(line)
        wait_until(lambda: PROMPT in self.text()[start:], seconds,
                   f"testpmd's answer to {line!r}")
        return self.text()[start:]

    def counters(self) -> list[Counters]:
        """Packets that each port forwarded since the start."""
        text = self.ask("show fwd stats all")
        found = []
        for part in text.split("Forward statistics for port ")[1:]:
            numbers = dict(re.findall(r"([RT]X-\w+): (\d+)", part))
            found.append(Counters(*(int(numbers[n]) for n in (
                "RX-packets", "RX-dropped", "TX-packets", "TX-dropped"))))
        return found

    def queue_counters(self, port: int) -> dict[str, int]:
        """DPDK's counters of each queue of @port: name -> value."""
        text = self.ask(f"show port xstats {port}")
        return {name: int(value) for name, value
                in re.findall(r"^(\w+): (\d+)$", text, re.MULTILINE)}

    def wait_for_guest(self) -> None:
        """Until all ports are up, after a new start."""
        def look() -> bool:
            return len(re.findall(r"^\d+ .* up", self.ask(
                "show port summary all"), re.MULTILINE)) == len(self.sockets)
        wait_until(look, 60, "testpmd's ports to come up")

    def clear(self) -> None:
        """Set all counters to 0."""
        for what in ("port xstats", "port stats", "fwd stats"):
            self.ask(f"clear {what} all")

    def features(self, port: int) -> int:
        """What QEMU and testpmd agreed on last."""
        path = re.escape(str(self.sockets[port]))
        found = re.findall(path + r"\)? negotiated Virtio features: (\w+)",
                           _content(self.messages))
        if not found:
            raise HarnessError("testpmd negotiated nothing")
        return int(found[-1], 16)

    def regions(self, port: int) -> list[int]:
        """Sizes of the memory regions that it was given last."""
        path = re.escape(str(self.sockets[port]))
        last = re.split(path + r"\)? read message VHOST_USER_SET_MEM_TABLE",
                        _content(self.messages))[-1]
        return [int(size, 16) for size in re.findall(
            path + r"\)? guest memory region size: (\w+)", last)]

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    def is_running(self) -> bool:
        return self._process is not None and self._process.poll() is None

    def kill(self) -> None:
        """As a crash would end it."""
        if self._process is not None:
            self._process.kill()
            self._finish()

    def stop(self) -> None:
        if self._process is None:
            return
        if self.is_running():
            self._process.send_signal(signal.SIGTERM)
        end = time.monotonic() + 10
        while self.is_running() and time.monotonic() < end:
            time.sleep(0.05)
        self.kill()

    def _finish(self) -> None:
        assert self._process is not None and self._reader is not None
        self._process.wait()
        if self._process.stdin is not None:
            self._process.stdin.close()
        self._reader.join(10)
        self._process = None
