#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""A disk that boots a guest which does what its console says.

    make_disk.py IMAGE

Runs on the machine that has the guest's parts: tests/guest.  Partition 3 is for
data; what a line on the console says is done by a shell, and the answer is a
line "SAID NUMBER STATUS".
"""

from __future__ import annotations

import struct
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent / "functional/isolation"))

from harness import guest                               # noqa: E402
import grub                                             # noqa: E402

JOB = """
modprobe virtio_net
modprobe virtiofs
echo JOB ready
while read -r number line; do
    eval "$line" < /dev/null
    status=$?
    # At the beginning of a line, whatever was said.
    echo
    echo SAID $number $status
done
"""
DATA_MEGABYTES = 32
ALIGN = 1 << 20


def add_partition(image: Path) -> None:
    """The third one, behind the others."""
    first = (image.stat().st_size + ALIGN - 1) // ALIGN * ALIGN
    size = DATA_MEGABYTES << 20
    with image.open("r+b") as disk:
        disk.truncate(first + size)
        disk.seek(446 + 2 * 16)
        disk.write(struct.pack("<B3sB3sII", 0, b"\xfe\xff\xff", 0x83,
                               b"\xfe\xff\xff", first // grub.SECTOR,
                               size // grub.SECTOR))


def main() -> int:
    image = Path(sys.argv[1])
    work = image.parent
    work.mkdir(parents=True, exist_ok=True)
    guest.build()
    initramfs = work / "initramfs"
    guest.job_initramfs(initramfs, JOB)
    grub.make_disk(image, work, guest.KERNEL, initramfs)
    initramfs.unlink()
    add_partition(image)
    return 0


if __name__ == "__main__":
    sys.exit(main())
