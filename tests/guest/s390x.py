# SPDX-License-Identifier: GPL-2.0-or-later
"""Debian's Linux for s390x as a guest: big-endian, with channel I/O.

There is busybox and nothing else in it, since nothing is compiled for it.
"""

from __future__ import annotations

import fcntl
import shutil
from pathlib import Path

import build
import kernels
from cpio import CpioWriter
from suites import Suite, machine_suite

OUT = build.OUT / "s390x"
KERNEL = OUT / "vmlinuz"
BASE = OUT / "base.cpio"


def _build() -> None:
    suite = Suite(machine_suite(), OUT, "s390x")
    package = suite.unpack_metapackage("linux-image-s390x")
    suite.unpack(["busybox-static"])
    release = package.removeprefix("linux-image-")
    busybox = next(path for path in (suite.root / "usr/bin/busybox",
                                     suite.root / "bin/busybox")
                   if path.exists())
    new = BASE.with_suffix(".new")
    with new.open("wb") as out:
        cpio = CpioWriter(out)
        cpio.file("bin/busybox", busybox)
        cpio.symlink("bin/sh", "busybox")
        cpio.data("init", (build.HERE / "init").read_bytes(), 0o755)
        cpio.device("dev/console", 5, 1)
        folder = kernels.modules_folder(suite.root, release)
        kernels.add_modules(cpio, folder)
        cpio.close()
    shutil.copyfile(suite.root / f"boot/vmlinuz-{release}", KERNEL)
    # Hundreds of megabytes, and nobody needs them again.
    shutil.rmtree(folder)
    new.rename(BASE)


def prepare() -> None:
    """Make KERNEL and BASE if they are missing; one process at a time."""
    OUT.mkdir(parents=True, exist_ok=True)
    with (OUT / ".lock").open("w", encoding="ascii") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not BASE.exists():
            suite = Suite(machine_suite(), OUT, "s390x")
            suite.with_lists(_build)
