# SPDX-License-Identifier: GPL-2.0-or-later
"""Shadow virtqueues of vhost-vdpa: frames on any ring, byte for byte."""

from __future__ import annotations

from vdpa import Rings, VdpaTest

BEST = Rings(packed=True, event_idx=True, indirect=True)
PLAIN = Rings(packed=False, event_idx=False, indirect=False)
SPLIT = Rings(packed=False, event_idx=True, indirect=True)
FRAMES = 300


class Vdpa(VdpaTest):
    """The guest's rings and the device's are independent.

    With Linux's driver inside, which takes minutes.
    """

    group = "vdpa"

    def test_migration_shadows_queues_and_its_end_passes_them_through(
            self) -> None:
        """The same device has the guest's rings, QEMU's, and so on."""
        rings = self.run_frames(BEST, SPLIT, size=1024, frames=FRAMES,
                                phases=("begin", *("shadow", "through") * 2))
        self.assertEqual(len(rings), 20)
        # The guest's goes on behind what was used, and nothing else.
        ring = SPLIT.log_line(1024).removesuffix("base 0")
        for i, where in enumerate(("0", f"{2 * FRAMES:#x}",
                                   f"{4 * FRAMES:#x}")):
            self.assertEqual(rings[8 * i:][:4], [f"{ring}base {where}"] * 4)
        for i in (4, 12):
            self.assertEqual(rings[i:][:4], [BEST.log_line(1024)] * 4)

    def test_device_has_packed_rings_and_guest_has_not(self) -> None:
        # Vhost takes powers of two only, also where the device does not.
        rings = self.run_frames(BEST, SPLIT, netdev=",x-svq=on", size=300)
        self.assertEqual(rings, [BEST.log_line()] * 4)

    def test_guest_has_packed_rings_and_device_has_not(self) -> None:
        """All that was popped when the VM stopped is there when it goes on."""
        rings = self.run_frames(PLAIN, BEST, netdev=",x-svq=on", size=1024,
                                frames=FRAMES, phases=("begin", "paused"))
        self.assertEqual(rings, [PLAIN.log_line(1024)] * 8)

    def test_packed_rings_that_cannot_be_suspended_are_not_migrated(
            self) -> None:
        """They stay the guest's, and do not even stop."""
        rings = self.run_frames(BEST, BEST, size=1024, frames=FRAMES,
                                phases=("begin", "refused"))
        self.assertEqual(rings, [BEST.log_line(1024)] * 4)

    def test_device_that_refused_to_start_starts_later(self) -> None:
        """The driver has noticed nothing; QEMU took the frames till then."""
        rings = self.run_frames(BEST, SPLIT, netdev=",x-svq=on", frames=FRAMES,
                                phases=("linked",), refusals=1)
        self.assertEqual(rings, [BEST.log_line()] * 4)
