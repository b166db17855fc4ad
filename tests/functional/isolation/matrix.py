# SPDX-License-Identifier: GPL-2.0-or-later
"""The matrix: which device was tried with which backend, and how.

A row of ROWS is a device, a backend that nobody here wrote (or a small honest
one), the ring formats and queue counts of that backend, and the workload that
a guest runs.  Each (row, ring, queues) is a cell.  test_devices.py makes two
tests of a cell, "on" (memory isolation, private guest RAM) and "off" (the
property off, guest RAM shared); `scripts/check devices` runs them and prints
the matrix; scripts/lib/devices.py writes it into the documentation.

To add a device: add a row here, write the workload, then run
`scripts/lib/devices.py --write-docs`.

A workload is a function `f(run, cell)` in a module of this folder.  @run is a
device_case.DeviceCase (an IsolationTest), so everything of harness.py is
there, and this:

    run.isolated               on or off
    run.make_cell_vm(cell)     a GuestVm with memory and vCPUs of the cell
    run.device_props(vm, cell) what to append to -device: isolation, its ring
                               and IOThread, packed= of the guest's side
    run.netdev_props(vm, cell) what to append to -netdev: the same without
                               packed=, which the net device has
    run.guest_ring(cell)       "split" or "packed", for that packed=
    run.run_cell(vm, cell, script, files=None, seconds=120, during=None)
                               boot the cell's kernel, run @script in the
                               guest, call during(vm) meanwhile, expect
                               "RESULT ok"; before the guest ends, each backend that run.start_program() or
                               run.start_backend() began is searched for a
                               secret of the guest, which it must not see (on)
                               or must (off)
    run.need(reason)           skip, if @reason is not ""

It must verify data on both sides: a workload that only sees a device appear
proves nothing.  It runs with the property on and off and does not ask which,
except about what stock QEMU cannot do.

Conditions that are not part of the matrix (the guest's kernel, its ring
format, vCPUs, IOThread) are spread over the cells by their place in the table:
any two of them meet in all combinations, and no cell runs twice for it.  A row
fixes one with Row(..., fixed={"kernel": "6.12"}).

This file imports nothing of the harness: documentation is written from it on
machines that have built nothing.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Any, Iterator

KERNELS = ("6.1", "6.12")
RINGS = ("split", "packed")


@dataclass(frozen=True)
class Row:
    """Device and backend; see the comment of the file."""

    device: str                  # as QEMU calls it, without "-pci"
    key: str                     # of the backend, a word for the test's name
    backend: str                 # the backend for people
    workload: str                # "module:function"
    does: str                    # what the workload does, for people
    rings: tuple[str, ...] = ("split",)
    queues: tuple[int, ...] = (1,)
    fixed: dict[str, Any] = field(default_factory=dict)
    options: dict[str, Any] = field(default_factory=dict)   # workload's own


@dataclass(frozen=True)
class Cell:
    """One thing to try."""

    row: Row
    ring: str                    # what the backend sees
    queues: int                  # data queues, or queue pairs
    kernel: str                  # the guest's, one of KERNELS
    guest_ring: str              # what the guest sees, if isolated
    cpus: int
    iothread: bool               # if isolated
    first: bool                  # of its kind of device

    @property
    def name(self) -> str:
        """As scripts/check has it."""
        return (f"{self.row.device}.{self.row.key}.{self.ring}."
                f"{self.queues}")

    @property
    def method(self) -> str:
        return "test_" + re.sub(r"\W", "_", self.name)


BLK = "discard, write-zeroes, flush; files on ext4; random I/O with checksums"
FS = ("trees of files from both sides, random operations on a file, renames, "
      "links, attributes, a large folder")
FRAMES = ("frames between two interfaces, plain and of 64 KiB with offloads, "
          "counted by both sides")
TCP = "a file over TCP, both ways, one by one and at once"
QSD = "qemu-storage-daemon"

ROWS = (
    Row("vhost-user-blk", "qsd-debian", f"{QSD} (Debian)",
        "blk_load:storage_daemon", BLK, queues=(1, 4),
        options={"daemon": "debian"}),
    Row("vhost-user-blk", "qsd-tree", f"{QSD} (this QEMU)",
        "blk_load:storage_daemon", BLK, queues=(1, 4),
        options={"daemon": "tree"}),
    Row("vhost-user-blk", "contrib", "contrib/vhost-user-blk",
        # Knows no VIRTIO_BLK_F_MQ.
        "blk_load:contrib", BLK),
    # Both have one request queue.
    Row("vhost-user-fs", "virtiofsd-c", "virtiofsd in C (Debian 12)",
        "fs_load:in_c", FS),
    Row("vhost-user-fs", "virtiofsd-rust", "virtiofsd in Rust (Debian 13)",
        "fs_load:in_rust", FS),
    Row("vhost-user-net", "testpmd", "dpdk-testpmd", "net_frames:testpmd",
        FRAMES, rings=RINGS, queues=(1, 2)),
    Row("vhost-user-net", "testpmd-unmergeable",
        "dpdk-testpmd, buffers not mergeable", "net_frames:testpmd", FRAMES,
        rings=RINGS, queues=(1, 2), options={"mergeable": False}),
    Row("vhost-user-net", "ovs", "Open vSwitch with DPDK",
        "net_ovs:switch", "frames between two ports of a switch, compared",
        queues=(1, 2)),
    # Both have one queue pair.  To Linux 6.12 passt sends three times as slowly,
    # with isolation and without, and may then end a connection too early.
    Row("vhost-user-net", "passt", "passt (Debian 13)", "net_tcp:passt", TCP,
        fixed={"kernel": "6.1"}),
    Row("vhost-user-net", "bridge", "tests/vhost-user-bridge",
        # Every frame of 1500 bytes is a datagram here.
        "net_tcp:bridge", TCP, options={"megabytes": 32}),
    Row("vhost-user-rng", "small", "tests/backends/small-rng",
        "small_load:rng", "entropy, each unit of it checked"),
    Row("vhost-user-vsock", "small", "tests/backends/small-vsock",
        "small_load:vsock", "files to an echo and back, two at once, "
        "compared on both sides"),
    Row("vhost-user-vsock", "vhost-device", "vhost-device-vsock (Debian sid)",
        "vsock_load:vhost_device", "the same, the echo behind a socket of the "
        "host"),
    Row("vhost-user-scsi", "small", "tests/backends/small-scsi",
        # Reports used.len 0, like contrib/vhost-user-scsi.
        "small_load:scsi", "random I/O with checksums; files on ext4",
        queues=(2,)),
    Row("vhost-user-scsi", "contrib", "contrib/vhost-user-scsi",
        "scsi_contrib:contrib", "the same, on an iSCSI target (tgt)"),
    Row("vhost-user-input", "small", "tests/backends/small-input",
        "small_load:inputs", "events read, lights switched, all checked on "
        "both sides"),
    Row("vhost-user-snd", "small", "tests/backends/small-snd",
        "small_load:sound", "a sound played and one recorded, compared",
        # Only Debian's general kernel of this version has the driver.
        fixed={"kernel": "6.12-full"}),
    Row("vhost-user-i2c", "small", "tests/backends/small-i2c",
        "small_load:i2c", "writes to EEPROMs and reads, in one transfer and "
        "in several, addresses where nobody answers, compared on both sides, "
        "the VM pausing now and then",
        fixed={"kernel": "6.1-drivers"}),
    Row("vhost-user-gpio", "small", "tests/backends/small-gpio",
        "small_load:gpio", "outputs wired to inputs: levels and each edge "
        "checked, changes compared on both sides, the VM pausing now and "
        "then; the driver loaded twice",
        # With one vCPU a line is unmasked when its event is read, so how many
        # events a wire that bounces has is certain.
        fixed={"kernel": "6.1-drivers", "cpus": 1, "iothread": True}),
    Row("cryptodev-vhost-user", "small", "tests/backends/small-crypto",
        "crypto_load:crypto", "AES of all key lengths: the kernel's own "
        "vectors, then data, compared with the kernel's software and on both "
        "sides; the backend killed and started again",
        # Debian's cloud kernels have no driver.
        fixed={"kernel": "6.12-full"}),
)

# What has no row, and why.
ABSENT = (
    ("vhost-user-scmi", "QEMU builds it for Arm only"),
    ("contrib/vhost-user-input",
     "it passes on an input device of the host, which a test machine need "
     "not have"),
)


def _spread(row: Row, ring: str, queues: int, number: int,
            of_kind: bool) -> Cell:
    """Conditions by the bits of @number: all pairs within eight cells."""
    first, second, third = number & 1, number >> 1 & 1, number >> 2 & 1
    conditions: dict[str, Any] = {
        "kernel": KERNELS[first ^ third],
        "guest_ring": RINGS[second],
        "iothread": bool(first ^ second),
        # A queue that has no vCPU is not used by Linux.
        "cpus": max(queues, 1 + third),
    }
    conditions.update(row.fixed)
    return Cell(row, ring, queues, **conditions, first=of_kind)


def cells() -> Iterator[Cell]:
    number = 0
    kinds: set[str] = set()
    for row in ROWS:
        for ring in row.rings:
            for queues in row.queues:
                yield _spread(row, ring, queues, number,
                              row.device not in kinds)
                kinds.add(row.device)
                number += 1
