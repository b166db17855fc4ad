# SPDX-License-Identifier: GPL-2.0-or-later
"""Shadow virtqueues of vhost-vdpa: frames on any ring, byte for byte."""

from __future__ import annotations

from vdpa import Rings, VdpaTest

BEST = Rings(packed=True, event_idx=True, indirect=True)
PLAIN = Rings(packed=False, event_idx=False, indirect=False)
SPLIT = Rings(packed=False, event_idx=True, indirect=True)
FRAMES = 300


class Vdpa(VdpaTest):
    """The guest's rings and the device's are independent."""

    def test_device_has_packed_rings_and_guest_has_not(self) -> None:
        rings = self.run_frames(BEST, SPLIT, netdev=",x-svq=on")
        self.assertEqual(rings, [BEST.log_line()] * 4)

    def test_guest_has_packed_rings_and_device_has_not(self) -> None:
        rings = self.run_frames(PLAIN, BEST, netdev=",x-svq=on")
        self.assertEqual(rings, [PLAIN.log_line()] * 4)

    def test_migration_shadows_queues_and_its_end_passes_them_through(
            self) -> None:
        """The same device has the guest's rings, QEMU's, and the guest's."""
        rings = self.run_frames(BEST, SPLIT, size=1024, frames=FRAMES,
                                phases=("begin", "shadow", "through"))
        self.assertEqual(len(rings), 12)
        self.assertEqual(rings[:4], [SPLIT.log_line(1024)] * 4)
        self.assertEqual(rings[4:8], [BEST.log_line(1024)] * 4)
        # Not new any more: it goes on behind what was used, and nothing else.
        ring = SPLIT.log_line(1024).removesuffix("base 0")
        self.assertEqual(rings[8:], [f"{ring}base {2 * FRAMES:#x}"] * 4)
