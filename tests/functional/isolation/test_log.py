# SPDX-License-Identifier: GPL-2.0-or-later
"""A backend that connects all the time does not fill QEMU's log."""

from __future__ import annotations

import time
from pathlib import Path

from harness import GuestVm, IsolationTest, socket_folder, wait_until
from vhost_user_rude import KnockingBackend

TIMES = 1000
# What QEMU uses at once and in a second, and what each costs.
BURST, RATE, LINES = 16, 2, 3
DEVICES = {
    "blk": ["-device", "vhost-user-blk-pci,chardev=blk,num-queues=1{on}"],
    "scsi": ["-device", "vhost-user-scsi-pci,chardev=scsi,num_queues=1{on}"],
    "rng": ["-device", "vhost-user-rng-pci,chardev=rng{on}"],
    "net": ["-netdev", "vhost-user,id=net0,chardev=net{on}",
            "-device", "virtio-net-pci,netdev=net0"],
    "crypto": ["-object", "cryptodev-vhost-user,id=crypto0,chardev=crypto{on}",
               "-device", "virtio-crypto-pci,cryptodev=crypto0"],
}


class Log(IsolationTest):
    """QEMU listens, so a backend connects as often as it likes."""

    megabytes = 64

    def start(self) -> GuestVm:
        vm = self.make_vm()
        # The VM is paused before its first instruction.
        vm.add_args("-S")
        self.backends: dict[str, KnockingBackend] = {}
        for kind, words in DEVICES.items():
            path = socket_folder(self.work) / f"{kind}.sock"
            path.unlink(missing_ok=True)
            self.backends[kind] = KnockingBackend(path)
            self.addCleanup(self.backends[kind].close)
            vm.add_args("-chardev", f"socket,id={kind},path={path},server=on")
            on = ",memory-isolation=on" if self.isolated else ""
            vm.add_args(*(word.format(on=on) for word in words))
        vm.launch()
        return vm

    def lines(self) -> int:
        return len(Path(self.work / "vm.log").read_bytes().splitlines())

    def test_connections_without_end_cost_few_lines(self) -> None:
        vm = self.start()
        for kind, backend in self.backends.items():
            with self.subTest(kind):
                before, begin = self.lines(), time.monotonic()
                backend.knock(TIMES)
                # One that stays is served, as soon as it is its turn.
                wait_until(lambda b=backend: b.answered > 1, 30,
                           "QEMU to ask again")
                lines = self.lines() - before
                used = BURST + RATE * (1 + time.monotonic() - begin)
                print(f"{kind}: {lines} lines, {used:.0f} connections used "
                      "at most", flush=True)
                self.assertLess(lines, LINES * used)
        self.assertFalse(vm.cmd("query-status")["running"])
