# SPDX-License-Identifier: GPL-2.0-or-later
"""GRUB reads Linux from the isolated disk and boots it.

GRUB has no driver of its own: it reads through the firmware's, in other
portions than a boot sector or an EFI program of ours.
"""

from __future__ import annotations

import shutil

from harness import GuestVm, IsolationTest, guest
from test_firmware import OVMF
import grub

# Linux has come up from the disk: does it hold what GRUB read?
JOB = """
set -ex
mkdir -p /tmp/disk
mount -t ext2 -o ro /dev/vda2 /tmp/disk
cd /tmp/disk
sed 's,  /,  ,' sums | sha256sum -c
"""


class Grub(IsolationTest):
    """Under SeaBIOS and under OVMF."""

    def make_boot_vm(self, props: str) -> GuestVm:
        disk, initramfs = self.work / "grub.img", self.work / "initramfs"
        guest.job_initramfs(initramfs, JOB)
        grub.make_disk(disk, self.work, guest.KERNEL, initramfs)
        initramfs.unlink()
        self.addCleanup(disk.unlink, missing_ok=True)
        vm = self.make_vm()
        vm.add_args("-no-reboot")
        self.add_disk(vm, self.start_backend(disk).socket,
                      props=",bootindex=0" + props)
        return vm

    def expect_boot(self, vm: GuestVm) -> None:
        vm.launch()
        vm.wait_serial("BOOT from the disk", 90)
        vm.wait_serial("GRUB read what is there|RESULT fail", 90)
        self.expect_ok(vm)
        self.assertIn("GRUB read what is there", vm.serial_text())

    def test_seabios_grub_linux(self) -> None:
        self.expect_boot(self.make_boot_vm(""))

    def test_ovmf_grub_linux_with_an_iothread(self) -> None:
        self.iothread = True
        vm = self.make_boot_vm(",disable-legacy=on")
        variables = self.work / "vars.fd"
        shutil.copyfile(guest.ROOT / OVMF / "OVMF_VARS_4M.fd", variables)
        vm.add_args(
            "-drive", "if=pflash,format=raw,readonly=on,file="
            f"{guest.ROOT / OVMF / 'OVMF_CODE_4M.fd'}",
            "-drive", f"if=pflash,format=raw,file={variables}")
        self.expect_boot(vm)
