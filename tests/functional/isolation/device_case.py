# SPDX-License-Identifier: GPL-2.0-or-later
"""What the workloads of the matrix are given; see matrix.py."""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import Callable

import backend_view
from harness import GuestVm, IsolationTest, Program, isolation_args
from matrix import Cell

JOB = """
sh /cell.sh || exit
echo CELL done
read word
"""


class DeviceCase(IsolationTest):
    """A cell of the matrix on one of its two sides."""

    side = "on"
    megabytes = 256
    limit = 300

    def setUp(self) -> None:
        super().setUp()
        self.isolated = self.side == "on"

    def run_workload(self, cell: Cell) -> None:
        self.iothread = cell.iothread
        module, function = cell.row.workload.split(":")
        getattr(importlib.import_module(module), function)(self, cell)

    def need(self, reason: str) -> None:
        if reason:
            self.skipTest(reason)

    def make_cell_vm(self, cell: Cell, name: str = "vm") -> GuestVm:
        vm = self.make_vm(name)
        vm.add_args("-smp", str(cell.cpus))
        return vm

    def guest_ring(self, cell: Cell) -> str:
        """Not isolated, both sides have the same ring."""
        return cell.guest_ring if self.isolated else cell.ring

    def netdev_props(self, vm: GuestVm, cell: Cell,
                     size: str | None = None) -> str:
        """For -netdev; the device has the guest's side then."""
        props = isolation_args(vm, self.iothread, self.isolated, size)
        if self.isolated and len(cell.row.rings) > 1:
            props += ",x-memory-isolation-packed=" + \
                ("on" if cell.ring == "packed" else "off")
        return props

    def device_props(self, vm: GuestVm, cell: Cell,
                     size: str | None = None) -> str:
        """For -device: both sides."""
        packed = "on" if self.guest_ring(cell) == "packed" else "off"
        return f",packed={packed}" + self.netdev_props(vm, cell, size)

    def run_cell(self, vm: GuestVm, cell: Cell, script: str,
                 files: dict[str, Path] | None = None,
                 seconds: float = 120,
                 during: Callable[[GuestVm], None] | None = None) -> None:
        """Boot the cell's kernel, run @script, expect that it succeeded.

        @during is called once the guest boots.  While the guest still has the device, its backend is searched for a
        page of the guest that was no part of any request.
        """
        secret = backend_view.Secret()
        path = self.work / "cell.sh"
        path.write_text(script, "utf-8")
        vm.add_job(secret.shell() + JOB, {**(files or {}), "cell.sh": path},
                   kernel=cell.kernel)
        vm.launch()
        if during:
            during(vm)
        found = vm.wait_serial(r"^(CELL done|RESULT \w+)", seconds)
        if found.group(1) == "CELL done":
            for program in self.programs:
                self.look_at_backend(program, secret.needle)
            vm.say("go")
        self.expect_ok(vm, seconds)

    def look_at_backend(self, program: Program, needle: bytes) -> None:
        seen = backend_view.count_secret(program.pid, needle)
        if self.isolated:
            self.assertEqual(seen, 0, "the backend can read guest memory")
        else:
            self.assertGreater(seen, 0, "a search that finds nothing: the "
                               "backend shares all memory of the guest")
