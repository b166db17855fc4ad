#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""Fetches what tests need of Debian's archive, before their time runs.

A test fetches what it misses by itself.  But its time is limited, others wait
for the same lock meanwhile, and one that is killed leaves half a package.  So
scripts/check does it first, beside tests that need none of it, and tries again
where the archive does not answer.  What cannot be had is for the tests to say.
"""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path
from typing import Callable

TOP = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(TOP / "tests/functional/isolation"))

import matrix                                           # noqa: E402
import net_ovs                                          # noqa: E402
import net_testpmd                                      # noqa: E402
import scsi_contrib                                     # noqa: E402
import test_uboot                                       # noqa: E402
import vdpa_inside                                      # noqa: E402
from harness import guest                               # noqa: E402

TRIES = 3


def iproute2() -> None:
    """What test_vdpa.py has in its outer guest."""
    guest.unpack(["iproute2"], guest.ROOT)


def cbmc() -> None:
    subprocess.run([str(TOP / "scripts/lib/cbmc.sh")], check=True,
                   stdout=subprocess.DEVNULL)


def steps() -> list[tuple[str, Callable[[], object]]]:
    """Name and function of each thing to fetch."""
    kernels = sorted({cell.kernel for cell in matrix.cells()})
    return [
        ("the guest", guest.build),
        *((f"kernel {k}", lambda k=k: guest.kernel(k)) for k in kernels),
        ("Linux's source", guest.kernel_source),
        *((p, lambda p=p: guest.program(p)) for p in guest.RELEASE_PROGRAMS),
        ("testpmd", net_testpmd.fetch),
        ("tgt", scsi_contrib.fetch),
        ("Open vSwitch", net_ovs.fetch),
        ("U-Boot", lambda: guest.unpack(["u-boot-qemu"], test_uboot.ROOT)),
        ("iproute2", iproute2),
        ("ethtool", vdpa_inside.fetch),
        ("CBMC", cbmc),
    ]


def main() -> int:
    for name, fetch in steps():
        for left in reversed(range(TRIES)):
            begin = time.monotonic()
            try:
                fetch()
                print(f"{name}: {time.monotonic() - begin:.1f} s", flush=True)
                break
            except Exception as err:    # the tests will say it
                print(f"{name}: {err}", flush=True)
                if left:
                    time.sleep(10)
    return 0


if __name__ == "__main__":
    sys.exit(main())
