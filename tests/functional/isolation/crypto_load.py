# SPDX-License-Identifier: GPL-2.0-or-later
"""A crypto device on tests/backends/small-crypto: see matrix.py."""

from __future__ import annotations

import hashlib
import re

import small_load
from device_case import DeviceCase
from harness import guest
from matrix import Cell

OPS = guest.OUT / "crypto-ops"
BACKEND = small_load.BACKENDS / "small-crypto"
DRIVER = "virtio_crypto_aes_cbc"
ROUNDS = 300

# The kernel has tried the driver with its own vectors before it says so.
SCRIPT = f"""
set -ex
modprobe algif_skcipher
modprobe virtio_crypto
for try in $(seq 100); do
    grep -A 4 "driver *: {DRIVER}" /proc/crypto | grep passed && break
    usleep 50000
done
grep -A 4 "driver *: {DRIVER}" /proc/crypto | grep passed
crypto-ops {DRIVER} {ROUNDS} /tmp/results
echo RESULTS $(wc -c < /tmp/results) $(sha256sum < /tmp/results)
"""


def crypto(run: DeviceCase, cell: Cell) -> None:
    """What the guest got is what the backend computed, in its order."""
    notes = run.work / "notes"
    small_load.compile_program(OPS, [small_load.GUEST / "crypto-ops.c"],
                               [*small_load.WARNINGS, "-static"], [])
    sources = [small_load.SOURCES / name
               for name in ("small-crypto.c", "small.c")]
    small_load.compile_program(
        BACKEND, sources,
        [*small_load.WARNINGS, "-D_GNU_SOURCE",
         "-I", str(small_load.LIBVHOST_USER), "-lnettle"],
        [small_load.LIBRARY])
    backend = run.start_program([str(BACKEND), "{socket}", str(notes)])
    vm = run.make_cell_vm(cell)
    props = f"packed={'on' if run.guest_ring(cell) == 'packed' else 'off'}"
    if not run.isolated:
        # QEMU does not tell a crypto backend what the driver accepted, and
        # one that sets no event is not kicked again.
        props += ",event_idx=off"
    vm.add_args("-chardev", f"socket,id=char0,path={backend.socket}",
                "-object", "cryptodev-vhost-user,id=crypto0,chardev=char0" +
                run.netdev_props(vm, cell),
                "-device", "virtio-crypto-pci,id=dev0,cryptodev=crypto0," +
                props)
    run.run_cell(vm, cell, SCRIPT, {"usr/bin/crypto-ops": OPS})
    run.assertTrue(backend.is_running(), backend.log.read_text()[-1000:])
    said = re.search(r"^RESULTS (\d+) (\w+)", vm.serial_text(), re.MULTILINE)
    assert said, "the guest did not say what it got"
    size = int(said.group(1))
    run.assertGreater(size, ROUNDS * 32)
    # Before that are the kernel's own vectors.
    computed = hashlib.sha256(notes.read_bytes()[-size:]).hexdigest()
    run.assertEqual(said.group(2), computed, "the results differ")
