# SPDX-License-Identifier: GPL-2.0-or-later
"""What the network tests share: interfaces of a guest, and a way to talk."""

from __future__ import annotations

import fcntl
import re
import socket
import subprocess
from pathlib import Path

from harness import TOP, GuestVm, HarnessError, guest, socket_folder

FRAMES = guest.OUT / "net-frames"
SOURCES = [TOP / "tests/guest" / name for name in
           ("net-frames.c", "net-frame.c", "net-frame.h")]
INSIDE = {"usr/bin/net-frames": FRAMES}

# What is said to the guest has a line of its own: nobody has to keep up with
# reading then, and QEMU's log of the console repeats nothing.
OBEY = """
stty -F /dev/ttyS1 -echo
exec 3< /dev/ttyS1
echo NET ready
while read number line <&3; do
    [ "$number" = end ] && exit 0
    eval "$line"
    echo "NET did $number $?"
done
exit 1
"""

# No address of version 6: its neighbour discovery would be counted as well.
# Debian 13's kernel has fq_codel by default, which puts frames into another
# order; its driver keeps some back, so there are frames to do that with.
JOB = """
echo 1 > /proc/sys/net/ipv6/conf/default/disable_ipv6
echo pfifo_fast > /proc/sys/net/core/default_qdisc
modprobe virtio_net
for i in {names}; do
    ip link set $i mtu {mtu} up || exit 1
done
""" + OBEY


def build_frames() -> None:
    """Make the guest's program, if its source is newer."""
    with (guest.OUT / ".net.lock").open("w", encoding="ascii") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        newest = max(source.stat().st_mtime for source in SOURCES)
        if FRAMES.exists() and FRAMES.stat().st_mtime > newest:
            return
        new = FRAMES.with_suffix(".new")
        subprocess.run(
            ["gcc", "-std=gnu11", "-O2", "-Wall", "-Wextra", "-Werror",
             "-static", "-pthread", "-o", str(new),
             *(str(s) for s in SOURCES if s.suffix == ".c")], check=True)
        new.rename(FRAMES)


def add_interface(vm: GuestVm, path: Path, number: int, *, queues: int = 1,
                  netdev: str = "", device: str = "",
                  chardev: str = "") -> None:
    """Interface eth@number on the backend that listens on @path.

    @netdev, @device, @chardev: further options of the three, commas in front
    """
    ident = f"net{number}"
    vm.add_args("-chardev", f"socket,id={ident}char,path={path}{chardev}",
                "-netdev", f"vhost-user,id={ident},chardev={ident}char,"
                f"queues={queues}{netdev}")
    many = f",mq=on,vectors={2 * queues + 2}" if queues > 1 else ""
    vm.add_args("-device", f"virtio-net-pci,id={ident}dev,netdev={ident},"
                f"mac=52:54:00:00:00:{number + 1:02x},romfile="
                f"{many}{device}")


class Console:
    """A guest that does one command after the other, each when asked."""

    def __init__(self, vm: GuestVm, interfaces: int = 2,
                 mtu: int = 1500, kernel: str = "",
                 reboots: bool = False) -> None:
        build_frames()
        self._vm = vm
        self._done = 0
        self._path = socket_folder(vm.work) / "console"
        self._socket: socket.socket | None = None
        vm.add_args("-chardev", f"socket,id=console,path={self._path},"
                    "server=on,wait=off", "-serial", "chardev:console")
        names = " ".join(f"eth{i}" for i in range(interfaces))
        vm.add_job(JOB.format(names=names, mtu=mtu), INSIDE, kernel=kernel,
                   reboots=reboots)

    def launch(self) -> None:
        """Boot, until the guest is ready for commands."""
        self.go_on()
        self.wait_ready()

    def go_on(self) -> None:
        """Launch a guest that is ready, or will be."""
        self._vm.launch()
        self._socket = socket.socket(socket.AF_UNIX)
        self._socket.connect(str(self._path))

    def wait_ready(self, times: int = 1) -> None:
        """Until the guest has booted for the @times-th time."""
        self._wait("(?s)" + r"^NET ready\r?$.*" * times, 120, 0)

    def _wait(self, pattern: str, seconds: float, start: int) -> re.Match[str]:
        found = self._vm.wait_serial(f"{pattern}|^RESULT fail", seconds, start)
        if found.group(0).startswith("RESULT"):
            raise HarnessError("the guest gave up:\n" +
                               self._vm.serial_text()[-1500:])
        return found

    def _say(self, line: str) -> None:
        assert self._socket is not None
        self._socket.sendall(line.encode() + b"\n")

    def begin(self, command: str) -> int:
        """Start @command; what finish() wants to know."""
        start = len(self._vm.serial_text())
        self._done += 1
        self._say(f"{self._done} {command}")
        return start

    def finish(self, start: int, seconds: float = 120) -> tuple[int, str]:
        """Status and output of the command that begin() started."""
        found = self._wait(rf"^NET did {self._done} (\d+)\r?$", seconds, start)
        text = self._vm.serial_text()[start:][:found.start()]
        return int(found.group(1)), text

    def run(self, command: str, seconds: float = 120) -> str:
        """The output of @command, which must succeed."""
        status, text = self.finish(self.begin(command), seconds)
        if status:
            raise AssertionError(f"{command!r} said:\n{text[-1500:]}")
        return text

    def end(self) -> None:
        """Let the guest power off."""
        self._say("end")
        self._vm.wait_result(60)
        if self._vm.exitcode():
            raise AssertionError(f"QEMU ended with {self._vm.exitcode()}: " +
                                 self._vm.qemu_log()[-1500:])
        self.close()

    def close(self) -> None:
        if self._socket is not None:
            self._socket.close()
            self._socket = None
