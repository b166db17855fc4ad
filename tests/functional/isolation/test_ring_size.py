# SPDX-License-Identifier: GPL-2.0-or-later
"""Backends whose longest ring is shorter than the guest's.

Daemons of rust-vmm take 64 to 256 descriptors, each device its own number.
The workloads are those of the matrix; data is compared on both sides.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any, Callable

import matrix
from device_case import DeviceCase
from harness import GuestVm, P, Program
from vhost_user_proxy import refuse_rings

# Linux's sound driver starts the device, then reads how many streams it has.
# If that start was refused there is no backend just then, so it finds none.
STREAMS = """modprobe virtio_snd
until [ -e /dev/snd/pcmC0D0p ]; do
    usleep 50000
    rmmod virtio_snd
    modprobe virtio_snd
done
"""


class RingSize(DeviceCase):
    """Either the user says how long, or QEMU finds it out."""

    def run_case(self, device: str, key: str, longest: int,
                 told: bool) -> None:
        """@told: by the property; else the next connection has to fit."""
        cell = next(c for c in matrix.cells()
                    if (c.row.device, c.row.key) == (device, key))
        self.longest, self.told = longest, told
        self.lengths: list[int] = []
        self.run_workload(cell)
        asked = self.lengths or [int(n) for n in re.findall(
            r"a ring of (\d+)", self.programs[0].log.read_text())]
        self.assertTrue(asked, "the backend has seen no ring")
        if told:
            self.assertEqual(set(asked), {longest})
        else:
            self.assertGreater(max(asked), longest)
            self.assertLessEqual(asked[-1], longest)

    def netdev_props(self, vm: Any, cell: Any, size: str | None = None) -> str:
        self.vm = vm
        props = super().netdev_props(vm, cell, size)
        return props + (f",memory-isolation-ring-size={self.longest}"
                        if self.told else "")

    def run_cell(self, vm: GuestVm, cell: matrix.Cell, script: str,
                 files: dict[str, Path] | None = None,
                 seconds: float = 120,
                 during: Callable[[GuestVm], None] | None = None) -> None:
        if not self.told:
            script = script.replace("modprobe virtio_snd\n", STREAMS)
        super().run_cell(vm, cell, script, files, seconds, during)

    def start_program(self, command: list[str], name: str = "backend",
                      env: dict[str, str] | None = None) -> Program:
        return super().start_program(
            command, name, {**(env or {}), "SMALL_RING_MAX":
                            str(self.longest)})

    def _start(self, program: P) -> P:
        """A small backend refuses by itself, others behind a proxy."""
        started = super()._start(program)
        if "small-" not in " ".join(program._command()):
            proxy = self.start_proxy(started, refuse_rings(
                self.longest, self.lengths))
            started.socket = proxy.path
        # With what follows the path on -chardev.
        setattr(started, "socket", f"{started.socket},reconnect-ms=100")
        return started

    def tearDown(self) -> None:
        """What QEMU found out of a size it says once."""
        said = [line for line in self.vm.qemu_log().splitlines()
                if "memory-isolation-ring-size" in line]
        self.assertEqual(bool(said), not self.told, self.vm.qemu_log())
        self.assertEqual(len(said), len(set(said)), self.vm.qemu_log())
        super().tearDown()


def _add(name: str, device: str, key: str, longest: int,
         found_out: int = 0) -> None:
    """@found_out, if any, is less than QEMU's own choice for @device."""
    for told, most in ((True, longest), (False, found_out))[:1 + bool(
            found_out)]:
        def test(self: RingSize, told: bool = told, most: int = most) -> None:
            self.run_case(device, key, most, told)
        how = "as_told" if told else "found_out"
        setattr(RingSize, f"test_{name}_{most}_{how}", test)


_add("blk", "vhost-user-blk", "qsd-debian", 128, 128)
_add("scsi", "vhost-user-scsi", "small", 128, 64)
_add("net", "vhost-user-net", "passt", 256, 256)
_add("snd", "vhost-user-snd", "small", 64, 32)
_add("gpio", "vhost-user-gpio", "small", 256, 128)
# So that this file names no test of its own.
del DeviceCase
