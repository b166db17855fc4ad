# SPDX-License-Identifier: GPL-2.0-or-later
"""Shadow virtqueues of vhost-vdpa: frames on any ring, byte for byte."""

from __future__ import annotations

from vdpa import Rings, VdpaTest

BEST = Rings(packed=True, event_idx=True, indirect=True)
SPLIT = Rings(packed=False, event_idx=True, indirect=True)
FRAMES = 100


class Vdpa(VdpaTest):
    """The guest's rings and the device's are independent.

    With Linux's driver inside, which takes minutes.
    """

    group = "vdpa"

    def test_migration_shadows_queues_and_its_end_passes_them_through(
            self) -> None:
        """The same device has the guest's rings, QEMU's, and so on.

        It refused to start at first; the driver has not noticed, since QEMU
        took the frames till then.
        """
        rings = self.run_frames(
            BEST, SPLIT, size=1024, frames=FRAMES, refusals=1,
            phases=("linked", "shadow", "through"))
        # The guest's goes on behind what was used, and nothing else.
        guests = SPLIT.log_line(1024)
        self.assertEqual(rings, [
            *[guests] * 4, *[BEST.log_line(1024)] * 4,
            *[guests.replace("base 0", f"base {2 * FRAMES:#x}")] * 4])
