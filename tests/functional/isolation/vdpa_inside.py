# SPDX-License-Identifier: GPL-2.0-or-later
"""vhost-vdpa with devices that VDUSE cannot be: inside QEMU's own process.

tests/backends/vdpa-inside.c is loaded into QEMU, unmodified, and stands for two
network devices with a cable between them: with a control queue in an address
space of its own, several pairs of data queues, and able to be suspended.  Linux
drives both, sets what can be set by control commands, and sends frames from one
to the other.  The devices log each command and their state after it, so what
the destination of a migration was told is compared with what the source had.
"""

from __future__ import annotations

import lzma
import os
import re
import time
from pathlib import Path
from typing import Any

from harness import TOP, GuestVm, guest, socket_folder, wait_until
from net_guest import INSIDE, OBEY, Console, build_frames
from vdpa import Rings, build_on_rings, program, wait_migration

LIBRARY = guest.OUT / "vdpa-inside.so"
BACKENDS = TOP / "tests/backends"
MEGABYTES, BALLAST = 224, 32
PAIRS = 2
# Bytes a second.
SLOW, BRISK, FAST = 64 << 10, 64 << 20, 1 << 30
# In the order in which they are loaded.
MODULES = ["llc", "stp", "garp", "mrp", "8021q", "macvlan"]

JOB = """
echo 1 > /proc/sys/net/ipv6/conf/default/disable_ipv6
modprobe virtio_net
for m in {modules}; do insmod /modules/$m.ko || exit 1; done
for i in eth0 eth1; do ip link set $i up || exit 1; done
frames() {{
    net-frames eth0 eth1 --frames 1000 --lanes $1 --lossy 1
}}
traffic() {{
    while [ -e /tmp/traffic ]; do
        frames $1 || touch /tmp/bad
    done > /tmp/frames 2>&1
}}
""" + OBEY


def fetch() -> None:
    """What the guest has of Debian's archive, besides its kernel."""
    guest.unpack(["ethtool"], guest.ROOT)


def build_library() -> None:
    build_on_rings(LIBRARY, sorted(BACKENDS.glob("vdpa-inside*.[ch]")),
                   "-shared", "-fPIC", "-fvisibility=hidden")


def guest_modules(work: Path) -> dict[str, Path]:
    """MODULES of the guest's kernel, unpacked."""
    files = {}
    folder = guest.modules_folder()
    for name in MODULES:
        found = next(folder.rglob(f"{name}.ko*"))
        if found.suffix == ".xz":
            plain = work / f"{name}.ko"
            plain.write_bytes(lzma.decompress(found.read_bytes()))
            found = plain
        files[f"modules/{name}.ko"] = found
    return files


class InsideVm(GuestVm):
    """A VM with two devices inside QEMU, to boot or to arrive in."""

    def __init__(self, work: Path, name: str, rings: Rings,
                 props: str = "", netdev: str = "") -> None:
        super().__init__(work, name)
        build_library()
        self.name = name
        self._device_log = work / f"{name}.vdpa"
        self._orders = work / f"{name}.orders"
        self.memory = work / f"{name}.ram"
        self.ballast = work / f"{name}.ballast"
        self._device_log.write_bytes(b"")
        self._shadowed = "x-svq=on" in netdev
        self._wrapper = [
            "env", f"LD_PRELOAD={LIBRARY}", f"VDPA_LOG={self._device_log}",
            f"VDPA_FEATURES={rings.features()}", f"VDPA_PAIRS={PAIRS}",
            f"VDPA_ORDERS={self._orders}"]
        self.set_machine("pc,accel=tcg,memory-backend=ram")
        self.add_args("-m", f"{MEGABYTES},slots=1,maxmem=1G", "-smp", "2",
                      "-object", f"memory-backend-file,id=ram,share=on,"
                      f"size={MEGABYTES}M,mem-path={self.memory}",
                      "-object", f"memory-backend-file,id=ballast,share=on,"
                      f"size={BALLAST}M,mem-path={self.ballast}",
                      "-device", "pc-dimm,memdev=ballast",
                      "-trace", "virtio_net_handle_announce")
        for i in range(2):
            self.add_args(
                "-netdev", f"vhost-vdpa,id=n{i},vhostfd={100 + i}{netdev}",
                "-device", f"virtio-net-pci,id=net{i},netdev=n{i},romfile=,"
                f"mq=on,vectors={2 * PAIRS + 2},mac=52:54:00:00:01:0{i}{props}")

    def make_ballast(self) -> None:
        """For a machine that is not to get it from another one."""
        self.ballast.write_bytes(os.urandom(BALLAST << 20))

    def order(self, *lines: str) -> None:
        """What the devices do from now on; see vdpa-inside.c."""
        self._orders.write_text("".join(f"{line}\n" for line in lines), "ascii")

    def said(self) -> str:
        """All that the devices have logged."""
        return self._device_log.read_text("ascii")

    def log_text(self) -> str:
        """What QEMU has said so far."""
        return (self.work / f"{self.name}.log").read_text("ascii", "replace")

    def announced(self) -> int:
        """Devices of which the guest has acknowledged all announcements."""
        return self.log_text().count("virtio_net_handle_announce 0\n")

    def states(self) -> list[str]:
        """What control commands have set, on each device."""
        return [re.findall(rf"^{i}: state: (.*)\n", self.said(),
                           re.MULTILINE)[-1] for i in range(2)]

    def wait_work(self, start: int = 0) -> None:
        """Frames go through all queues, turned on behind @start."""
        wait_until(lambda: self.said()[start:].count(": at work\n") >=
                   4 * PAIRS, 60, "frames through all queues")

    def wait_new_work(self) -> None:
        """Frames go through all queues, however often they were off."""
        wait_until(lambda: all(
            re.findall(rf"{i}: queue {q}: (at work|off|.* ring)",
                       self.said())[-1] == "at work"
            for i in range(2) for q in range(2 * PAIRS)), 60,
            "frames through all queues")

    def wait_status(self, status: str) -> None:
        wait_until(lambda: self.cmd("query-status")["status"] == status, 60,
                   f"a VM that is {status}")

    def migration(self) -> dict[str, Any]:
        status = self.cmd("query-migrate")
        assert isinstance(status, dict)
        return status

    def wait_migration(self, *states: str) -> str:
        return wait_migration(self.migration, *states)

    def set_speed(self, speed: int) -> None:
        """It does not end before it is FAST."""
        self.cmd("migrate-set-parameters", **{
            "max-bandwidth": speed,
            "downtime-limit": 100000 if speed == FAST else 0})

    def begin_migration(self, uri: str) -> None:
        """All but the ballast is sent once, and frames go on."""
        start = len(self.said())
        self.set_speed(BRISK)
        self.cmd("migrate", uri=uri)
        wait_until(lambda: self.migration().get("ram", {}).get(
            "remaining", BALLAST << 20) < BALLAST << 20, 60,
            "the guest's memory to be sent")
        self.set_speed(SLOW)
        if not self._shadowed:
            self.wait_work(start)

    def end_migration(self) -> None:
        self.set_speed(FAST)
        self.wait_migration("completed")

    def cancel(self, after: float) -> None:
        """A migration to nowhere, @after seconds from its beginning."""
        self.set_speed(SLOW)
        self.cmd("migrate", uri="exec:cat > /dev/null")
        time.sleep(after)
        self.cmd("migrate_cancel")
        self.wait_migration("cancelled")

    def end(self) -> None:
        super().end()
        self.memory.unlink(missing_ok=True)
        self.ballast.unlink(missing_ok=True)


class Inside(Console):
    """Linux on an InsideVm, ready for commands."""

    def __init__(self, vm: InsideVm) -> None:
        build_frames()
        fetch()
        self._vm = vm
        self._done = 0
        self._path = socket_folder(vm.work) / f"{vm.name}.console"
        self._socket = None
        vm.add_args("-chardev", f"socket,id=console,path={self._path},"
                    "server=on,wait=off", "-serial", "chardev:console")
        vm.add_job(JOB.format(modules=" ".join(MODULES)),
                   {**INSIDE, **guest_modules(vm.work),
                    **program("ethtool", guest.sbin("ethtool"))})
