# SPDX-License-Identifier: GPL-2.0-or-later
"""What the workloads of the matrix are given; see matrix.py."""

from __future__ import annotations

import importlib
from pathlib import Path

from harness import GuestVm, IsolationTest, isolation_args
from matrix import Cell


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
            props += ",memory-isolation-packed=" + \
                ("on" if cell.ring == "packed" else "off")
        return props

    def device_props(self, vm: GuestVm, cell: Cell,
                     size: str | None = None) -> str:
        """For -device: both sides."""
        packed = "on" if self.guest_ring(cell) == "packed" else "off"
        return f",packed={packed}" + self.netdev_props(vm, cell, size)

    def run_cell(self, vm: GuestVm, cell: Cell, script: str,
                 files: dict[str, Path] | None = None,
                 seconds: float = 120) -> None:
        """Boot the cell's kernel, run @script, expect that it succeeded."""
        vm.add_job(script, files, kernel=cell.kernel)
        vm.launch()
        self.expect_ok(vm, seconds)
