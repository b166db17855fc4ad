# SPDX-License-Identifier: GPL-2.0-or-later
"""Workloads for file systems: see matrix.py."""

from __future__ import annotations

import hashlib
import os
import re
import subprocess
from pathlib import Path

from device_case import DeviceCase
from harness import IsolationTest, Program, guest
from matrix import Cell

TREE_OPS = guest.OUT / "tree-ops"

# "host" comes from the host and is changed by the guest, "guest" is made by
# the guest; both are checked on both sides.
SCRIPT = """
set -ex
modprobe virtiofs
mount -t virtiofs share /mnt
mkdir /mnt/guest
options="--files 150 --xattrs {xattrs}"
tree-ops check /mnt/host $options
tree-ops change /mnt/host $options
tree-ops make /mnt/guest $options
tree-ops change /mnt/guest $options
file-ops /mnt/one --seed {seed} --ops 300
tree-ops many /mnt --files 1500
umount /mnt
echo 3 > /proc/sys/vm/drop_caches
mount -t virtiofs share /mnt
tree-ops check /mnt/host $options --stage 1
tree-ops check /mnt/guest $options --stage 1
echo ONE $(sha256sum < /mnt/one)
umount /mnt
"""


def _has_xattrs(folder: Path) -> bool:
    try:
        os.setxattr(folder, "user.number", b"0")
    except OSError:
        return False
    return True


def tree(what: str, folder: Path, xattrs: bool, stage: int = 0) -> None:
    """tree-ops on the host."""
    done = subprocess.run(
        [str(TREE_OPS), what, str(folder), "--files", "150", "--xattrs",
         str(int(xattrs)), "--stage", str(stage)],
        capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"on the host: {done.stdout}"


def _run(run: DeviceCase, cell: Cell, path: Path, share: Path,
         xattrs: bool) -> None:
    vm = run.make_cell_vm(cell)
    vm.add_args("-chardev", f"socket,id=char0,path={path}", "-device",
                "vhost-user-fs-pci,id=fs0,chardev=char0,tag=share,"
                f"num-request-queues={cell.queues}" +
                run.device_props(vm, cell))
    run.run_cell(vm, cell, SCRIPT.format(seed=len(cell.row.key),
                                         xattrs=int(xattrs)), seconds=200)
    tree("check", share / "host", xattrs, 1)
    tree("check", share / "guest", xattrs, 1)
    said = re.search(r"^ONE (\w+)", vm.serial_text(), re.MULTILINE)
    assert said, "the guest did not say what its file holds"
    with (share / "one").open("rb") as file:
        run.assertEqual(hashlib.file_digest(file, "sha256").hexdigest(),
                        said.group(1))


def make_share(run: IsolationTest) -> tuple[Path, bool]:
    share = run.work / "share"
    (share / "host").mkdir(parents=True)
    run.addCleanup(subprocess.run, ["rm", "-rf", str(share)], check=False)
    xattrs = _has_xattrs(share)
    if not xattrs:
        print("without extended attributes: the host's file system has none")
    tree("make", share / "host", xattrs)
    return share, xattrs


def _own_run_folder(run: DeviceCase) -> list[str]:
    """Words before a command: it gets a /run of its own, and may chroot."""
    inside = ["sh", "-c", 'mount -t tmpfs tmpfs /run && exec "$@"', "sh"]
    why = ""
    # Not root, or root in a container: a user namespace may do.
    for flags in ([], ["--user", "--map-root-user"]):
        words = ["unshare", "--mount", *flags, *inside]
        done = subprocess.run([*words, "true"], capture_output=True,
                              text=True, check=False)
        if done.returncode == 0:
            return words
        why = done.stderr.strip()
    run.need(why)
    return []


def in_c(run: DeviceCase, cell: Cell) -> None:
    """Debian 12's, which leaves a file in /run and has no sandbox "none"."""
    share, xattrs = make_share(run)
    command = [*_own_run_folder(run), *guest.program("virtiofsd-c"),
               "--socket-path={socket}", "-o",
               f"source={share},sandbox=chroot,cache=auto"
               f"{',xattr' if xattrs else ''}"]
    _run(run, cell, run.start_program(command).socket, share, xattrs)


def start_rust(run: IsolationTest, share: Path, xattrs: bool,
               name: str = "backend") -> Program:
    """Debian 13's virtiofsd."""
    sandbox = "chroot" if os.geteuid() == 0 else "none"
    # A file that was deleted a moment ago has no name that could be saved.
    command = [*guest.program("virtiofsd-rust"), "--socket-path={socket}",
               f"--shared-dir={share}", f"--sandbox={sandbox}",
               "--cache=auto", "--migration-on-error=guest-error"]
    if xattrs:
        command.append("--xattr")
    return run.start_program(command, name)


def in_rust(run: DeviceCase, cell: Cell) -> None:
    share, xattrs = make_share(run)
    backend = start_rust(run, share, xattrs)
    _run(run, cell, backend.socket, share, xattrs)
