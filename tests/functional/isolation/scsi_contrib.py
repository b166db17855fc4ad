# SPDX-License-Identifier: GPL-2.0-or-later
"""QEMU's contrib/vhost-user-scsi on a disk of Debian's iSCSI target.

The program needs libiscsi, which QEMU is not built with here: it is compiled
on its own, from QEMU's source.  Packages are unpacked, not installed.
"""

from __future__ import annotations

import os
import socket
import subprocess
from pathlib import Path

import debian
import small_load
from device_case import DeviceCase
from harness import (BUILD, QEMU_BUILD, QEMU_SOURCE, Program, guest,
                     socket_folder)
from matrix import Cell

TREE = guest.OUT / "iscsi"
ROOT = TREE / "root"
PACKAGES = ["tgt", "libiscsi-dev"]
PROGRAM = small_load.BACKENDS / "vhost-user-scsi"
TARGET = "iqn.2026-01.test:disk"

# The program answers for each target there could be: look at one.
SCAN = """modprobe scsi_mod scan=manual
modprobe virtio_scsi
echo 0 0 0 > /sys/class/scsi_host/host0/scan"""


def fetch() -> None:
    """Unpack tgt and libiscsi, if they are not there yet."""
    guest.unpack(PACKAGES, ROOT)


def _build() -> None:
    source = QEMU_SOURCE
    headers = [QEMU_BUILD, source, source / "include",
               source / "host/include/generic"]
    glib = subprocess.run(["pkg-config", "--cflags", "--libs", "glib-2.0"],
                          capture_output=True, text=True,
                          check=True).stdout.split()
    small_load.compile_program(
        PROGRAM, [source / "contrib/vhost-user-scsi/vhost-user-scsi.c",
                  small_load.SOURCES / "scsi-unit.c"],
        ["-Wl,--wrap=iscsi_scsi_command_sync",
         "-D_GNU_SOURCE", "-fno-strict-aliasing",
         "-isystem", str(source / "linux-headers"),
         *(w for h in headers for w in ("-iquote", str(h))),
         "-I", str(small_load.LIBVHOST_USER), "-I", str(ROOT / "usr/include"),
         "-L", str(ROOT / "usr/lib/x86_64-linux-gnu"), "-liscsi",
         # What that library needs is found when the program starts.
         "-Wl,--allow-shlib-undefined", *glib],
        [small_load.LIBRARY.with_name("libvhost-user-glib.a"),
         small_load.LIBRARY])


def _environment() -> dict[str, str]:
    return {"LD_LIBRARY_PATH": debian.library_path(ROOT)}


class Target(Program):
    """Debian's tgtd with one disk, on the loopback interface."""

    def __init__(self, work: Path) -> None:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        # Its control socket: it appends ".0".
        control = socket_folder(work) / "target"
        super().__init__(
            work, [str(ROOT / "usr/sbin/tgtd"), "--foreground", "--iscsi",
                   f"portal=127.0.0.1:{self.port}"], "target",
            {**_environment(), "TGT_IPC_SOCKET": str(control)})
        self.socket = Path(f"{control}.0")

    def stop(self) -> None:
        # With a session it does not end when it is asked to.
        self.kill()

    def control(self, *words: str) -> None:
        subprocess.run([str(ROOT / "usr/sbin/tgtadm"), "--lld", "iscsi",
                        *words], env={**os.environ, **self._env}, check=True,
                       timeout=20)

    def add_disk(self, image: Path) -> None:
        self.control("--op", "new", "--mode", "target", "--tid", "1",
                     "--targetname", TARGET)
        self.control("--op", "new", "--mode", "logicalunit", "--tid", "1",
                     "--lun", "1", "--backing-store", str(image))
        self.control("--op", "bind", "--mode", "target", "--tid", "1",
                     "--initiator-address", "127.0.0.1")


def contrib(run: DeviceCase, cell: Cell) -> None:
    fetch()
    _build()
    image = run.make_disk(f"{small_load.MEGABYTES}M")
    target = Target(run.work)
    run.addCleanup(target.stop)
    target.start().add_disk(image)
    backend = run.start_program(
        [str(PROGRAM), "--socket-path={socket}",
         f"--iscsi-uri=iscsi://127.0.0.1:{target.port}/{TARGET}/1"],
        env=_environment())
    small_load.check_disk(run, cell, backend, image, "VIRTUAL-DISK", SCAN,
                          # Or SeaBIOS looks at 256 disks.
                          ["-boot", "strict=on"])
