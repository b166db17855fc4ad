#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""How the traces in tests/guest/traces were recorded, to do it again.

    record.py debian    Debian boots from its disk to its services and ends
    record.py grub      SeaBIOS, GRUB, and the kernel that GRUB loads
    record.py random    8 KiB, then 4 KiB, then 64 KiB, anywhere on a disk

The first one needs root and mmdebstrap: it installs a Debian into a folder of
build/guest.  Each takes what it needs from Debian's archive.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
TOP = HERE.parent.parent
sys.path.insert(0, str(HERE))

import build as guest                                   # noqa: E402
import debian                                           # noqa: E402
import grub                                             # noqa: E402
import loadvm                                           # noqa: E402
from suites import Suite, machine_suite                 # noqa: E402

WORK = guest.OUT / "record"
QEMU = TOP / "build/qemu/qemu-system-x86_64"
PACKAGES = ("systemd-sysv,udev,dbus,cron,rsyslog,logrotate,openssh-server,"
            "ifupdown,isc-dhcp-client,e2fsprogs,initramfs-tools,"
            "linux-image-cloud-amd64")
DISK_MEGABYTES = 1024
# Ends the machine once everything has started.
END_UNIT = """[Unit]
After=multi-user.target
[Service]
Type=oneshot
ExecStart=/bin/systemctl --no-block poweroff
[Install]
WantedBy=graphical.target multi-user.target
"""


def run(*command: str) -> None:
    subprocess.run(command, check=True)


def record(name: str, disk: Path, remarks: list[str], *qemu_args: str) -> None:
    command = [str(TOP / "scripts/loadvm"), "record"]
    for remark in remarks:
        command += ["--remark", remark]
    run(*command, str(loadvm.TRACES / f"{name}.trace.gz"), "--", str(QEMU),
        "-accel", "tcg", "-nodefaults", "-display", "none", "-no-reboot",
        "-serial", "stdio", "-blockdev",
        f"driver=file,node-name=disk,filename={disk}", "-device",
        "virtio-blk-pci,drive=disk", *qemu_args)


# A Debian

def install(root: Path) -> None:
    suite = Suite(machine_suite(), WORK / "suite")
    sources = WORK / "debian.sources"
    sources.write_text(suite.source_text(), "utf-8")
    shutil.rmtree(root, ignore_errors=True)
    run("mmdebstrap", "--variant=minbase", "--mode=root",
        f"--include={PACKAGES}", suite.name, str(root), str(sources))
    (root / "etc/fstab").write_text("/dev/vda / ext4 defaults 0 1\n", "ascii")
    (root / "etc/hostname").write_text("guest\n", "ascii")
    unit = root / "etc/systemd/system/end.service"
    unit.write_text(END_UNIT, "ascii")
    wants = root / "etc/systemd/system/multi-user.target.wants"
    (wants / "end.service").symlink_to("../end.service")


def make_ext4(disk: Path, root: Path) -> None:
    os.environ["LD_LIBRARY_PATH"] = debian.library_path(guest.ROOT)
    try:
        run(str(guest.sbin("mke2fs")), "-q", "-t", "ext4", "-d", str(root),
            str(disk), f"{DISK_MEGABYTES}M")
    finally:
        del os.environ["LD_LIBRARY_PATH"]


def record_debian() -> None:
    root, disk = WORK / "root", WORK / "debian.img"
    complete = WORK / "root.complete"
    if not complete.exists():
        install(root)
        complete.touch()
    make_ext4(disk, root)
    kernel = sorted((root / "boot").glob("vmlinuz-*"))[-1]
    initrd = sorted((root / "boot").glob("initrd.img-*"))[-1]
    record("debian-boot", disk,
           [f"Debian ({machine_suite()}), {kernel.name[8:]}, boots to its",
            "services and shuts down; ext4 on virtio-blk, 512 MiB of RAM."],
           "-m", "512", "-kernel", str(kernel), "-initrd", str(initrd),
           "-append", "root=/dev/vda console=ttyS0 no_timer_check panic=-1")


# Firmware

def record_grub() -> None:
    disk = WORK / "grub.img"
    initramfs = guest.job_initramfs(WORK / "grub.cpio",
                                    "echo RESULT ok\npoweroff -f\n")
    grub.make_disk(disk, WORK, guest.KERNEL, initramfs)
    record("grub-boot", disk,
           ["SeaBIOS starts GRUB from a disk; GRUB reads kernel and initramfs",
            "from ext2, compares their sums and starts Linux."],
           "-m", "256")


def record_random() -> None:
    disk = WORK / "random.img"
    with disk.open("wb") as image:
        image.truncate(512 << 20)
    jobs = [f"rw=randrw mix={mix} bs={size} depth={depth} requests={count} "
            "seed=7 verify=off" for mix, size, depth, count in (
                (70, "8k", 8, 1500), (90, "4k", 32, 2000), (50, "64k", 4, 300))]
    record("random", disk,
           ["Reads and writes anywhere on 512 MiB: 8 KiB (70 % reads, 8 in",
            "flight), 4 KiB (90 %, 32), 64 KiB (50 %, 4)."],
           "-m", "16", *loadvm.kernel_args(jobs))


RECORDERS = {"debian": record_debian, "grub": record_grub,
             "random": record_random}


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=RECORDERS, nargs="+")
    args = parser.parse_args()
    try:
        guest.build(say=print)
        WORK.mkdir(parents=True, exist_ok=True)
        loadvm.TRACES.mkdir(exist_ok=True)
        for what in args.what:
            RECORDERS[what]()
    except (debian.PackageError, subprocess.CalledProcessError) as err:
        print(f"record: {err}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
