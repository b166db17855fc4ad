#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""The main job, shown: a Linux guest on an isolated vhost-user disk.

Debian's own qemu-storage-daemon exports a qcow2 image.  A guest with plain
private memory makes a file system on it, writes files, mounts it again and
verifies them; the host looks into the image afterwards.  The same is done
with the property off, and what the backend could see is compared.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import re
import shutil
import subprocess
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path

TOP = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(TOP / "tests/functional/isolation"))

import backend_view                                     # noqa: E402
import harness                                          # noqa: E402
from demo_attach import attach, keep_running            # noqa: E402
from harness import Backend, GuestVm, debian, guest     # noqa: E402

WORK = harness.BUILD / "demo"
MEGABYTES = 512
FILES = 4
FILE_SIZE = 6 << 20

# The guest's part.  IO is in hundredths of a second.
JOB = r"""
now() { read up rest < /proc/uptime; echo ${up%.*}${up#*.}; }
write_files() {
    for n in $(seq FILES); do
        yes "file $n of the isolated disk" | head -c FILE_SIZE > /mnt/$n ||
            return 1
    done
}
timed_io() {
    dd if=/dev/zero of=/mnt/io bs=1M count=256 oflag=direct &&
    dd if=/mnt/io of=/dev/null bs=1M iflag=direct &&
    dd if=/mnt/io of=/dev/null bs=4k count=5000 iflag=direct
}
/usr/sbin/mke2fs -q -t ext4 -F /dev/vda && mount -t ext4 /dev/vda /mnt &&
    write_files && umount /mnt && echo STEP written || exit 1
mount -t ext4 /dev/vda /mnt && (cd /mnt && sha256sum -c -s /sums) &&
    echo STEP verified || exit 1
begin=$(now)
timed_io 2> /dev/null || exit 1
echo IO $(($(now) - begin))
rm /mnt/io && umount /mnt || exit 1
echo STEP idle
read go
"""


@dataclass
class Run:
    """What was seen in one run."""

    isolated: bool
    steps: dict[str, float] = field(default_factory=dict)
    guest_mapped: int = 0
    region: int = 0
    region_used: int = 0
    secrets: int = 0
    io_seconds: float = 0.0


class Failed(Exception):
    """A step of the demo did not hold; the text says which."""


class Screen:
    """Colour on a terminal only."""

    def __init__(self) -> None:
        self._colour = sys.stdout.isatty() and "NO_COLOR" not in os.environ

    def paint(self, text: str, code: int) -> str:
        return f"\033[{code}m{text}\033[0m" if self._colour else text

    def step(self, text: str) -> None:
        print(f"  {self.paint('ok', 32)}  {text}", flush=True)

    def fail(self, text: str) -> None:
        print(f"  {self.paint('FAILED', 31)}  {text}", flush=True)

    def row(self, what: str, off: str, on: str, good: bool = True) -> None:
        cell = self.paint(f"{on:<24}", 32 if good else 31)
        print(f"  {what:<38}{off:<24}{cell}".rstrip())


def content(number: int) -> bytes:
    line = f"file {number} of the isolated disk\n".encode()
    return (line * (FILE_SIZE // len(line) + 1))[:FILE_SIZE]


def checksum(number: int) -> str:
    return hashlib.sha256(content(number)).hexdigest()


def make_image(path: Path) -> None:
    subprocess.run([str(harness.QEMU_IMG), "create", "-q", "-f", "qcow2",
                    str(path), "1G"], check=True)


def make_vm(backend: Backend, isolated: bool, iothread: bool,
            name: str) -> GuestVm:
    vm = GuestVm(WORK, name)
    vm.add_memory(MEGABYTES, shared=not isolated)
    vm.add_args("-chardev", f"socket,id=disk,path={backend.socket}",
                "-device", "vhost-user-blk-pci,chardev=disk" +
                harness.isolation_args(vm, iothread, isolated))
    return vm


def job(secret: backend_view.Secret) -> tuple[str, dict[str, Path]]:
    sums = WORK / "sums"
    sums.write_text("".join(f"{checksum(n)}  {n}\n"
                            for n in range(1, FILES + 1)), encoding="ascii")
    script = JOB.replace("FILE_SIZE", str(FILE_SIZE))
    script = script.replace("FILES", str(FILES))
    return secret.shell() + script, {"sums": sums}


def look_at_backend(run: Run, backend: Backend, needle: bytes) -> None:
    """What the backend has of the guest while the guest runs."""
    maps = backend_view.foreign_mappings(backend.pid)
    total = backend_view.mapped_bytes(maps)
    if any("memory-backend" in m.path for m in maps):
        run.guest_mapped = total
    else:
        run.region = total
        run.region_used = backend_view.resident_bytes(backend.pid, maps)
    run.secrets = backend_view.count_secret(backend.pid, needle)


def boot_and_watch(run: Run, vm: GuestVm, backend: Backend) -> None:
    secret = backend_view.Secret()
    vm.add_job(*job(secret))
    begin = time.monotonic()
    vm.launch()
    vm.wait_serial("^GUEST ready")
    run.steps["booted"] = time.monotonic() - begin
    found = vm.wait_serial(r"^(IO (\d+)|RESULT fail.*)\r?\n", 60)
    if not found.group(2):
        raise Failed("the guest: " + "; ".join(
            vm.serial_text().strip().splitlines()[-3:]))
    run.io_seconds = int(found.group(2)) / 100
    vm.wait_serial("^STEP idle")
    look_at_backend(run, backend, secret.needle)
    vm.say("go")
    if vm.wait_result(30) != "ok":
        raise Failed("the guest ended with an error")


def one_run(isolated: bool, iothread: bool, name: str) -> Run:
    image = WORK / f"{name}.qcow2"
    make_image(image)
    backend = Backend(WORK, image, fmt="qcow2", queues=1, name=name)
    run = Run(isolated)
    try:
        backend.start()
        vm = make_vm(backend, isolated, iothread, name)
        try:
            boot_and_watch(run, vm, backend)
        finally:
            vm.end()
    finally:
        backend.stop()
    return run


def check_image(image: Path) -> None:
    """qemu-img finds no fault, and each file in the image is right."""
    done = subprocess.run([str(harness.QEMU_IMG), "check", "-q", str(image)],
                          capture_output=True, text=True, check=False)
    if done.returncode:
        raise Failed(f"qemu-img check: {done.stdout}{done.stderr}".strip())
    raw = image.with_suffix(".raw")
    subprocess.run([str(harness.QEMU_IMG), "convert", "-O", "raw",
                    str(image), str(raw)], check=True)
    env = dict(os.environ, LD_LIBRARY_PATH=debian.library_path(guest.ROOT))
    for number in range(1, FILES + 1):
        out = WORK / "file"
        subprocess.run([str(guest.sbin("debugfs")), "-R",
                        f"dump /{number} {out}", str(raw)], env=env,
                       capture_output=True, check=False)
        if not out.exists() or out.read_bytes() != content(number):
            raise Failed(f"file {number} in the image is not what it must be")
        out.unlink()
    raw.unlink()


def versions() -> str:
    env = dict(os.environ, LD_LIBRARY_PATH=debian.library_path(guest.ROOT))
    text = subprocess.run([str(guest.storage_daemon()), "--version"], env=env,
                          capture_output=True, text=True, check=True).stdout
    found = re.search(r"version (\S+)", text)
    kernel = guest.modules_folder().name
    return (f"Debian's qemu-storage-daemon {found.group(1) if found else '?'},"
            f" Linux {kernel}, {MEGABYTES} MiB of guest memory")


def mib(size: int) -> str:
    return f"{size / (1 << 20):.3g} MiB"


def compare(screen: Screen, off: Run, on: Run) -> bool:
    """The table; whether it shows what it must."""
    maps_ok = on.guest_mapped == 0 and on.region > 0
    screen.row("", "memory-isolation=off", "memory-isolation=on")
    screen.row("guest memory needs", "a shared memfd", "nothing special")
    screen.row("guest memory that the backend has", mib(off.guest_mapped),
               "none" if maps_ok else "?", maps_ok)
    screen.row("other memory of QEMU it has", "none",
               f"{mib(on.region)} ({mib(on.region_used)} used)", maps_ok)
    screen.row("secret of the guest, searched there",
               f"found {off.secrets} times" if off.secrets else "not found",
               f"FOUND {on.secrets} times" if on.secrets else "not found",
               not on.secrets)
    screen.row("256 MiB written, read; 5000 x 4 KiB", f"{off.io_seconds:.2f} s",
               f"{on.io_seconds:.2f} s")
    return maps_ok and not on.secrets and off.secrets > 0


def demo(iothread: bool) -> int:
    screen = Screen()
    shutil.rmtree(WORK, ignore_errors=True)
    WORK.mkdir(parents=True)
    guest.build(say=print)
    print(versions())
    print("\nA qcow2 disk with memory-isolation=on:")
    try:
        on = one_run(harness.is_isolated(), iothread, "on")
        screen.step(f"booted in {on.steps['booted']:.1f} s, disk found")
        screen.step(f"ext4 made, {FILES} files of {mib(FILE_SIZE)} written, "
                    "mounted again, checksums right, powered off")
        check_image(WORK / "on.qcow2")
        screen.step("host: qemu-img check is content, files in the image "
                    "are right")
        off = one_run(False, iothread, "off")
        check_image(WORK / "off.qcow2")
    except (Failed, harness.HarnessError, subprocess.CalledProcessError,
            debian.PackageError) as err:
        screen.fail(f"{err} (logs: {os.path.relpath(WORK)}/)")
        return 1
    print("\nThe same with the property off, side by side:")
    good = compare(screen, off, on)
    print("\n" + (screen.paint("The backend did its work without guest memory.",
                               32) if good else
                  screen.paint("This is not what isolation promises.", 31)))
    return 0 if good else 1


def main() -> int:
    parser = argparse.ArgumentParser(
        prog="scripts/demo", description=(__doc__ or "").split("\n\n", 1)[1])
    parser.add_argument("--keep", action="store_true",
                        help="boot a VM on an isolated disk, leave it running")
    parser.add_argument("--iothread", action="store_true",
                        help="data path in an IOThread, not in the main loop")
    parser.add_argument("--attach", choices=("serial", "monitor"),
                        help="connect to a VM that --keep left running")
    args = parser.parse_args()
    try:
        if args.attach:
            return attach(WORK / f"keep.{args.attach}")
        if args.keep:
            return keep_running(WORK, args.iothread, make_vm, make_image)
        return demo(args.iothread)
    except KeyboardInterrupt:
        return 130


if __name__ == "__main__":
    sys.exit(main())
