# SPDX-License-Identifier: GPL-2.0-or-later
"""Every cell of the matrix, with memory isolation and without."""

from __future__ import annotations

import matrix
from device_case import DeviceCase


class On(DeviceCase):
    """Memory isolation, private guest RAM."""

    side = "on"
    group = "devices"


class Off(DeviceCase):
    """The property off, guest RAM shared."""

    side = "off"
    group = "devices"


class OffAgain(DeviceCase):
    """The same for devices that another cell has tried that way."""

    side = "off"
    group = "devices-off"


def _add(side: type, cell: matrix.Cell) -> None:
    def test(self: DeviceCase) -> None:
        self.run_workload(cell)
    test.__doc__ = f"{cell.name}: {cell.row.does}"
    setattr(side, cell.method, test)


for _cell in matrix.cells():
    _add(On, _cell)
    _add(Off if _cell.first else OffAgain, _cell)
# So that this file names no test of its own.
del DeviceCase
