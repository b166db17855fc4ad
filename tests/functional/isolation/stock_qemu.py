# SPDX-License-Identifier: GPL-2.0-or-later
"""Debian's own QEMU, unpacked: what nobody here has changed."""

from __future__ import annotations

from pathlib import Path

from harness import GuestVm, debian, guest

ROOT = guest.OUT / "stock"
PACKAGES = ["qemu-system-x86", "qemu-system-common", "qemu-system-data",
            "seabios"]


def fetch() -> None:
    guest.unpack(PACKAGES, ROOT)


class StockVm(GuestVm):
    """A GuestVm that runs with Debian's QEMU."""

    def __init__(self, work: Path, name: str = "vm") -> None:
        super().__init__(work, name)
        fetch()
        libraries = f"{ROOT}/usr/lib/x86_64-linux-gnu"
        # The loader's path is for QEMU alone, so it is on its command line.
        self._wrapper = ["env", f"LD_LIBRARY_PATH={debian.library_path(ROOT)}",
                         f"QEMU_MODULE_DIR={libraries}/qemu"]
        self._binary = str(ROOT / "usr/bin/qemu-system-x86_64")
        for folder in ("qemu", "seabios"):
            self.add_args("-L", str(ROOT / "usr/share" / folder))
