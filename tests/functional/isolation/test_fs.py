# SPDX-License-Identifier: GPL-2.0-or-later
"""An isolated file system while the VM changes state."""

from __future__ import annotations

import random
import time

from harness import GuestVm, isolation_args, on_both_threads
import fs_load

# Until the host says a line; everything is verified, then again from nothing.
LOAD = """
set -e
modprobe virtiofs
mount -t virtiofs share /mnt
rm -rf /mnt/tree /mnt/one
mkdir /mnt/tree
tree-ops make /mnt/tree --files 150 --xattrs {xattrs}
(round=0
while [ ! -e /tmp/end ]; do
    file-ops /mnt/one --ops 60 --seed $round || exit 1
    tree-ops many /mnt --files 60 || exit 1
    round=$((round + 1))
    echo "LOAD progress $round"
done) &
load=$!
read word
touch /tmp/end
wait $load
umount /mnt
mount -t virtiofs share /mnt
tree-ops check /mnt/tree --files 150 --xattrs {xattrs}
umount /mnt
"""


@on_both_threads
class FileSystem:
    """virtiofsd of Debian 13."""

    megabytes = 256
    limit = 240

    def start(self, reboots: bool = False) -> GuestVm:
        self.share, self.xattrs = fs_load.make_share(self)
        backend = fs_load.start_rust(self, self.share, self.xattrs)
        vm = self.make_vm()
        vm.add_args("-smp", "2", "-chardev",
                    f"socket,id=char0,path={backend.socket}", "-device",
                    "vhost-user-fs-pci,id=fs0,chardev=char0,tag=share" +
                    isolation_args(vm, self.iothread, self.isolated))
        vm.add_job(LOAD.format(xattrs=int(self.xattrs)), reboots=reboots)
        vm.launch()
        return vm

    def finish(self, vm: GuestVm) -> None:
        vm.say("end")
        self.expect_ok(vm)
        fs_load.tree("check", self.share / "tree", self.xattrs)

    def test_stop_and_cont_under_load(self) -> None:
        vm = self.start()
        vm.wait_serial("^LOAD progress")
        dice = random.Random(1)
        for _ in range(60):
            vm.cmd("stop")
            time.sleep(dice.uniform(0, 0.02))
            vm.cmd("cont")
            time.sleep(dice.uniform(0, 0.08))
        self.expect_progress(vm)
        self.finish(vm)

    def test_guest_reset_under_load(self) -> None:
        vm = self.start(reboots=True)
        for round_ in range(3):
            so_far = len(vm.serial_text())
            vm.wait_serial("^LOAD progress", 60, so_far)
            time.sleep(0.1 * round_)
            vm.cmd("system_reset")
        so_far = len(vm.serial_text())
        vm.wait_serial("^LOAD progress", 60, so_far)
        self.finish(vm)
