# SPDX-License-Identifier: GPL-2.0-or-later
"""U-Boot with virtio drivers of its own, on a PC and on an Arm machine.

Its drivers share nothing with Linux's, SeaBIOS's or OVMF's: one request at a
time, polled, on split rings of a few descriptors, of virtio 1.0 and of 0.9.
"""

from __future__ import annotations

import random
import zlib
from dataclasses import dataclass

from harness import QEMU_BUILD, GuestVm, HarnessError, guest, on_both_threads

ROOT = guest.OUT / "u-boot/root"
SECTORS = 0x2000
COPY_AT = 0x8000
MEGABYTES = 24


@dataclass(frozen=True)
class Machine:
    """Which QEMU, with which U-Boot, and where there is RAM."""

    qemu: str
    machine: str
    firmware: str
    address: int
    more: tuple[str, ...] = ()


PC = Machine("qemu-system-x86_64", "pc,accel=tcg", "qemu-x86/u-boot.rom",
             0x1000000)
ARM = Machine("qemu-system-arm", "virt,accel=tcg,highmem=off",
              "qemu_arm/u-boot.bin", 0x41000000, ("-cpu", "cortex-a15"))


@on_both_threads
class UBoot:
    """It reads a part of the disk, sums it up, and writes a copy."""

    megabytes = 256

    def start(self, machine: Machine, props: str) -> GuestVm:
        guest.unpack(["u-boot-qemu"], ROOT)
        self.image = self.make_disk(f"{MEGABYTES}M")
        self.content = random.Random(3).randbytes(SECTORS * 512)
        with self.image.open("r+b") as disk:
            disk.write(self.content)
        backend = self.start_backend(self.image)
        vm = self.make_vm()
        # The harness has a PC.
        vm._binary = str(QEMU_BUILD / machine.qemu)
        memory = ",memory-backend=ram" if not self.isolated else ""
        vm.set_machine(machine.machine + memory)
        vm.add_args("-bios", str(ROOT / "usr/lib/u-boot" / machine.firmware),
                    *machine.more)
        self.add_disk(vm, backend.socket, props=props)
        vm.launch()
        vm.wait_serial("Hit any key to stop autoboot", prompt=True)
        vm.say("")
        vm.wait_serial("^=> ", prompt=True)
        return vm

    def ask(self, vm: GuestVm, line: str, answer: str) -> str:
        """The first group of @answer to @line."""
        start = len(vm.serial_text())
        vm.say(line)
        found = vm.wait_serial(f"{answer}|(?:failed|error|Unknown)", 60, start)
        if found.lastindex is None:
            raise HarnessError(vm.serial_text()[start:])
        return found.group(1)

    def use_disk(self, machine: Machine, props: str) -> None:
        vm = self.start(machine, props)
        at = machine.address
        vm.say("virtio scan")
        self.ask(vm, "virtio info", "(VirtIO Block Device)")
        self.ask(vm, f"virtio read {at:x} 0 {SECTORS:x}",
                 rf"{SECTORS} blocks (read): OK")
        said = self.ask(vm, f"crc32 {at:x} {SECTORS * 512:x}",
                        r"==> (\w{8})")
        self.assertEqual(int(said, 16), zlib.crc32(self.content))
        self.ask(vm, f"virtio write {at:x} {COPY_AT:x} {SECTORS:x}",
                 rf"{SECTORS} blocks (written): OK")
        if self.isolated:
            self.assertGreater(vm.isolation_stats()["bytes-in"],
                               SECTORS * 512 - 1)
        with self.image.open("rb") as disk:
            disk.seek(COPY_AT * 512)
            self.assertTrue(disk.read(SECTORS * 512) == self.content,
                            "the copy differs")

    def test_pc_modern(self) -> None:
        self.use_disk(PC, ",disable-legacy=on")

    def test_pc_with_its_0_9_driver(self) -> None:
        self.use_disk(PC, ",disable-modern=on,disable-legacy=off")

    def test_arm_modern(self) -> None:
        self.use_disk(ARM, ",disable-legacy=on")
