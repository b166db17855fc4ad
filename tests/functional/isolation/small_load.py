# SPDX-License-Identifier: GPL-2.0-or-later
"""Workloads for small devices on backends of tests/backends: see matrix.py.

SMALL_DAMAGE=1 in the environment lets each backend break some of its data,
which is how these tests are seen failing.
"""

from __future__ import annotations

import fcntl
import hashlib
import re
import subprocess
import time
from pathlib import Path
from typing import Callable

from device_case import DeviceCase
from harness import (BUILD, QEMU_BUILD, QEMU_SOURCE, TOP, GuestVm, Program,
                     guest)
from matrix import Cell

OPS = [guest.OUT / name for name in ("small-ops", "bus-ops")]
INSIDE = {f"usr/bin/{program.name}": program for program in OPS}
BACKENDS = BUILD / "check" / "backends"
SOURCES = TOP / "tests/backends"
GUEST = TOP / "tests/guest"
HEADERS = [GUEST / "small-content.h", GUEST / "random.h", SOURCES / "small.h"]
LIBVHOST_USER = QEMU_SOURCE / "subprojects/libvhost-user"
LIBRARY = QEMU_BUILD / "subprojects/libvhost-user/libvhost-user.a"
WARNINGS = ["-Wall", "-Wextra", "-Werror"]
CID = 42
UNITS = 2000
ROUNDS = 50
BUS_ROUNDS = 1000
PAUSES = 20
MEGABYTES = 16
SOUND_BYTES = 600_000
SOUND_PLAY = 51

RNG = """
set -ex
modprobe virtio-rng
small-ops rng /dev/hwrng {units}
"""

# Files of one byte, of less than a packet, and two larger ones at once.
VSOCK = """
set -ex
modprobe vmw_vsock_virtio_transport
for size in 1 3000 1000000 1048576; do
    head -c $size /dev/urandom > /tmp/file.$size
    echo SENT $(sha256sum < /tmp/file.$size)
done
small-ops vsock /tmp/file.1 /tmp/copy.1
small-ops vsock /tmp/file.3000 /tmp/copy.3000
small-ops vsock /tmp/file.1000000 /tmp/copy.1000000 &
small-ops vsock /tmp/file.1048576 /tmp/copy.1048576
wait $!
for size in 1 3000 1000000 1048576; do
    cmp /tmp/file.$size /tmp/copy.$size
done
"""

SCSI = """
set -ex
{scan}
modprobe sd_mod
for try in $(seq 6000); do
    [ -e /sys/block/sda ] && break
    usleep 50000
done
cat /sys/block/sda/device/model | grep "{model}"
grep "write back" /sys/block/sda/queue/write_cache
load stress /dev/sda --seconds 1 --depth 16 --max-request 128K \\
    --segments 60 --generation 7
load verify /dev/sda --generation 7
/usr/sbin/mke2fs -q -t ext4 /dev/sda 2>/tmp/log || {{ cat /tmp/log; exit 1; }}
mount -t ext4 /dev/sda /mnt
file-ops /mnt/one --seed 5 --ops 100
sum=$(sha256sum < /mnt/one)
umount /mnt
echo 3 > /proc/sys/vm/drop_caches
mount -t ext4 -o ro /dev/sda /mnt
[ "$sum" = "$(sha256sum < /mnt/one)" ]
umount /mnt
echo 3 > /proc/sys/vm/drop_caches
echo DISK $(sha256sum < /dev/sda)
"""

INPUT = """
set -ex
modprobe virtio_input
modprobe evdev
for device in /sys/class/input/event*; do
    grep "small input" $device/device/name && break
done
small-ops input /dev/input/${{device##*/}} {rounds}
"""

SOUND = """
set -ex
modprobe virtio_snd
modprobe snd-pcm-oss
small-ops play /dev/dsp {bytes}
small-ops record /dev/dsp {bytes}
"""

I2C = """
set -ex
modprobe i2c-dev
modprobe i2c-virtio
bus=$(grep -l i2c_virtio /sys/class/i2c-dev/*/name)
bus=${{bus%/name}}
bus-ops i2c /dev/${{bus##*/}} {rounds} /tmp/noted
echo NOTED $(sha256sum < /tmp/noted)
"""

# The driver comes a second time: the event queue begins anew.  512 is what the
# kernel notes when it warns, as this driver does of a buffer that is not back.
GPIO = """
set -ex
modprobe gpio-virtio
bus-ops gpio /dev/gpiochip0 {rounds} /tmp/noted
rmmod gpio-virtio
modprobe gpio-virtio
bus-ops gpio /dev/gpiochip0 {rounds} /tmp/more
[ $(($(cat /proc/sys/kernel/tainted) & 512)) = 0 ]
cat /tmp/more >> /tmp/noted
echo NOTED $(sha256sum < /tmp/noted)
"""


def compile_program(target: Path, sources: list[Path], options: list[str],
                    libraries: list[Path]) -> None:
    """Make @target, if anything that it is made of is newer."""
    target.parent.mkdir(parents=True, exist_ok=True)
    lock = target.with_name(f".{target.name}.lock")
    with lock.open("w", encoding="ascii") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        parts = [*sources, *HEADERS, *libraries]
        newest = max(part.stat().st_mtime for part in parts)
        if target.exists() and target.stat().st_mtime > newest:
            return
        new = target.with_name(f".{target.name}.new")
        subprocess.run(
            ["gcc", "-std=gnu11", "-O2", "-pthread", "-o", str(new),
             *map(str, sources), *map(str, libraries), *options], check=True)
        new.rename(target)


def build_ops() -> None:
    """The guest's programs."""
    for program in OPS:
        compile_program(program, [GUEST / f"{program.name}.c"],
                        [*WARNINGS, "-static"], [])


def compile_backend(kind: str) -> Path:
    """The backend tests/backends/small-@kind.c."""
    program = BACKENDS / f"small-{kind}"
    compile_program(
        program, [SOURCES / f"small-{kind}.c", SOURCES / "small.c"],
        [*WARNINGS, "-D_GNU_SOURCE", "-I", str(LIBVHOST_USER),
         "-I", str(GUEST)],
        [LIBRARY])
    return program


def _start(run: DeviceCase, kind: str, *options: str) -> Program:
    build_ops()
    return run.start_program([str(compile_backend(kind)), "{socket}",
                              *options])


def _run_vm(run: DeviceCase, cell: Cell, backend: Program, script: str,
            props: str = "", args: list[str] | None = None,
            during: Callable[[GuestVm], None] | None = None) -> str:
    """What the guest said."""
    vm = run.make_cell_vm(cell)
    vm.add_args(*(args or []))
    vm.add_args("-chardev", f"socket,id=char0,path={backend.socket}",
                "-device", f"{cell.row.device}-pci,id=dev0,chardev=char0" +
                props + run.device_props(vm, cell))
    run.run_cell(vm, cell, script, INSIDE, during=during)
    return vm.serial_text()


def _run(run: DeviceCase, cell: Cell, backend: Program, script: str,
         during: Callable[[GuestVm], None] | None = None) -> str:
    """The same, once the backend is content, too."""
    said = _run_vm(run, cell, backend, script, during=during)
    run.assertTrue(backend.is_running(), backend.log.read_text()[-1000:])
    return said


def rng(run: DeviceCase, cell: Cell) -> None:
    said = _run(run, cell, _start(run, "rng"), RNG.format(units=UNITS))
    last = re.search(r"^RNG last (\d+)", said, re.MULTILINE)
    assert last, "the guest did not say what it read"
    run.assertGreaterEqual(int(last.group(1)), UNITS - 1)


def _hash(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def vsock(run: DeviceCase, cell: Cell) -> None:
    record = run.work / "received"
    backend = _start(run, "vsock", str(CID), str(record))
    said = _run(run, cell, backend, VSOCK)
    sent = re.findall(r"^SENT (\w+)", said, re.MULTILINE)
    received = [_hash(p) for p in run.work.glob("received.*")]
    run.assertEqual(len(sent), 4)
    run.assertEqual(sorted(sent), sorted(received))


def check_disk(run: DeviceCase, cell: Cell, backend: Program, image: Path,
               model: str, scan: str, args: list[str] | None = None) -> None:
    """Use the disk in the guest, then compare it with @image.

    @scan: commands that make /dev/sda appear
    @args: further words for QEMU
    """
    build_ops()
    said = _run_vm(run, cell, backend, SCSI.format(model=model, scan=scan),
                   f",num_queues={cell.queues}", args)
    disk = re.search(r"^DISK (\w+)", said, re.MULTILINE)
    assert disk, "the guest did not say what its disk holds"
    run.assertEqual(disk.group(1), _hash(image), "disk and image differ")


def scsi(run: DeviceCase, cell: Cell) -> None:
    image = run.make_disk(f"{MEGABYTES}M")
    backend = _start(run, "scsi", str(image))
    check_disk(run, cell, backend, image, "small disk", "modprobe virtio_scsi")
    run.assertTrue(backend.is_running(), backend.log.read_text()[-1000:])
    for queue in range(cell.queues):
        run.assertIn(f"queue {queue} is used", backend.log.read_text())


def inputs(run: DeviceCase, cell: Cell) -> None:
    said = _run(run, cell, _start(run, "input"), INPUT.format(rounds=ROUNDS))
    run.assertRegex(said, r"(?m)^INPUT checked")


def _pause(vm: GuestVm) -> None:
    """Stop and continue: the queues stop, what the backend has stays there."""
    vm.wait_serial("^BUS begins")
    for _ in range(PAUSES):
        if "RESULT" in vm.serial_text():
            # It has failed and powers off.
            return
        vm.cmd("stop")
        vm.cmd("cont")
        # So that the guest comes to something in between.
        time.sleep(0.02)


def _bus(run: DeviceCase, cell: Cell, kind: str, script: str) -> None:
    """The guest's notes and the backend's are the same."""
    notes = run.work / "notes"
    backend = _start(run, kind, str(notes))
    said = _run(run, cell, backend, script.format(rounds=BUS_ROUNDS), _pause)
    noted = re.search(r"^NOTED (\w+)", said, re.MULTILINE)
    assert noted, "the guest did not say what it noted"
    run.assertGreater(notes.stat().st_size, BUS_ROUNDS)
    run.assertEqual(noted.group(1), _hash(notes), "the notes differ")


def i2c(run: DeviceCase, cell: Cell) -> None:
    _bus(run, cell, "i2c", I2C)


def gpio(run: DeviceCase, cell: Cell) -> None:
    _bus(run, cell, "gpio", GPIO)


def _scramble(value: int) -> int:
    """As tests/guest/random.h has it."""
    mask = (1 << 64) - 1
    value = value + 0x9e3779b97f4a7c15 & mask
    value = (value ^ value >> 30) * 0xbf58476d1ce4e5b9 & mask
    value = (value ^ value >> 27) * 0x94d049bb133111eb & mask
    return value ^ value >> 31


def _sound(seed: int, size: int) -> bytes:
    """As tests/guest/small-content.h has it."""
    words = b"".join(_scramble(i + (seed << 40)).to_bytes(8, "little")
                     for i in range(-(-size // 8)))
    return bytes(byte | 1 for byte in words[:size])


def sound(run: DeviceCase, cell: Cell) -> None:
    played = run.work / "played"
    backend = _start(run, "snd", str(played))
    said = _run(run, cell, backend, SOUND.format(bytes=SOUND_BYTES))
    size = re.search(r"^SOUND played (\d+)", said, re.MULTILINE)
    assert size, "the guest did not say what it played"
    run.assertTrue(played.read_bytes() ==
                   _sound(SOUND_PLAY, int(size.group(1))),
                   "what was played is not what was heard")
