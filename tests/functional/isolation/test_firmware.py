# SPDX-License-Identifier: GPL-2.0-or-later
"""Firmware with drivers of its own boots from the isolated disk."""

from __future__ import annotations

import shutil
from pathlib import Path

from harness import GuestVm, guest, on_both_threads
import firmware

OVMF = Path("usr/share/OVMF")
READ_BYTES = 40 << 20


@on_both_threads
class Firmware:
    """SeaBIOS and OVMF, the latter with its modern and its 0.9 driver."""

    def boot(self, vm: GuestVm, disk: Path, props: str) -> None:
        backend = self.start_backend(disk)
        self.add_disk(vm, backend.socket, props=",bootindex=0" + props)
        vm.launch()
        vm.wait_serial("^BOOT from the disk", 90)
        found = vm.wait_serial(r"^RESULT (.*?)\r?\n", 60)
        self.assertEqual(found.group(1), "ok")

    def add_ovmf(self, vm: GuestVm) -> None:
        code = guest.ROOT / OVMF / "OVMF_CODE_4M.fd"
        variables = self.work / "vars.fd"
        shutil.copyfile(guest.ROOT / OVMF / "OVMF_VARS_4M.fd", variables)
        vm.add_args(
            "-drive", f"if=pflash,format=raw,readonly=on,file={code}",
            "-drive", f"if=pflash,format=raw,file={variables}")

    def boot_ovmf(self, props: str) -> None:
        disk = self.work / "efi.img"
        firmware.make_efi_disk(disk, self.work, READ_BYTES)
        self.addCleanup(disk.unlink, missing_ok=True)
        vm = self.make_vm()
        self.add_ovmf(vm)
        self.boot(vm, disk, props)

    def test_seabios(self) -> None:
        disk = self.work / "bios.img"
        firmware.make_bios_disk(disk, self.work)
        self.boot(self.make_vm(), disk, "")

    def test_seabios_modern(self) -> None:
        disk = self.work / "bios.img"
        firmware.make_bios_disk(disk, self.work)
        self.boot(self.make_vm(), disk, ",disable-legacy=on")

    def test_ovmf_modern_reads_much_in_one_descriptor(self) -> None:
        self.boot_ovmf(",disable-legacy=on")

    def test_ovmf_with_its_0_9_driver(self) -> None:
        self.boot_ovmf("")
