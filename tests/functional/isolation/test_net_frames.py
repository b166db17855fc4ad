# SPDX-License-Identifier: GPL-2.0-or-later
"""Frames through DPDK's testpmd, counted and compared byte for byte.

The plain cases, each ring format, one queue pair and two, mergeable buffers
and not, are cells of the matrix (net_frames.py); here is what is special.
"""

from __future__ import annotations

import time

from harness import IsolationTest, on_both_threads
from net_case import Frames
from net_frames import FEW, LARGEST, OFFLOADED

STOPS = 6


class Sizes(Frames, IsolationTest):
    """The largest frames, and the most memory that is pinned for them."""

    iothread = True

    def test_largest_frames_there_are(self) -> None:
        """65,549 bytes; with the header before it the guest's whole buffer."""
        self.start(mtu=65535)
        self.exchange.frames(f"{LARGEST} --window 130", frames=600)
        self.finish()

    def test_largest_frames_without_mergeable_buffers(self) -> None:
        self.start(mtu=65535, mergeable=False, guest_packed=True, packed=True,
                   indirect=False)
        self.exchange.frames(f"{LARGEST} --window 3000 {FEW}", frames=600)
        self.finish()

    def test_thousand_receive_buffers_of_64_kibibytes(self) -> None:
        """Pinned all the time, on each side; nobody else is starved."""
        self.megabytes = 512
        self.start(mtu=65535, mergeable=False,
                   device=",rx_queue_size=1024,tx_queue_size=1024")
        self.exchange.frames(f"{LARGEST} --window 12000 --burst 200",
                             frames=1200)
        self.exchange.frames("--largest 100 --window 400 --burst 400",
                             frames=3000)
        self.finish()

    def test_frames_of_many_buffers_each(self) -> None:
        """A guest that sees a part of a frame drops it."""
        self.start(mtu=65535, queues=2, guest_packed=True,
                   device=",rx_queue_size=1024,tx_queue_size=1024")
        self.exchange.frames(f"{LARGEST} --window 800", frames=300, lanes=2)
        # Linux has learnt to post whole pages by now.
        self.exchange.frames(f"{LARGEST} --window 2000", frames=1500, lanes=2)
        self.finish()


@on_both_threads
class Changes(Frames):
    """What happens to a device while it has work to do."""

    def test_number_of_queues_changes(self) -> None:
        self.start(queues=2, guest_packed=True)
        for channels in (2, 1, 2):
            self.exchange.frames(f"--channels {channels}", frames=500,
                                 lanes=2)
        self.finish(per_queue=False)

    def test_vm_stops_and_goes_on(self) -> None:
        """What was on its way to a port that had stopped is lost, no more."""
        self.start(queues=2, guest_packed=True, packed=True)
        start = self.console.begin("net-frames eth0 eth1 --frames 8000 "
                                   "--lanes 2 --lossy 1")
        for _ in range(STOPS):
            self.vm.cmd("stop")
            self.vm.cmd("cont")
            time.sleep(0.2)
        status, said = self.console.finish(start)
        self.assertEqual(status, 0, said)
        self.exchange.note(said, 2)
        self.exchange.check_counters()
        self.console.end()
