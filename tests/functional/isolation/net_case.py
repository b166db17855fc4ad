# SPDX-License-Identifier: GPL-2.0-or-later
"""Test cases on two interfaces of one guest, joined by testpmd."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from harness import isolation_args
from net_frames import OFFLOADED, Exchange, check_backend
from net_guest import Console, add_interface
from net_testpmd import Testpmd


@dataclass
class Setup:
    """How guest and backend are made."""

    queues: int = 1
    mergeable: bool = True
    guest_packed: bool = False
    packed: bool = False         # what the backend sees, if isolated
    indirect: bool = True        # in the guest's rings
    device: str = ""             # options of -device
    netdev: str = ""             # options of -netdev
    chardev: str = ""            # options of -chardev
    machine: list[str] = field(default_factory=list)    # for QEMU
    size: str | None = None      # of the region
    mtu: int = 1500
    reboots: bool = False        # a reset does not end the test


class Frames:
    """Mixed into an IsolationTest."""

    megabytes = 384

    def start(self, **options: Any) -> None:
        """@options: members of Setup."""
        self.setup = Setup(**options)
        self.backend = Testpmd(self.work, queues=self.setup.queues)
        self.addCleanup(self.backend.stop)
        self.backend.start()
        self.make_machine()
        self.console.launch()
        self.begin()

    def make_machine(self, name: str = "vm", *options: str) -> None:
        """A guest that is not launched yet, and its console."""
        setup = self.setup
        self.vm = self.make_vm(name)
        self.vm.add_args("-smp", str(setup.queues), *setup.machine, *options)
        device = setup.device + "".join(
            f",{name}={'on' if value else 'off'}" for name, value in (
                ("packed", setup.guest_packed),
                ("mrg_rxbuf", setup.mergeable),
                ("indirect_desc", setup.indirect)))
        netdev = isolation_args(self.vm, self.iothread, self.isolated,
                                setup.size)
        if netdev:
            netdev += (",x-memory-isolation-packed="
                       f"{'on' if setup.packed else 'off'}")
        for number, path in enumerate(self.backend.sockets):
            add_interface(self.vm, path, number, queues=setup.queues,
                          netdev=netdev + setup.netdev, device=device,
                          chardev=setup.chardev)
        self.console = Console(self.vm, mtu=setup.mtu, reboots=setup.reboots)
        self.addCleanup(self.console.close)

    def begin(self) -> None:
        """Count from 0; check what QEMU and testpmd have agreed on."""
        self.backend.wait_for_guest()
        self.backend.clear()
        self.exchange = Exchange(self, self.console, self.backend)
        check_backend(self, self.backend,
                      packed=self.setup.packed if self.isolated
                      else self.setup.guest_packed,
                      mergeable=self.setup.mergeable,
                      guest_bytes=self.megabytes << 20 if self.isolated
                      else None)

    def settle(self) -> None:
        """Until what was sent to nobody is through, and counted.

        A frame overtakes none of its queue; a processor has one of its own.
        """
        self.console.run("net-frames eth0 eth1 --lossy 1 --frames 40 "
                         f"--burst 4 --lanes {self.setup.queues}")
        self.backend.pause()
        self.backend.go_on()

    def check_exact(self) -> None:
        """Each frame comes once, in order, and is counted by both sides."""
        self.settle()
        self.begin()
        self.exchange.frames(lanes=self.setup.queues)
        self.exchange.frames(OFFLOADED, frames=300, lanes=self.setup.queues)
        self.finish()

    def finish(self, per_queue: bool = True) -> None:
        """Nothing was lost, and everybody counted the same."""
        self.exchange.check_counters(per_queue)
        self.exchange.check_nothing_dropped()
        self.assertEqual(self.exchange.lost(), 0)
        self.console.end()
