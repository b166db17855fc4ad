# SPDX-License-Identifier: GPL-2.0-or-later
"""Disks that firmware boots from: a BIOS boot sector, an EFI program.

The EFI program lies in a FAT16 file system that starts at the disk's first
sector; behind it lies the area that the program reads in one call.
"""

from __future__ import annotations

import struct
import subprocess
from array import array
from pathlib import Path
from random import Random

HERE = Path(__file__).resolve().parent
SECTOR = 512

BIOS_SECTORS = 64 * 128          # what bootsector.S reads
AREA_LBA = 65536                 # what efi-read.c reads starts here

_CLUSTER = 2048
_RESERVED, _FAT_SECTORS, _ROOT_ENTRIES = 4, 64, 512
_DIRECTORY = 0x10


def _run(*args: str) -> None:
    subprocess.run(args, check=True)


def build_boot_sector(work: Path) -> bytes:
    obj, out = work / "bootsector.o", work / "bootsector.bin"
    _run("gcc", "-m32", "-c", "-o", str(obj), str(HERE / "bootsector.S"))
    _run("ld", "-m", "elf_i386", "-Ttext", "0x7c00", "--oformat", "binary",
         "-o", str(out), str(obj))
    return out.read_bytes()[:SECTOR]


def build_efi_program(work: Path) -> bytes:
    obj, out = work / "efi-read.o", work / "bootx64.efi"
    _run("gcc", "-O2", "-Wall", "-Wextra", "-Werror", "-ffreestanding",
         "-fpic", "-fno-stack-protector", "-mno-red-zone", "-fshort-wchar",
         "-fno-asynchronous-unwind-tables", "-fcf-protection=none",
         "-fno-ident",
         "-c", "-o", str(obj), str(HERE / "efi-read.c"))
    _run("ld", "-m", "i386pep", "--subsystem", "10", "-e", "efi_main",
         "--image-base", "0", "-o", str(out), str(obj))
    return out.read_bytes()


def random_bytes(size: int, seed: int) -> bytes:
    return Random(seed).randbytes(size)


def make_bios_disk(path: Path, work: Path) -> None:
    data = random_bytes(BIOS_SECTORS * SECTOR, 1)
    words = array("I")
    words.frombytes(data)
    boot = bytearray(build_boot_sector(work))
    boot[4:8] = struct.pack("<I", sum(words) & 0xffffffff)
    with path.open("wb") as disk:
        disk.write(boot + data)
        disk.truncate(16 << 20)


def _boot_record() -> bytes:
    record = bytearray(SECTOR)
    record[0:3] = b"\xeb\x3c\x90"
    record[3:11] = b"ISOLATED"
    struct.pack_into("<HBHBHHBHHHII", record, 11, SECTOR, _CLUSTER // SECTOR,
                     _RESERVED, 2, _ROOT_ENTRIES, AREA_LBA - 2, 0xf8,
                     _FAT_SECTORS, 63, 255, 0, 0)
    record[36:62] = struct.pack("<BBBI", 0x80, 0, 0x29, 1) + \
        b"ISOLATED   " + b"FAT16   "
    record[510:512] = b"\x55\xaa"
    return bytes(record)


def _entry(name: str, attributes: int, cluster: int, size: int) -> bytes:
    stem, _, ext = name.partition(".")
    if name in (".", ".."):
        stem, ext = name, ""
    return struct.pack("<8s3sB14xHI", stem.ljust(8).encode(),
                       ext.ljust(3).encode(), attributes, cluster, size)


def fat16(program: bytes) -> bytes:
    """A file system that holds /EFI/BOOT/BOOTX64.EFI and nothing else."""
    count = -(-len(program) // _CLUSTER)
    chain = [0xfff8, 0xffff, 0xffff, 0xffff]        # two of two directories
    chain += [n + 5 for n in range(count - 1)] + [0xffff]
    fat = array("H", chain).tobytes().ljust(_FAT_SECTORS * SECTOR, b"\0")
    root = _entry("EFI", _DIRECTORY, 2, 0)
    efi = (_entry(".", _DIRECTORY, 2, 0) + _entry("..", _DIRECTORY, 0, 0) +
           _entry("BOOT", _DIRECTORY, 3, 0))
    boot = (_entry(".", _DIRECTORY, 3, 0) + _entry("..", _DIRECTORY, 2, 0) +
            _entry("BOOTX64.EFI", 0x20, 4, len(program)))
    return (_boot_record().ljust(_RESERVED * SECTOR, b"\0") + fat + fat +
            root.ljust(_ROOT_ENTRIES * 32, b"\0") +
            efi.ljust(_CLUSTER, b"\0") + boot.ljust(_CLUSTER, b"\0") +
            program)


def make_efi_disk(path: Path, work: Path, area_bytes: int) -> None:
    data = random_bytes(area_bytes, 2)
    words = array("Q")
    words.frombytes(data)
    head = struct.pack("<QQ", sum(words) & (2 ** 64 - 1), area_bytes)
    with path.open("wb") as disk:
        disk.write(fat16(build_efi_program(work)))
        disk.seek((AREA_LBA - 1) * SECTOR)
        disk.write(head.ljust(SECTOR, b"\0") + data)
