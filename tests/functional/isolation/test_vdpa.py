# SPDX-License-Identifier: GPL-2.0-or-later
"""Shadow virtqueues of vhost-vdpa: frames on any ring, byte for byte."""

from __future__ import annotations

from vdpa import Rings, VdpaTest

BEST = Rings(packed=True, event_idx=True, indirect=True)
PLAIN = Rings(packed=False, event_idx=False, indirect=False)
SPLIT = Rings(packed=False, event_idx=True, indirect=True)


class Vdpa(VdpaTest):
    """The guest's rings and the device's are independent."""

    def test_device_has_packed_rings_and_guest_has_not(self) -> None:
        self.run_frames(device=BEST, inside=SPLIT)

    def test_guest_has_packed_rings_and_device_has_not(self) -> None:
        self.run_frames(device=PLAIN, inside=BEST)
