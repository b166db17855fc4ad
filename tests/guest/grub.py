# SPDX-License-Identifier: GPL-2.0-or-later
"""A disk that GRUB boots Linux from, under a BIOS and under EFI.

    sector 0        boot.img of GRUB, and the partitions
    sector 1        GRUB's core for a BIOS, in front of the first partition
    partition 1     FAT with GRUB's core for EFI
    partition 2     ext2 with kernel, initramfs, their sums and grub.cfg

GRUB compares what it read with the sums before it starts the kernel.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import struct
from pathlib import Path

import build as guest
import debian
import firmware

SECTOR = 512
FAT_LBA = 2048
FAT_SECTORS = firmware.AREA_LBA
EXT2_LBA = FAT_LBA + FAT_SECTORS
MODULES = ("normal", "part_msdos", "ext2", "fat", "linux", "boot", "serial",
           "terminal", "echo", "test", "hashsum", "gcry_sha256",
           "search_fs_file")

EARLY = """search.file /vmlinuz root
set prefix=($root)/grub
"""
CONFIG = """serial --unit=0 --speed=115200
terminal_output serial
echo BOOT from the disk
if hashsum --hash sha256 --check /sums; then
    echo GRUB read what is there
    linux /vmlinuz console=ttyS0 quiet panic=-1 no_timer_check
    initrd /initrd
    boot
else
    echo RESULT fail GRUB read something else
fi
"""


def _core(work: Path, target: str, *more: str) -> bytes:
    """GRUB's core image for @target with all that it needs inside."""
    out, early = work / f"core-{target}", work / "early.cfg"
    early.write_text(EARLY, "ascii")
    mkimage = guest.program("grub-mkimage")
    modules = guest.release_folder("grub-mkimage") / "usr/lib/grub" / target
    debian.run([*mkimage, "--format", target, "--directory", str(modules),
                "--prefix", "/grub", "--config", str(early), "--output",
                str(out), *MODULES, *more])
    return out.read_bytes()


def _partition(kind: int, first: int, sectors: int) -> bytes:
    """An entry of the partition table; the geometry is nobody's business."""
    return struct.pack("<B3sB3sII", 0, b"\xfe\xff\xff", kind, b"\xfe\xff\xff",
                       first, sectors)


def _boot_sector(sectors: int) -> bytes:
    image = guest.release_folder("grub-mkimage") / \
        "usr/lib/grub/i386-pc/boot.img"
    sector = bytearray(image.read_bytes()[:SECTOR])
    table = (_partition(0xef, FAT_LBA, FAT_SECTORS) +
             _partition(0x83, EXT2_LBA, sectors))
    sector[446:512] = table.ljust(64, b"\0") + b"\x55\xaa"
    return bytes(sector)


def _make_ext2(path: Path, work: Path, kernel: Path, initramfs: Path) -> None:
    tree = work / "boot"
    shutil.rmtree(tree, ignore_errors=True)
    (tree / "grub").mkdir(parents=True)
    shutil.copyfile(kernel, tree / "vmlinuz")
    shutil.copyfile(initramfs, tree / "initrd")
    sums = "".join(f"{hashlib.sha256((tree / n).read_bytes()).hexdigest()}"
                   f"  /{n}\n" for n in ("vmlinuz", "initrd"))
    (tree / "sums").write_text(sums, "ascii")
    (tree / "grub/grub.cfg").write_text(CONFIG, "ascii")
    size = sum(f.stat().st_size for f in tree.iterdir()) * 5 // 4
    os.environ["LD_LIBRARY_PATH"] = debian.library_path(guest.ROOT)
    try:
        debian.run([str(guest.sbin("mke2fs")), "-q", "-t", "ext2", "-b",
                    "4096", "-d", str(tree), str(path), f"{size >> 10}K"])
    finally:
        del os.environ["LD_LIBRARY_PATH"]
    shutil.rmtree(tree)


def make_disk(path: Path, work: Path, kernel: Path, initramfs: Path) -> None:
    """@path becomes a disk that boots @kernel with @initramfs."""
    bios = _core(work, "i386-pc", "biosdisk")
    assert len(bios) <= (FAT_LBA - 1) * SECTOR, "no room for GRUB's core"
    ext2 = work / "ext2.img"
    _make_ext2(ext2, work, kernel, initramfs)
    with path.open("wb") as disk:
        disk.write(_boot_sector(ext2.stat().st_size // SECTOR) + bios)
        disk.seek(FAT_LBA * SECTOR)
        disk.write(firmware.fat16(_core(work, "x86_64-efi")))
        disk.seek(EXT2_LBA * SECTOR)
        disk.write(ext2.read_bytes())
    ext2.unlink()
