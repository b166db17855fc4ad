# SPDX-License-Identifier: GPL-2.0-or-later
"""Workloads for disks: see matrix.py."""

from __future__ import annotations

import hashlib
import os
import re
import subprocess
from pathlib import Path

from device_case import DeviceCase
from harness import QEMU_BUILD, HarnessError
from matrix import Cell

CONTRIB = QEMU_BUILD / "contrib/vhost-user-blk/vhost-user-blk"
MEGABYTES = 24

# What the whole disk holds in the end is compared with the image.
SCRIPT = """
set -ex
disk=/sys/block/vda
[ $(ls $disk/mq | wc -l) = {queues} ]
# The guest flushes only what it knows to be cached.
echo "write back" > $disk/cache_type
grep "write back" $disk/cache_type
load stress /dev/vda --seconds 1 --depth 16 --max-request 128K --segments 60 \\
    --generation 7
load verify /dev/vda --generation 7
[ {empties} = 0 ] || {{
    [ $(cat $disk/queue/discard_max_bytes) -gt 0 ]
    [ $(cat $disk/queue/write_zeroes_max_bytes) -gt 0 ]
    blk-ops /dev/vda --seed {seed}
}}
/usr/sbin/mke2fs -q -t ext4 /dev/vda 2>/tmp/log || {{ cat /tmp/log; exit 1; }}
mount -t ext4 /dev/vda /mnt
file-ops /mnt/one --seed {seed} &
file-ops /mnt/two --seed 2 --ops 300
wait $!
tree-ops make /mnt --files 60
tree-ops change /mnt --files 60
sum=$(sha256sum < /mnt/one)
umount /mnt
/usr/sbin/e2fsck -f -n /dev/vda > /tmp/log || {{ cat /tmp/log; exit 1; }}
echo 3 > /proc/sys/vm/drop_caches
mount -t ext4 -o ro /dev/vda /mnt
[ "$sum" = "$(sha256sum < /mnt/one)" ]
tree-ops check /mnt --files 60 --stage 1
umount /mnt
# Field 16: flushes that the disk has done.
[ $(awk '{{ print $16 }}' $disk/stat) -gt 0 ]
echo 3 > /proc/sys/vm/drop_caches
echo DISK $(sha256sum < /dev/vda)
"""


def _run(run: DeviceCase, cell: Cell, path: Path, image: Path,
         empties: bool) -> None:
    vm = run.make_cell_vm(cell)
    vm.add_args("-chardev", f"socket,id=char0,path={path}")
    switches = "" if empties else ",discard=off,write-zeroes=off"
    vm.add_args("-device", "vhost-user-blk-pci,id=disk0,chardev=char0,"
                f"num-queues={cell.queues}{switches}" +
                run.device_props(vm, cell))
    run.run_cell(vm, cell, SCRIPT.format(
        queues=cell.queues, seed=cell.queues + len(cell.row.key),
        empties=int(empties)), seconds=150)
    said = re.search(r"^DISK (\w+)", vm.serial_text(), re.MULTILINE)
    assert said, "the guest did not say what its disk holds"
    with image.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    run.assertEqual(said.group(1), digest, "disk and image differ")


def storage_daemon(run: DeviceCase, cell: Cell) -> None:
    image = run.make_disk(f"{MEGABYTES}M")
    backend = run.start_backend(image, queues=cell.queues, discard=True,
                                **cell.row.options)
    _run(run, cell, backend.socket, image, True)


def _loop_device(run: DeviceCase, image: Path) -> Path | None:
    """contrib/vhost-user-blk discards on block devices only."""
    if os.geteuid() != 0:
        return None
    done = subprocess.run(["losetup", "--find", "--show", str(image)],
                          capture_output=True, text=True, check=False)
    if done.returncode:
        return None
    path = done.stdout.strip()
    run.addCleanup(subprocess.run, ["losetup", "--detach", path], check=False)
    return Path(path)


def contrib(run: DeviceCase, cell: Cell) -> None:
    if not CONTRIB.exists():
        raise HarnessError(f"{CONTRIB} was not built")
    image = run.make_disk(f"{MEGABYTES}M")
    device = _loop_device(run, image)
    backend = run.start_program([str(CONTRIB), "--socket-path={socket}",
                                 f"--blk-file={device or image}"])
    _run(run, cell, backend.socket, image, device is not None)
    if device:
        print("with discard and write-zeroes, on a loop device")
