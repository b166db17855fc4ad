# SPDX-License-Identifier: GPL-2.0-or-later
"""Frames through testpmd: sent, counted by it, compared by the guest."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Any
from unittest import TestCase

from harness import GuestVm
from net_guest import Console, add_interface
from net_testpmd import F_MRG_RXBUF, F_PACKED, Testpmd

# A ring of 256 small buffers holds five of the longest.
OFFLOADED = "--gso 1448 --largest 65535 --window 130"
# One that is not mergeable takes 19 descriptors for each frame, if there are
# no tables: 13 fit.
FEW = "--burst 10"
LARGEST = "--largest 65549"
SAID = re.compile(r"^NET ok lane (\d+) from eth(\d+): (\d+) frames, "
                  r"(\d+) bytes, (\d+) super-frames; (\d+) frames, "
                  r"(\d+) bytes came", re.MULTILINE)


@dataclass
class Sum:
    """Frames and bytes of them."""

    frames: int = 0
    bytes: int = 0

    def add(self, frames: str, length: str) -> None:
        self.frames += int(frames)
        self.bytes += int(length)


@dataclass
class Flow:
    """What one lane sent from one interface, and what of it came."""

    sent: Sum = field(default_factory=Sum)
    came: Sum = field(default_factory=Sum)


class Exchange:
    """A guest and a testpmd, and what the guest says that it exchanged."""

    def __init__(self, test: TestCase, console: Console,
                 backend: Testpmd) -> None:
        self._test = test
        self._console = console
        self._backend = backend
        self.flows: dict[tuple[int, int], Flow] = {}   # interface, lane

    def frames(self, options: str = "", *, frames: int = 1500,
               lanes: int = 1, seconds: float = 120) -> int:
        """Both ways, @frames a lane; how many left as super-frames."""
        return self.note(self._console.run(
            f"net-frames eth0 eth1 --frames {frames} --lanes {lanes} "
            f"{options}", seconds), lanes)

    def note(self, said: str, lanes: int) -> int:
        """Add up what net-frames said."""
        lines = SAID.findall(said)
        self._test.assertEqual(len(lines), 2 * lanes, said)
        for lane, port, sent, sent_bytes, _, came, came_bytes in lines:
            flow = self.flows.setdefault((int(port), int(lane)), Flow())
            flow.sent.add(sent, sent_bytes)
            flow.came.add(came, came_bytes)
        return sum(int(line[4]) for line in lines)

    def lost(self) -> int:
        return sum(f.sent.frames - f.came.frames for f in self.flows.values())

    def check_counters(self, per_queue: bool = True) -> None:
        """testpmd received what was sent, and sent what came.

        @per_queue: lane n is queue pair n, or else look at the sums only

        testpmd forwards no more after this: it counts a frame a little later
        than the guest sees it.
        """
        self._backend.pause()
        for port in (0, 1):
            seen = self._backend.queue_counters(port)
            self._compare(seen, "rx", per_queue, {
                lane: flow.sent for (origin, lane), flow
                in self.flows.items() if origin == port})
            self._compare(seen, "tx", per_queue, {
                lane: flow.came for (origin, lane), flow
                in self.flows.items() if origin != port})

    def check_nothing_dropped(self) -> None:
        for counters in self._backend.counters():
            self._test.assertEqual((counters.received_dropped,
                                    counters.sent_dropped), (0, 0))

    def _compare(self, seen: dict[str, int], name: str, per_queue: bool,
                 wanted: dict[int, Sum]) -> None:
        if not per_queue:
            total = Sum(sum(s.frames for s in wanted.values()),
                        sum(s.bytes for s in wanted.values()))
            self._same(seen, name, total)
            return
        for lane, total in wanted.items():
            self._same(seen, f"{name}_q{lane}", total)

    def _same(self, seen: dict[str, int], name: str, total: Sum) -> None:
        self._test.assertEqual(
            (seen[f"{name}_good_packets"], seen[f"{name}_good_bytes"]),
            (total.frames, total.bytes), name)


def check_backend(test: TestCase, backend: Testpmd, *, packed: bool,
                  mergeable: bool, guest_bytes: int | None) -> None:
    """What testpmd agreed to, and the memory that it was given.

    @guest_bytes: size of the guest's memory, which it must not be given, or
    None if it may
    """
    for port in range(len(backend.sockets)):
        features = backend.features(port)
        test.assertEqual(features >> F_PACKED & 1, packed, hex(features))
        test.assertEqual(features >> F_MRG_RXBUF & 1, mergeable, hex(features))
        if guest_bytes is not None:
            regions = backend.regions(port)
            test.assertEqual(len(regions), 1, regions)
            test.assertNotEqual(regions[0], guest_bytes)


def testpmd(run: Any, cell: Any) -> None:
    """Workload of the matrix: plain frames, then offloaded ones."""
    mergeable = cell.row.options.get("mergeable", True)
    backend = Testpmd(run.work, queues=cell.queues)
    run.addCleanup(backend.stop)
    backend.start()
    if not mergeable:
        run.megabytes = 512      # most of it is receive buffers
    vm: GuestVm = run.make_cell_vm(cell)
    guest_ring = run.guest_ring(cell)
    device = (f",packed={'on' if guest_ring == 'packed' else 'off'}"
              f",mrg_rxbuf={'on' if mergeable else 'off'}")
    if cell.ring == "packed" and not mergeable:
        # DPDK 22.11 writes frames into the indirect tables of such a ring.
        device += ",indirect_desc=off"
    for number, path in enumerate(backend.sockets):
        add_interface(vm, path, number, queues=cell.queues,
                      netdev=run.netdev_props(vm, cell), device=device)
    console = Console(vm, kernel=cell.kernel)
    run.addCleanup(console.close)
    console.launch()
    exchange = Exchange(run, console, backend)
    options = "" if mergeable else FEW
    exchange.frames(options, lanes=cell.queues)
    supers = exchange.frames(f"{OFFLOADED} {options}", frames=800,
                             lanes=cell.queues)
    run.assertGreater(supers, 800)
    exchange.check_counters()
    exchange.check_nothing_dropped()
    check_backend(run, backend, packed=cell.ring == "packed",
                  mergeable=mergeable,
                  guest_bytes=run.megabytes << 20 if run.isolated else None)
    console.end()


# Not a test, whatever its name begins with.
testpmd.__test__ = False
