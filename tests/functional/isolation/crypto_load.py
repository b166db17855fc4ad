# SPDX-License-Identifier: GPL-2.0-or-later
"""A crypto device on tests/backends/small-crypto: see matrix.py."""

from __future__ import annotations

import hashlib
import re
from pathlib import Path

import small_load
from device_case import DeviceCase
from harness import GuestVm, Program, guest
from matrix import Cell

OPS = guest.OUT / "crypto-ops"
BACKEND = small_load.BACKENDS / "small-crypto"
DRIVER = "virtio_crypto_aes_cbc"
ROUNDS = 150

# The kernel has tried the driver with its own vectors before it says so.  The
# driver goes and comes with the backend.
SCRIPT = f"""
set -ex
wait_passed()
{{
    for try in $(seq 2000); do
        grep -A 4 "driver *: {DRIVER}" /proc/crypto | grep passed && return
        usleep 50000
    done
    return 1
}}
modprobe algif_skcipher
modprobe virtio_crypto
wait_passed
crypto-ops {DRIVER} {ROUNDS} /tmp/results
echo FIRST $(wc -c < /tmp/results) $(sha256sum < /tmp/results)
for try in $(seq 2000); do
    grep "driver *: {DRIVER}" /proc/crypto || break
    usleep 50000
done
echo AWAY
wait_passed
crypto-ops {DRIVER} {ROUNDS} /tmp/results
echo SECOND $(wc -c < /tmp/results) $(sha256sum < /tmp/results)
"""


def _start(run: DeviceCase, notes: Path) -> Program:
    small_load.compile_program(OPS, [small_load.GUEST / "crypto-ops.c"],
                               [*small_load.WARNINGS, "-static"], [])
    sources = [small_load.SOURCES / name
               for name in ("small-crypto.c", "small.c")]
    small_load.compile_program(
        BACKEND, sources,
        [*small_load.WARNINGS, "-D_GNU_SOURCE",
         "-I", str(small_load.LIBVHOST_USER), "-lnettle"],
        [small_load.LIBRARY])
    return run.start_program([str(BACKEND), "{socket}", str(notes)])


def _device(run: DeviceCase, cell: Cell) -> str:
    props = ",packed=" + ("on" if run.guest_ring(cell) == "packed" else "off")
    if not run.isolated:
        # QEMU does not tell a crypto backend what the driver accepted, and
        # one that sets no event is not kicked again.
        props += ",event_idx=off"
    return "virtio-crypto-pci,id=dev0,cryptodev=crypto0" + props


def _compare(run: DeviceCase, vm: GuestVm, word: str, notes: bytes) -> None:
    """What the guest got is what the backend computed, in its order."""
    said = re.search(rf"^{word} (\d+) (\w+)", vm.serial_text(), re.MULTILINE)
    assert said, "the guest did not say what it got"
    size = int(said.group(1))
    run.assertGreater(size, ROUNDS * 32)
    # Before that are the kernel's own vectors.
    computed = hashlib.sha256(notes[-size:]).hexdigest()
    run.assertEqual(said.group(2), computed, "the results differ")


def crypto(run: DeviceCase, cell: Cell) -> None:
    notes = run.work / "notes"
    backend = _start(run, notes)

    def replace(vm: GuestVm) -> None:
        vm.wait_serial("^(FIRST|RESULT) ")
        _compare(run, vm, "FIRST", notes.read_bytes())
        backend.kill()
        vm.wait_serial("^(AWAY|RESULT)")
        backend.start()

    vm = run.make_cell_vm(cell)
    vm.add_args("-chardev", f"socket,id=char0,path={backend.socket},"
                "reconnect-ms=100",
                "-object", "cryptodev-vhost-user,id=crypto0,chardev=char0" +
                run.netdev_props(vm, cell), "-device", _device(run, cell))
    run.run_cell(vm, cell, SCRIPT, {"usr/bin/crypto-ops": OPS},
                 during=replace)
    run.assertTrue(backend.is_running(), backend.log.read_text()[-1000:])
    _compare(run, vm, "SECOND", notes.read_bytes())
