# SPDX-License-Identifier: GPL-2.0-or-later
"""A host with libvirt: its daemons, backends, and the guest's console.

Runs as root in a bare Debian, in a namespace of processes of its own that ends
with it.  A second host is the same Debian with another name, another /run and
another /var/lib/libvirt.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
import termios
import time
import tty
from pathlib import Path
from typing import Any, Callable

HERE = Path(__file__).resolve().parent
TOP = HERE.parents[1]
sys.path.insert(0, str(TOP / "tests/functional/isolation"))

import backend_view                                     # noqa: E402

PATIENCE = 5
BACKENDS = Path("/run/backends")
# Of two, the one that has the driver for QEMU in a daemon of its own.
DAEMONS = ("virtqemud", "libvirtd")
QEMU_CONF = """\
user = "root"
group = "root"
security_driver = "none"
namespaces = []
cgroup_controllers = []
stdio_handler = "logd"
"""
DAEMON_CONF = 'auth_unix_rw = "none"\nhost_uuid = "{uuid}"\n'


class StageError(Exception):
    """The scenery broke, or what was claimed does not hold."""


def wait_until(condition: Callable[[], Any], seconds: float, what: str) -> Any:
    """The first true value of @condition."""
    end = time.monotonic() + seconds * PATIENCE
    while not (value := condition()):
        if time.monotonic() > end:
            raise StageError(f"{what}: nothing after {seconds * PATIENCE:g} s")
        time.sleep(0.05)
    return value


class Host:
    """One libvirt.  @inside are words before a command that is run there."""

    def __init__(self, name: str, log: Path) -> None:
        self.name = name
        self.log = log
        self.inside: list[str] = []
        self.backends: dict[str, subprocess.Popen[bytes]] = {}
        self._daemons: list[subprocess.Popen[bytes]] = []

    def spawn(self, command: list[str], **options: Any
              ) -> subprocess.Popen[bytes]:
        with self.log.open("ab") as log:
            log.write(f"+ {' '.join(command)}\n".encode())
            log.flush()
            options.setdefault("stdin", subprocess.DEVNULL)
            return subprocess.Popen([*self.inside, *command], stdout=log,
                                    stderr=subprocess.STDOUT, **options)

    def become_another(self) -> None:
        """Namespaces of its own for names and mounts."""
        keeper = self.spawn(["unshare", "--mount", "--uts", "sh", "-c",
                             f"hostname {self.name} && "
                             "mount -t tmpfs tmpfs /run && "
                             "mount -t tmpfs tmpfs /var/lib/libvirt && "
                             "mount -t tmpfs tmpfs /etc/libvirt && "
                             "touch /run/made && exec sleep infinity"])
        self._daemons.append(keeper)
        self.inside = ["nsenter", "--target", str(keeper.pid), "--mount",
                       "--uts", "--root"]
        wait_until(self.path("/run/made").exists, 10, "another host")

    def path(self, name: str) -> Path:
        """Where @name of this host is seen from outside."""
        if not self.inside:
            return Path(name)
        return Path(f"/proc/{self.inside[2]}/root{name}")

    def start(self) -> None:
        etc = self.path("/etc/libvirt")
        daemon = next(d for d in DAEMONS if Path("/usr/sbin", d).exists())
        (etc / "qemu.conf").write_text(QEMU_CONF, "ascii")
        uuid = "11111111-2222-4333-8444-" + self.name.encode().hex()[:12].ljust(
            12, "0")
        (etc / f"{daemon}.conf").write_text(DAEMON_CONF.format(uuid=uuid),
                                            "ascii")
        self.path(str(BACKENDS)).mkdir(parents=True, exist_ok=True)
        for program in ("virtlogd", daemon):
            self._daemons.append(self.spawn([f"/usr/sbin/{program}"]))
        wait_until(lambda: self.try_virsh("version").returncode == 0, 60,
                   f"{daemon} on {self.name}")

    @property
    def uri(self) -> str:
        """How others reach it."""
        for name in ("virtqemud-sock", "libvirt-sock"):
            socket = self.path(f"/run/libvirt/{name}")
            if socket.exists():
                return f"qemu+unix:///system?socket={socket}"
        raise StageError(f"no socket of libvirt on {self.name}")

    def try_virsh(self, *words: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [*self.inside, "virsh", "-c", "qemu:///system", *words],
            capture_output=True, text=True, check=False,
            stdin=subprocess.DEVNULL, env=dict(os.environ, LC_ALL="C"))

    def virsh(self, *words: str) -> str:
        done = self.try_virsh(*words)
        with self.log.open("a", encoding="utf-8") as log:
            log.write(f"+ virsh {' '.join(words)}\n{done.stdout}{done.stderr}")
        if done.returncode:
            raise StageError(f"virsh {' '.join(words)}: "
                             f"{done.stderr.strip()}")
        return done.stdout

    # Backends

    def start_backend(self, socket: str, command: list[str],
                      **options: Any) -> int:
        """@command listens on @socket in BACKENDS; its process id."""
        path = self.path(str(BACKENDS / socket))
        path.unlink(missing_ok=True)
        process = self.spawn(command, **options)
        self.backends[socket] = process
        wait_until(lambda: path.exists() or process.poll() is not None, 20,
                   f"{command[0]} on {socket}")
        if process.poll() is not None:
            raise StageError(f"{command[0]} ended; see the log")
        return process.pid

    def end_backend(self, socket: str) -> None:
        process = self.backends.pop(socket)
        process.terminate()
        process.wait()

    def end(self) -> None:
        for process in [*self.backends.values(), *reversed(self._daemons)]:
            process.terminate()
            process.wait()

    # What processes have

    def shared(self, socket: str, domain: str) -> set[str]:
        """Memory of QEMU's that the backend behind @socket has, by name."""
        own = memfds(self.qemu_pid(domain))
        return {name for inode, name in
                memfds(self.backends[socket].pid).items() if inode in own}

    def qemu_pid(self, domain: str) -> int:
        for name in ("/run/libvirt/qemu", "/var/run/libvirt/qemu"):
            path = self.path(f"{name}/{domain}.pid")
            if path.exists():
                return int(path.read_text("ascii"))
        raise StageError(f"no process of {domain}")


def family(pid: int) -> list[int]:
    """@pid and its children's children: virtiofsd serves from one of them."""
    children = Path(f"/proc/{pid}/task/{pid}/children").read_text("ascii")
    return [pid, *(p for child in children.split()
                   for p in family(int(child)))]


def memfds(pid: int) -> dict[int, str]:
    """Memory files that @pid has mapped or could map: inode -> name."""
    found = {}
    for one in family(pid):
        for mapping in backend_view.foreign_mappings(one):
            found[mapping.inode[1]] = mapping.path
        for inode, path in backend_view.foreign_files(one).items():
            found[inode] = os.readlink(path)
    return {inode: name.removesuffix(" (deleted)")
            for inode, name in found.items()}


class Console:
    """A domain's serial console: a shell of the guest, a line at a time."""

    def __init__(self, host: Host, domain: str) -> None:
        path = host.virsh("ttyconsole", domain).strip()
        self._fd = os.open(path, os.O_RDWR | os.O_NOCTTY | os.O_NONBLOCK)
        tty.setraw(self._fd, termios.TCSANOW)
        self._host = host
        self._number = 0
        self.text = ""

    def close(self) -> None:
        os.close(self._fd)

    def _read(self) -> None:
        try:
            data = os.read(self._fd, 65536).decode("utf-8", "replace")
        except BlockingIOError:
            return
        self.text += data
        with self._host.log.open("a", encoding="utf-8") as log:
            log.write(data)

    def wait(self, pattern: str, seconds: float = 60, start: int = 0
             ) -> re.Match[str]:
        """Until the guest has said @pattern, from character @start on."""
        def look() -> re.Match[str] | None:
            self._read()
            return re.compile(pattern, re.MULTILINE).search(self.text, start)
        try:
            return wait_until(look, seconds, f"waiting for {pattern!r}")
        except StageError as err:
            raise StageError(f"{err}; the guest said: "
                             f"{self.text[-400:]!r}") from None

    def begin(self, command: str) -> int:
        """The guest begins with @command; a number to wait for."""
        self._number += 1
        os.write(self._fd, f"{self._number} {command}\n".encode())
        return self._number

    def finish(self, number: int, seconds: float = 60) -> str:
        """What the guest said until the command was done without error."""
        found = self.wait(rf"^SAID {number} (\d+)\r?$", seconds)
        if found.group(1) != "0":
            raise StageError(f"the guest's command failed: "
                             f"{self.text[:found.end()][-400:]!r}")
        return self.text[:found.start()]

    def run(self, command: str, seconds: float = 60) -> str:
        return self.finish(self.begin(command), seconds)
